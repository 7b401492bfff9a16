// Package tidy is the plugin of src/lib.rs in Go, in the place of the example's own.
package tidy

import (
	"encoding/json"

	"wit_component/vespid_plugin_batch"
	"wit_component/vespid_plugin_edits"
	"wit_component/vespid_plugin_types"
)

type entry struct{ Tag string }

var table map[string]*entry

// Configure is called once, before any batch.
func Configure(config string) error {
	var settings struct{ Table *map[string]*entry }
	if err := json.Unmarshal([]byte(config), &settings); err != nil {
		return err
	}
	table = *settings.Table // fails in configure
	return nil
}

// Process is called for each batch.
func Process() error {
	for row, name := range vespid_plugin_batch.Names() {
		tag := vespid_plugin_types.MakeValueText(table[name].Tag) // fails in process
		vespid_plugin_edits.SetAttribute(vespid_plugin_types.Owner_Span, []uint32{uint32(row)}, "tag", tag)
	}
	return nil
}
