// Decodes a Grafana dashboard from standard input with the types of Grafana's own SDK. An unknown field, a missing
// field or a wrong type is an error. Prints each query of the panels and variables on a line of its own, as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// A query of a panel.
type query struct {
	Panel  string `json:"panel"`
	Type   string `json:"type"`
	Unit   string `json:"unit"`
	Legend string `json:"legend"`
	Expr   string `json:"expr"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	plugins.RegisterDefaultPlugins()
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var decoded dashboard.Dashboard
	if err := decoded.UnmarshalJSONStrict(text); err != nil {
		return fmt.Errorf("the dashboard is not valid: %w", err)
	}
	if err := decoded.Validate(); err != nil {
		return fmt.Errorf("the dashboard breaks a rule: %w", err)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, entry := range decoded.Panels {
		panel := entry.Panel
		if panel == nil || panel.Type == "row" {
			continue
		}
		if len(panel.Targets) == 0 {
			return fmt.Errorf("the panel %q has no query", *panel.Title)
		}
		for _, target := range panel.Targets {
			asked, ok := target.(*prometheus.Dataquery)
			if !ok {
				value, isValue := target.(prometheus.Dataquery)
				if !isValue {
					return fmt.Errorf("the panel %q has a query of type %T, not of Prometheus", *panel.Title, target)
				}
				asked = &value
			}
			found := query{Panel: *panel.Title, Type: panel.Type, Expr: asked.Expr}
			if asked.LegendFormat != nil {
				found.Legend = *asked.LegendFormat
			}
			if panel.FieldConfig != nil && panel.FieldConfig.Defaults.Unit != nil {
				found.Unit = *panel.FieldConfig.Defaults.Unit
			}
			if err := out.Encode(found); err != nil {
				return err
			}
		}
	}
	return nil
}
