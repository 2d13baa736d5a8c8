// Decodes a dashboard into Grafana's own types, which are generated from Grafana's schema, and
// prints the path of each field that does not fit them. The check is strict: a misspelt or missing
// field is an error here, while Grafana ignores it without a message.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run . DASHBOARD.json")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "%s does not fit Grafana's types:\n%v\n", os.Args[1], err)
		os.Exit(1)
	}
	fmt.Println("fits Grafana's types")
}

func check(file string) error {
	panels := []variants.PanelcfgConfig{
		bargauge.VariantConfig(), heatmap.VariantConfig(), stat.VariantConfig(), table.VariantConfig(), timeseries.VariantConfig(),
	}
	for _, panel := range panels {
		cog.NewRuntime().RegisterPanelcfgVariant(panel)
	}
	cog.NewRuntime().RegisterDataqueryVariant(prometheus.VariantConfig())

	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var whole dashboard.Dashboard
	if err := present(whole.UnmarshalJSONStrict(text)); err != nil {
		return err
	}
	// The dashboard's strict decoder checks the panels but drops them, so the program decodes each
	// panel again.
	var parts struct {
		Panels []json.RawMessage `json:"panels"`
	}
	if err := json.Unmarshal(text, &parts); err != nil {
		return err
	}
	faults := []error{whole.Validate()}
	for index, raw := range parts.Panels {
		var panel dashboard.Panel
		var part struct {
			FieldConfig json.RawMessage `json:"fieldConfig"`
		}
		if err := errors.Join(json.Unmarshal(raw, &panel), json.Unmarshal(raw, &part)); err != nil {
			return err
		}
		if panel.Type == "row" {
			continue
		}
		if err := errors.Join(known(panel), fields(panel.Type, part.FieldConfig), panel.Validate()); err != nil {
			faults = append(faults, fmt.Errorf("panels[%d]: %w", index, err))
		}
	}
	return errors.Join(faults...)
}

// present returns nil for an empty list of faults, because the decoders return a list that is not
// nil even if it is empty.
func present(err error) error {
	var faults cog.BuildErrors
	if errors.As(err, &faults) && len(faults) == 0 {
		return nil
	}
	return err
}

// known rejects a type that is not registered, because the decoder would accept any content for it.
func known(panel dashboard.Panel) error {
	var faults []error
	if _, found := cog.ConfigForPanelcfgVariant(panel.Type); !found {
		faults = append(faults, fmt.Errorf("type: %q is not one that this program checks", panel.Type))
	}
	for _, target := range panel.Targets {
		if target.DataqueryType() != "prometheus" {
			faults = append(faults, errors.New("targets: a query for another data source than prometheus"))
		}
	}
	return errors.Join(faults...)
}

// fields checks that each property of an override is a field of Grafana's types. The decoder of a
// panel looks only into `custom`, and accepts an override's properties under any name.
func fields(panelType string, raw json.RawMessage) error {
	var source dashboard.FieldConfigSource
	faults := []error{present(source.UnmarshalJSONStrict(raw))}
	for index, override := range source.Overrides {
		defaults, custom := map[string]any{}, map[string]any{}
		for _, property := range override.Properties {
			if name, found := strings.CutPrefix(property.Id, "custom."); found {
				custom[name] = property.Value
			} else {
				defaults[property.Id] = property.Value
			}
		}
		if len(custom) > 0 {
			defaults["custom"] = custom
		}
		if err := asDefaults(panelType, defaults); err != nil {
			faults = append(faults, fmt.Errorf("overrides[%d]: %w", index, err))
		}
	}
	return errors.Join(faults...)
}

func asDefaults(panelType string, defaults map[string]any) error {
	source := map[string]any{"defaults": defaults, "overrides": []any{}}
	plain, err := json.Marshal(source)
	if err != nil {
		return err
	}
	whole, err := json.Marshal(map[string]any{"type": panelType, "fieldConfig": source})
	if err != nil {
		return err
	}
	return errors.Join(
		present(new(dashboard.FieldConfigSource).UnmarshalJSONStrict(plain)),
		present(new(dashboard.Panel).UnmarshalJSONStrict(whole)),
	)
}
