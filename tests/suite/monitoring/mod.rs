//! The alerts and the dashboard of the chart, checked by Prometheus' and Grafana's own programs.

mod alerts;
mod dashboard;
