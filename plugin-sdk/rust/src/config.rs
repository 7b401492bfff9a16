//! From the config's JSON text to the plugin's own type.

use serde::de::DeserializeOwned;

use crate::rejection::Rejection;

/// Reads a plugin's config. No text, or `null`, reads as `{}`, since a plugin
/// whose fields all have defaults needs none. The error begins with the path of
/// the field at fault: ``set.key: invalid type: integer `3`, expected a string``.
pub(crate) fn read<C: DeserializeOwned>(text: &str) -> Result<C, Rejection> {
    let text = match text.trim() {
        "" | "null" => "{}",
        text => text,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let config = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = in_yaml_words(&without_place(&error.inner().to_string()));
        let (message, hint) = with_hint(&error);
        let rejection = match path.as_str() {
            "." => Rejection::new(message),
            path => Rejection::new(format!("{path}: {message}")),
        };
        if hint.is_empty() { rejection } else { rejection.hint(hint) }
    })?;
    json.end()?;
    Ok(config)
}

/// The collector shows where in its file a setting is; a place in the JSON text
/// that it made of it would only mislead.
fn without_place(error: &str) -> String {
    match error.rsplit_once(" at line ") {
        Some((message, place)) if place.split(" column ").all(|number| number.parse::<u32>().is_ok()) => {
            message.to_owned()
        }
        _ => error.to_owned(),
    }
}

/// A list and a mapping by the names that they have in YAML.
fn in_yaml_words(error: &str) -> String {
    let words = [
        ("invalid type: map,", "invalid type: a mapping,"),
        ("invalid type: sequence,", "invalid type: a list,"),
        ("invalid type: null,", "invalid type: nothing,"),
        ("expected a sequence", "expected a list"),
    ];
    words.into_iter().fold(error.to_owned(), |error, (from, to)| error.replace(from, to))
}

/// "unknown field `kee`, expected `key` or `value`" in the collector's own words.
fn with_hint(error: &str) -> (String, String) {
    let known = |rest: &str| match rest.split_once(", ") {
        Some((name, expected)) => {
            let expected = expected.strip_prefix("expected ").unwrap_or(expected);
            let expected = expected.strip_prefix("one of ").unwrap_or(expected);
            (name.to_owned(), format!("known here: {}", expected.replace("` or `", "`, `")))
        }
        None => (rest.to_owned(), String::new()),
    };
    if let Some((name, hint)) = error.strip_prefix("unknown field ").map(known) {
        return (format!("unknown key {name}"), hint);
    }
    match error.strip_prefix("unknown variant ").map(known) {
        Some((name, hint)) => (format!("{name} is not known"), hint),
        None => (error.to_owned(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(default)]
        keys: Vec<Key>,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Key {
        #[allow(dead_code)]
        name: String,
    }

    fn error(text: &str) -> String {
        read::<Config>(text).unwrap_err().to_string()
    }

    #[test]
    fn no_config_is_an_empty_one() {
        for text in ["", " ", "null", "{}"] {
            assert!(read::<Config>(text).unwrap().keys.is_empty());
        }
    }

    #[test]
    fn an_error_names_the_field_and_its_place() {
        let wrong = error(r#"{"keys": [{"name": "a"}, {"name": 3}]}"#);
        assert_eq!(wrong, "keys[1].name: invalid type: integer `3`, expected a string");
        assert_eq!(error(r#"{"keys": [{}]}"#), "keys[0]: missing field `name`");
        assert_eq!(error(r#"{"key": 1}"#), "key: unknown key `key`\nhint: known here: `keys`");
    }
}
