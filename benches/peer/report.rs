//! The figures of all rounds, as a table for people and as JSON.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::entries::Operator;
use super::round::Round;

/// The resource of events in the kinds of writes, such as `create events`.
const EVENTS: &str = " events";

/// All figures.
pub struct Report {
    /// The number of objects of each round.
    pub count: usize,
    /// The version of provider-sql.
    pub version: String,
    pub rounds: Vec<Round>,
}

impl Report {
    #[allow(clippy::cast_precision_loss, reason = "the figures are for people")]
    fn for_each(&self, number: f64) -> f64 {
        number / self.count as f64
    }

    /// The writes of all kinds for each object: objects and events.
    #[allow(clippy::cast_precision_loss, reason = "the figures are for people")]
    fn writes(&self, round: &Round) -> [f64; 2] {
        let of = |events: bool| {
            let counted = round.writes.iter().filter(|(kind, _)| kind.ends_with(EVENTS) == events);
            self.for_each(counted.map(|(_, count)| *count).sum::<usize>() as f64)
        };
        [of(false), of(true)]
    }

    /// How many times as much of something provider-sql needs as the controller: with the defaults of both, and with the
    /// settings that make each fastest.
    fn ratios(&self, figure: impl Fn(&Round) -> f64) -> [f64; 2] {
        [false, true].map(|is_tuned| {
            let [ours, theirs] = [Operator::Opsadmin, Operator::ProviderSql].map(|operator| {
                let is_it = |round: &&Round| round.entry.operator == operator && round.entry.is_tuned == is_tuned;
                figure(self.rounds.iter().find(is_it).expect("each has a round"))
            });
            theirs / ours
        })
    }

    fn times_as_fast(&self) -> [f64; 2] {
        self.ratios(|round| round.ready.as_secs_f64())
    }

    /// The processor time of the operator and of all servers for each object, in milliseconds.
    fn all_processor(&self, round: &Round) -> f64 {
        self.for_each(millis(round.processor_time.values().sum()))
    }

    /// The processor time of a program for each object, in milliseconds.
    fn processor(&self, round: &Round, program: &str) -> f64 {
        self.for_each(millis(round.processor_time.get(program).copied().unwrap_or_default()))
    }

    /// All figures on one line.
    pub fn json(&self) -> Value {
        let [defaults, tuned] = self.times_as_fast();
        json!({
            "objects": self.count,
            "providerSql": self.version,
            "timesAsFast": {"defaults": defaults, "tuned": tuned},
            "rounds": self.rounds.iter().map(|round| json!({
                "operator": round.entry.operator.name(),
                "settings": round.entry.settings,
                "readySeconds": round.ready.as_secs_f64(),
                "benchmarkProcessorSeconds": round.machine.own.as_secs_f64(),
                "shareOfOtherPrograms": round.machine.others,
                "writes": round.writes,
                "statements": round.statements,
                "processorSeconds": round.processor_time.iter()
                    .map(|(name, time)| (name.clone(), Value::from(time.as_secs_f64())))
                    .collect::<Value>(),
                "residentKib": {"oneObject": round.before.resident, "allObjects": round.after.resident},
                "peakKib": round.after.peak,
                "deletedSeconds": round.deleted.as_secs_f64(),
            })).collect::<Vec<_>>(),
        })
    }

    /// A line of the table.
    fn line(&self, f: &mut fmt::Formatter<'_>, title: &str, cell: impl Fn(&Round) -> String) -> fmt::Result {
        let cells = self.rounds.iter().map(cell).collect::<Vec<_>>();
        writeln!(f, "| {title} | {} |", cells.join(" | "))
    }
}

impl fmt::Display for Report {
    #[allow(clippy::cast_precision_loss, reason = "the figures are for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, version, .. } = self;
        self.line(f, &format!("{count} objects"), |round| match round.entry.operator {
            Operator::Opsadmin => round.entry.operator.name().to_owned(),
            Operator::ProviderSql => format!("{} {version}", round.entry.operator.name()),
        })?;
        writeln!(f, "|---|{}", "---|".repeat(self.rounds.len()))?;
        self.line(f, "settings", |round| round.entry.settings.to_owned())?;
        self.line(f, "from the first creation until all are Ready", |round| {
            let ready = round.ready.as_secs_f64();
            format!("{ready:.1} s, {:.0} a second", *count as f64 / ready)
        })?;
        self.line(f, "the processors' share for other programs in this time", |round| {
            format!("{:.0} %", round.machine.others * 100.0)
        })?;
        self.line(f, "API writes and events for each", |round| {
            let [objects, events] = self.writes(round);
            format!("{objects:.2} and {events:.2}")
        })?;
        self.line(f, "these are, for each", |round| {
            let kinds = round.writes.iter().map(|(kind, count)| format!("{kind} {:.2}", self.for_each(*count as f64)));
            kinds.collect::<Vec<_>>().join(", ")
        })?;
        self.line(f, "statements for each", |round| format!("{:.1}", self.for_each(round.statements as f64)))?;
        self.line(f, "CPU of the operator for each", |round| {
            format!("{:.1} ms", self.processor(round, round.entry.operator.process()))
        })?;
        self.line(f, "CPU of API server, etcd and PostgreSQL for each", |round| {
            let times = ["kube-apiserver", "etcd", "postgres"].map(|name| self.processor(round, name));
            format!("{:.1}, {:.1} and {:.1} ms", times[0], times[1], times[2])
        })?;
        self.line(f, "CPU of all programs for each", |round| format!("{:.1} ms", self.all_processor(round)))?;
        self.line(f, "CPU of the benchmark for each, until all are Ready", |round| {
            format!("{:.1} ms", self.for_each(millis(round.machine.own)))
        })?;
        self.line(f, "memory of the operator with one object, and its peak", |round| {
            format!("{} and {} MiB", mib(round.before.resident), mib(round.after.peak))
        })?;
        self.line(f, "from the first deletion until all are gone", |round| {
            format!("{:.1} s", round.deleted.as_secs_f64())
        })?;
        writeln!(f)?;
        let [defaults, tuned] = self.times_as_fast();
        writeln!(f, "opsadmin is {defaults:.1} times as fast with the defaults, and {tuned:.1} with these settings.")?;
        let [defaults, tuned] = self.ratios(|round| self.all_processor(round));
        writeln!(f, "provider-sql and its servers use {defaults:.1} and {tuned:.1} times as much processor time.")
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn mib(kib: u64) -> u64 {
    kib.div_ceil(1024)
}
