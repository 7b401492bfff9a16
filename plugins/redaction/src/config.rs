//! What the user writes: the keys of the OpenTelemetry Collector's redaction
//! processor, read as leniently and refused as strictly as it does.

use serde::de::{DeserializeOwned, Deserializer, Error};
use serde::Deserialize;
use shared::TextList;
use vespid_plugin::Rejection;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Keeps every key; `allowed_keys` has no effect then.
    #[serde(deserialize_with = "or_default")]
    pub allow_all_keys: bool,
    /// Keys that stay. An empty list removes every attribute.
    #[serde(deserialize_with = "or_default")]
    pub allowed_keys: TextList,
    /// Keys that stay as they are, whatever else says otherwise.
    #[serde(deserialize_with = "or_default")]
    pub ignored_keys: TextList,
    #[serde(deserialize_with = "or_default")]
    pub ignored_key_patterns: TextList,
    /// Keys whose whole value is masked.
    #[serde(deserialize_with = "or_default")]
    pub blocked_key_patterns: TextList,
    /// What is masked within values, pattern after pattern.
    #[serde(deserialize_with = "or_default")]
    pub blocked_values: TextList,
    /// A value that matches one of them is left alone.
    #[serde(deserialize_with = "or_default")]
    pub allowed_values: TextList,
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
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct UrlSanitizer {
    #[serde(deserialize_with = "or_default")]
    pub enabled: bool,
    #[serde(deserialize_with = "or_default")]
    pub attributes: TextList,
    /// On unless `false` is written.
    pub sanitize_span_name: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
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
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct Database {
    #[serde(deserialize_with = "or_default")]
    pub enabled: bool,
    #[serde(deserialize_with = "or_default")]
    pub attributes: TextList,
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
    /// Adds what is wrong with the key of a keyed hash function. The key itself is
    /// never shown.
    pub fn check(&self, wrong: &mut Vec<Rejection>) {
        let Some(shortest) = self.hash_function.key_length() else { return };
        let length = self.hmac_key.len();
        let hint = format!("this hash function needs at least {shortest} bytes");
        if length == 0 {
            wrong.push(Rejection::new("hash_function: needs an `hmac_key`").hint(&hint));
        } else if length < shortest {
            wrong.push(Rejection::new(format!("hmac_key: has {length} bytes")).hint(&hint));
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
            _ => Err(D::Error::unknown_variant(&name, &["md5", "sha1", "sha3", "hmac-sha256", "hmac-sha512"])),
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
