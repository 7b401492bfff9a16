package tidy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Settings are what the collector's config says. What is wrong there is told with
// its path, such as "set.kee: unknown key `kee`".
type Settings struct {
	// Paths and methods that only probes call.
	HealthChecks map[string]bool
	// What every remaining span gets, or nil.
	Set *Attribute
}

// Attribute is a text attribute.
type Attribute struct {
	Key, Value string
}

var usualHealthChecks = []any{"/healthz", "/livez", "/readyz", "grpc.health.v1.Health/Check"}

func readSettings(text string) (Settings, error) {
	settings := Settings{HealthChecks: map[string]bool{}}
	if text = strings.TrimSpace(text); text == "" || text == "null" {
		text = "{}"
	}
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return settings, err
	}
	fields, err := objectOf(value, "", "health_checks", "set")
	if err != nil {
		return settings, err
	}
	if _, written := fields["health_checks"]; !written {
		fields["health_checks"] = usualHealthChecks
	}
	checks, isList := fields["health_checks"].([]any)
	if !isList {
		return settings, wrong("health_checks", fields["health_checks"], "a list")
	}
	for number, check := range checks {
		check, err := textOf(check, fmt.Sprintf("health_checks[%d]", number))
		if err != nil {
			return settings, err
		}
		settings.HealthChecks[check] = true
	}
	settings.Set, err = attributeOf(fields["set"])
	return settings, err
}

func attributeOf(value any) (*Attribute, error) {
	if value == nil {
		return nil, nil
	}
	fields, err := objectOf(value, "set", "key", "value")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"key", "value"} {
		if _, written := fields[name]; !written {
			return nil, fmt.Errorf("set: missing field `%s`", name)
		}
	}
	attribute := &Attribute{}
	if attribute.Key, err = textOf(fields["key"], "set.key"); err != nil {
		return nil, err
	}
	if attribute.Value, err = textOf(fields["value"], "set.value"); err != nil {
		return nil, err
	}
	if attribute.Key == "" {
		return nil, fmt.Errorf("set.key: is empty")
	}
	return attribute, nil
}

func objectOf(value any, path string, names ...string) (map[string]any, error) {
	fields, isObject := value.(map[string]any)
	if !isObject {
		return nil, wrong(path, value, "an object")
	}
	for name := range fields {
		if !slices.Contains(names, name) {
			at := strings.TrimPrefix(path+"."+name, ".")
			known := "`" + strings.Join(names, "`, `") + "`"
			return nil, fmt.Errorf("%s: unknown key `%s`\nhint: known here: %s", at, name, known)
		}
	}
	return fields, nil
}

func textOf(value any, path string) (string, error) {
	text, isText := value.(string)
	if !isText {
		return "", wrong(path, value, "a string")
	}
	return text, nil
}

func wrong(path string, value any, expected string) error {
	if path != "" {
		path += ": "
	}
	json, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return fmt.Errorf("%sinvalid type: `%s`, expected %s", path, json, expected)
}
