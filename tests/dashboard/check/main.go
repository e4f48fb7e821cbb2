// Decodes a Grafana dashboard from standard input with the types of Grafana's own SDK. An unknown field, a missing
// field or a wrong type is an error. Prints each query of the panels on a line of its own, as JSON.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
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

// Returns whether the SDK found a problem. It returns an empty list of problems as an error that is not nil.
func isProblem(err error) bool {
	var problems cog.BuildErrors
	if errors.As(err, &problems) {
		return len(problems) > 0
	}
	return err != nil
}

func run() error {
	plugins.RegisterDefaultPlugins()
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var decoded dashboard.Dashboard
	if err := decoded.UnmarshalJSONStrict(text); isProblem(err) {
		return fmt.Errorf("the dashboard is not valid: %w", err)
	}
	// The strict decoder checks the panels and does not keep them, because its empty lists of problems count as errors.
	decoded = dashboard.Dashboard{}
	if err := json.Unmarshal(text, &decoded); err != nil {
		return fmt.Errorf("the dashboard is not valid: %w", err)
	}
	if err := decoded.Validate(); isProblem(err) {
		return fmt.Errorf("the dashboard breaks a rule: %w", err)
	}
	if len(decoded.Panels) == 0 {
		return errors.New("the dashboard has no panels")
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, entry := range decoded.Panels {
		panel := entry.Panel
		if panel == nil && entry.RowPanel == nil {
			return errors.New("the dashboard has a panel without a type")
		}
		if panel == nil {
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
