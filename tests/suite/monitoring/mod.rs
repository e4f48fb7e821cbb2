//! The alerts of the chart, checked by Prometheus' own program.

mod alerts;
