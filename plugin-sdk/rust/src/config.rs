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
        match path.as_str() {
            "." => Rejection::new(error.into_inner().to_string()),
            path => Rejection::new(format!("{path}: {}", error.inner())),
        }
    })?;
    json.end()?;
    Ok(config)
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
        assert!(wrong.starts_with("keys[1].name: invalid type: integer `3`"));
        assert!(wrong.ends_with("at line 1 column 35"), "{wrong}");
        assert!(error(r#"{"keys": [{}]}"#).starts_with("keys[0]: missing field `name`"));
        assert!(error(r#"{"key": 1}"#).starts_with("key: unknown field `key`"));
    }
}
