// Package tidy is a plugin that most teams want first: it drops health checks,
// sets one attribute on every span that stays and masks e-mail addresses.
package tidy

import (
	"errors"
	"strings"

	"wit_component/vespid_plugin_batch"
	"wit_component/vespid_plugin_edits"
	"wit_component/vespid_plugin_patterns"
	"wit_component/vespid_plugin_types"
)

// The attributes in which instrumentations put a request's path.
var pathKeys = []string{"url.path", "http.target", "http.route"}

var owners = []vespid_plugin_types.Owner{
	vespid_plugin_types.Owner_Span,
	vespid_plugin_types.Owner_Resource,
	vespid_plugin_types.Owner_Scope,
	vespid_plugin_types.Owner_Event,
	vespid_plugin_types.Owner_Link,
}

// An e-mail address, in any script. The collector searches for it.
const addressPattern = `[-\w.%+\x{80}-\x{10ffff}]+@[-\w\x{80}-\x{10ffff}]+(\.[-\w\x{80}-\x{10ffff}]+)+`

var settings Settings
var address uint32

// Configure is called once, before any batch.
func Configure(config string) error {
	var err error
	if settings, err = readSettings(config); err != nil {
		return err
	}
	compiled := vespid_plugin_patterns.Compile(addressPattern)
	if compiled.IsErr() {
		return errors.New(compiled.Err())
	}
	address = compiled.Ok()
	return nil
}

// Process is called for each batch.
func Process() error {
	vespid_plugin_edits.DropSpans(healthChecks(), "health check")
	if set := settings.Set; set != nil {
		rows := make([]uint32, vespid_plugin_batch.SpanCount())
		for row := range rows {
			rows[row] = uint32(row)
		}
		value := vespid_plugin_types.MakeValueText(set.Value)
		vespid_plugin_edits.SetAttribute(vespid_plugin_types.Owner_Span, rows, set.Key, value)
	}
	for _, owner := range owners {
		vespid_plugin_patterns.ReplaceMatches(owner, []uint32{address}, "****")
	}
	return nil
}

// The rows whose path, or the last word of whose name, only probes call.
func healthChecks() []uint32 {
	var rows []uint32
	// A server names a span `GET /healthz` or after the method alone.
	for row, name := range vespid_plugin_batch.Names() {
		if settings.HealthChecks[name[strings.LastIndexByte(name, ' ')+1:]] {
			rows = append(rows, uint32(row))
		}
	}
	for _, key := range pathKeys {
		column := vespid_plugin_batch.TextAttribute(vespid_plugin_types.Owner_Span, key)
		for at, path := range column.Values {
			path, _, _ = strings.Cut(path, "?")
			if settings.HealthChecks[path] {
				rows = append(rows, column.Rows[at])
			}
		}
	}
	return rows
}
