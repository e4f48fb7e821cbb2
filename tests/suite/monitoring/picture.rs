//! Draws the dashboard as SVG from the answers of Prometheus: the panels at their places, in the colours of Grafana.

use std::fmt::Write as _;

use serde_json::Value;

use super::dashboard::title;

const WIDTH: f64 = 1000.0;
const HEAD: f64 = 56.0;
const MARGIN: f64 = 16.0;
const GAP: f64 = 8.0;
/// The width and the height of one unit of a panel's place, with the gap to the next panel.
const COLUMN: f64 = (WIDTH - 2.0 * MARGIN + GAP) / 24.0;
const ROW: f64 = 26.0;

const TEXT: &str = "#ccccdc";
const DIM: &str = "#9a9aab";
const GRID: &str = "#2c2f36";
/// Grafana's colours for series, in its order.
const PALETTE: [&str; 8] = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#37872d"];

/// Times and values.
type Points = Vec<(f64, f64)>;

/// A panel with its answers.
pub struct Panel {
    /// The panel as the dashboard defines it.
    pub definition: Value,
    /// Each series with its name.
    pub series: Vec<(String, Points)>,
}

/// What is drawn.
pub struct Drawing {
    pub panels: Vec<Panel>,
    /// The range of time, in seconds since 1970.
    pub span: (f64, f64),
    /// The time between two points in seconds. A longer time is a gap.
    pub step: f64,
}

/// A rectangle in pixels.
#[derive(Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Drawing {
    /// Returns the picture.
    pub fn svg(&self) -> String {
        let bottom = self.panels.iter().map(|panel| place(panel).y + place(panel).height);
        let height = bottom.fold(0.0, f64::max) + MARGIN;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"Inter, 'Helvetica \
             Neue', Arial, sans-serif\">\n<rect width=\"{WIDTH}\" height=\"{height}\" rx=\"6\" fill=\"#111217\"/>\n"
        );
        svg += &text(MARGIN, 35.0, 18.0, TEXT, "font-weight=\"600\"", "OpsAdmin operator");
        let length = format!("Namespace: All    Last {}", amount(self.span.1 - self.span.0, "s"));
        svg += &text(WIDTH - MARGIN, 35.0, 12.0, DIM, "text-anchor=\"end\"", &length);
        for panel in &self.panels {
            match panel.definition["type"].as_str().expect("each panel has a type") {
                "row" => {
                    let place = place(panel);
                    svg += &text(place.x, place.y + 15.0, 13.0, TEXT, "font-weight=\"600\"", title(&panel.definition));
                }
                "stat" => svg += &self.stat(panel),
                "timeseries" => svg += &self.chart(panel),
                other => panic!("no picture of a panel of type {other}"),
            }
        }
        svg + "</svg>\n"
    }

    /// Draws the last value, and a small line of all values below it.
    fn stat(&self, panel: &Panel) -> String {
        let (place, mut svg) = frame(panel);
        let points = &panel.series[0].1;
        let last = points.last().expect("it has a value").1;
        let (said, colour) = shown(panel, last);
        let line = Place { y: place.y + place.height * 0.68, height: place.height * 0.3, ..place };
        let highest = points.iter().map(|point| point.1).fold(0.0, f64::max);
        svg += &self.line(points, line, if highest > 0.0 { highest } else { 1.0 }, colour, 0.18);
        let middle = place.x + place.width / 2.0;
        svg + &text(middle, place.y + 52.0, 26.0, colour, "text-anchor=\"middle\" font-weight=\"600\"", &said)
    }

    /// Draws lines with axes and a legend.
    fn chart(&self, panel: &Panel) -> String {
        let (place, mut svg) = frame(panel);
        let unit = unit(panel);
        let (legend, legend_height) = legend(panel, place);
        let plot = Place {
            x: place.x + 46.0,
            y: place.y + 34.0,
            width: place.width - 60.0,
            height: place.height - 34.0 - 24.0 - legend_height,
        };
        let values = panel.series.iter().flat_map(|(_, points)| points.iter().map(|point| point.1));
        let highest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = nice(highest / 3.0);
        let top = (highest / step).ceil() * step;
        let mut value = 0.0;
        while value <= top + step / 2.0 {
            let y = plot.y + plot.height * (1.0 - value / top);
            writeln!(svg, "<path d=\"M{:.1} {y:.1}h{:.1}\" stroke=\"{GRID}\"/>", plot.x, plot.width).expect("text");
            svg += &text(plot.x - 6.0, y + 3.5, 10.0, DIM, "text-anchor=\"end\"", &amount(value, unit));
            value += step;
        }
        let length = self.span.1 - self.span.0;
        let ticks = [5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0];
        let tick = ticks.into_iter().find(|tick| length / tick * 52.0 <= plot.width).unwrap_or(600.0);
        let mut time = 0.0;
        while time <= length {
            let x = plot.x + plot.width * time / length;
            let label = format!("{}:{:02}", (time / 60.0).floor(), time % 60.0);
            svg += &text(x, plot.y + plot.height + 15.0, 10.0, DIM, "text-anchor=\"middle\"", &label);
            time += tick;
        }
        for (number, (_, points)) in panel.series.iter().enumerate() {
            svg += &self.line(points, plot, top, PALETTE[number % PALETTE.len()], 0.1);
        }
        svg + &legend
    }

    /// Draws a line through the points, with a gap where points are missing, and fills the area below it.
    fn line(&self, points: &[(f64, f64)], plot: Place, top: f64, colour: &str, fill: f64) -> String {
        let x = |time: f64| plot.x + plot.width * (time - self.span.0) / (self.span.1 - self.span.0);
        let y = |value: f64| plot.y + plot.height * (1.0 - value.max(0.0) / top);
        let finite: Vec<(f64, f64)> = points.iter().copied().filter(|point| point.1.is_finite()).collect();
        let (mut path, mut area) = (String::new(), String::new());
        for part in finite.chunk_by(|one, next| next.0 - one.0 < self.step * 1.5) {
            let corners: Vec<String> =
                without_flat(part).map(|point| format!("{:.1} {:.1}", x(point.0), y(point.1))).collect();
            // A single point is a short line.
            let end = if corners.len() == 1 { "h1" } else { "" };
            write!(path, "M{}{end}", corners.join("L")).expect("text");
            let (first, last) = (part.first().expect("not empty").0, part.last().expect("not empty").0);
            write!(area, "M{:.1} {:.1}L{}L{:.1} {:.1}Z", x(first), y(0.0), corners.join("L"), x(last), y(0.0))
                .expect("text");
        }
        format!(
            "<path d=\"{area}\" fill=\"{colour}\" opacity=\"{fill}\"/>\n\
             <path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" stroke-linejoin=\"round\"/>\n"
        )
    }
}

/// Leaves out the points between two others of the same value.
fn without_flat(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    let value = |at: Option<usize>| at.and_then(|at| points.get(at)).map(|point| point.1.to_bits());
    let is_corner = move |at: &usize| {
        let here = value(Some(*at));
        value(at.checked_sub(1)) != here || value(Some(at + 1)) != here
    };
    (0..points.len()).filter(is_corner).map(|at| points[at])
}

fn place(panel: &Panel) -> Place {
    let grid = |field: &str| panel.definition["gridPos"][field].as_f64().expect("each panel has a place");
    Place {
        x: MARGIN + grid("x") * COLUMN,
        y: HEAD + grid("y") * ROW,
        width: grid("w") * COLUMN - GAP,
        height: grid("h") * ROW - GAP,
    }
}

/// Returns the place of a panel, and its background with its title.
fn frame(panel: &Panel) -> (Place, String) {
    let at @ Place { x, y, width, height } = place(panel);
    let rect = format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"3\" fill=\"#181b1f\" \
         stroke=\"#25282e\"/>\n"
    );
    (at, rect + &text(x + 10.0, y + 20.0, 12.0, TEXT, "font-weight=\"500\"", title(&panel.definition)))
}

fn unit(panel: &Panel) -> &str {
    panel.definition["fieldConfig"]["defaults"]["unit"].as_str().expect("each panel has a unit")
}

/// Returns the legend at the bottom of a panel, and its height.
fn legend(panel: &Panel, place: Place) -> (String, f64) {
    let (left, right) = (place.x + 12.0, place.x + place.width - 8.0);
    let (mut x, mut line) = (left, 0.0);
    let mut entries = Vec::new();
    for (number, (name, _)) in panel.series.iter().enumerate() {
        let width = 26.0 + 6.2 * f64::from(u32::try_from(name.chars().count()).expect("names are short"));
        if x + width > right && x > left {
            (x, line) = (left, line + 1.0);
        }
        entries.push((x, line, name, PALETTE[number % PALETTE.len()]));
        x += width;
    }
    let height = (line + 1.0) * 15.0;
    let draw = |svg: String, (x, line, name, colour): (f64, f64, &String, &str)| {
        let y = place.y + place.height - 8.0 - height + (line + 1.0) * 15.0;
        let mark = format!("<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"3\" fill=\"{colour}\"/>\n", y - 5.0);
        svg + &mark + &text(x + 16.0, y, 10.5, TEXT, "", name)
    };
    (entries.into_iter().fold(String::new(), draw), height)
}

/// Returns the text and the colour of a value, as the mappings and thresholds of the panel have them.
fn shown(panel: &Panel, value: f64) -> (String, &'static str) {
    let defaults = &panel.definition["fieldConfig"]["defaults"];
    let mapped = &defaults["mappings"][0]["options"][&format!("{value}")];
    let steps = defaults["thresholds"]["steps"].as_array().expect("a list");
    let step = steps.iter().rfind(|step| step["value"].as_f64().is_none_or(|least| value >= least));
    let colour = mapped["color"].as_str().or_else(|| step?["color"].as_str()).expect("a value has a colour");
    let colour = match colour {
        "green" => "#73bf69",
        "red" => "#f2495c",
        "orange" => "#ff9830",
        "blue" => "#5794f2",
        other => panic!("no shade of {other}"),
    };
    (mapped["text"].as_str().map_or_else(|| amount(value, unit(panel)), ToOwned::to_owned), colour)
}

/// Returns a number with its unit. Units are those of Grafana.
fn amount(value: f64, unit: &str) -> String {
    let (value, unit) = match unit {
        "s" if value == 0.0 => (0.0, " s"),
        "s" if value.abs() < 1.0 => (value * 1000.0, " ms"),
        "s" if value.abs() < 60.0 => (value, " s"),
        "s" if value.abs() < 3600.0 => (value / 60.0, " min"),
        "s" if value.abs() < 86400.0 => (value / 3600.0, " h"),
        "s" => (value / 86400.0, " d"),
        "ops" | "reqps" => (value, "/s"),
        "short" => (value, ""),
        other => panic!("no text for the unit {other}"),
    };
    let digits = if value.abs() >= 10.0 {
        0
    } else if value.abs() >= 1.0 {
        1
    } else {
        2
    };
    let number = format!("{value:.digits$}");
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{unit}")
}

/// Returns the next number of the form 1, 2, 2.5 or 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 2.5, 5.0].into_iter().map(|factor| factor * power).find(|nice| *nice >= step).unwrap_or(10.0 * power)
}

fn text(x: f64, y: f64, size: f64, colour: &str, more: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" xml:space=\"preserve\" {more}>{text}</text>\n"
    )
}
