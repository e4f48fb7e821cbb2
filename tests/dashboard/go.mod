// The types of Grafana's own SDK, which the dashboard of the chart is decoded with.
module opsadmin-operator/tests/dashboard

go 1.26.3

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
