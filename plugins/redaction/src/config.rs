//! What the user writes: the keys of the OpenTelemetry Collector's redaction
//! processor, read as leniently and refused as strictly as it does.

use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de::DeserializeOwned};
use vespid_plugin::Rejection;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Keeps every key; `allowed_keys` has no effect then.
    #[serde(deserialize_with = "or_default")]
    pub allow_all_keys: bool,
    /// Keys that stay. An empty list removes every attribute.
    #[serde(deserialize_with = "texts")]
    pub allowed_keys: Vec<String>,
    /// Keys that stay as they are, whatever else says otherwise.
    #[serde(deserialize_with = "texts")]
    pub ignored_keys: Vec<String>,
    #[serde(deserialize_with = "texts")]
    pub ignored_key_patterns: Vec<String>,
    /// Keys whose whole value is masked.
    #[serde(deserialize_with = "texts")]
    pub blocked_key_patterns: Vec<String>,
    /// What is masked within values, pattern after pattern.
    #[serde(deserialize_with = "texts")]
    pub blocked_values: Vec<String>,
    /// A value that matches one of them is left alone.
    #[serde(deserialize_with = "texts")]
    pub allowed_values: Vec<String>,
    /// Looks at the text form of numbers, booleans, bytes, arrays and maps as well.
    #[serde(deserialize_with = "or_default")]
    pub redact_all_types: bool,
    #[serde(deserialize_with = "or_default")]
    pub hash_function: HashFunction,
    #[serde(deserialize_with = "secret")]
    pub hmac_key: String,
    #[serde(deserialize_with = "or_default")]
    pub summary: String,
    #[serde(deserialize_with = "or_default")]
    pub url_sanitizer: UrlSanitizer,
    #[serde(deserialize_with = "or_default")]
    pub db_sanitizer: DbSanitizer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UrlSanitizer {
    #[serde(deserialize_with = "or_default")]
    pub enabled: bool,
    #[serde(deserialize_with = "texts")]
    pub attributes: Vec<String>,
    /// On unless `false` is written.
    pub sanitize_span_name: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DbSanitizer {
    /// On unless `false` is written.
    pub sanitize_span_name: Option<bool>,
    #[serde(deserialize_with = "or_default")]
    pub sql: Database,
    #[serde(deserialize_with = "or_default")]
    pub redis: Database,
    #[serde(deserialize_with = "or_default")]
    pub valkey: Database,
    #[serde(deserialize_with = "or_default")]
    pub memcached: Database,
    #[serde(deserialize_with = "or_default")]
    pub mongo: Database,
    /// Span names only: the Collector takes `attributes` here and does not use them.
    #[serde(deserialize_with = "or_default")]
    pub opensearch: Database,
    /// As `opensearch`.
    #[serde(deserialize_with = "or_default")]
    pub es: Database,
}

impl DbSanitizer {
    /// True where any database has its statements sanitized.
    pub fn any(&self) -> bool {
        let all = [&self.sql, &self.redis, &self.valkey, &self.memcached, &self.mongo, &self.opensearch, &self.es];
        all.iter().any(|database| database.enabled)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    #[serde(deserialize_with = "or_default")]
    pub enabled: bool,
    #[serde(deserialize_with = "texts")]
    pub attributes: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum HashFunction {
    #[default]
    None,
    Md5,
    Sha1,
    Sha3,
    HmacSha256,
    HmacSha512,
}

impl HashFunction {
    /// The key's shortest length in bytes, for the functions that take one.
    fn key_length(self) -> Option<usize> {
        match self {
            HashFunction::HmacSha256 => Some(32),
            HashFunction::HmacSha512 => Some(64),
            _ => None,
        }
    }
}

impl Config {
    pub fn check(&self) -> Result<(), Rejection> {
        let Some(shortest) = self.hash_function.key_length() else { return Ok(()) };
        match self.hmac_key.len() {
            0 => Err(Rejection::new(format!("hmac_key: is missing; this hash function needs one of at least {shortest} bytes"))),
            length if length < shortest => {
                Err(Rejection::new(format!("hmac_key: has {length} bytes; this hash function needs at least {shortest}")))
            }
            _ => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for HashFunction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match name.to_lowercase().as_str() {
            "" => Ok(HashFunction::None),
            "md5" => Ok(HashFunction::Md5),
            "sha1" => Ok(HashFunction::Sha1),
            "sha3" => Ok(HashFunction::Sha3),
            "hmac-sha256" => Ok(HashFunction::HmacSha256),
            "hmac-sha512" => Ok(HashFunction::HmacSha512),
            _ => Err(D::Error::custom(format!(
                "`{name}` is no hash function; write md5, sha1, sha3, hmac-sha256 or hmac-sha512"
            ))),
        }
    }
}

/// A key that is written without a value is as good as absent.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Never quotes what it found.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Null => Ok(String::new()),
        serde_json::Value::String(text) => Ok(text),
        _ => Err(D::Error::custom("is no text; put it in quotes")),
    }
}

/// A list of texts, or one text with commas between them.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Texts;

    impl<'de> Visitor<'de> for Texts {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of texts")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = list.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            match text {
                "" => Ok(Vec::new()),
                text => Ok(text.split(',').map(str::to_owned).collect()),
            }
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            // Read to its end first, so that the error stands at the list's own key.
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self))
        }
    }

    deserializer.deserialize_any(Texts)
}
