//! Ids of components and pipelines: `otlp`, `wasm/redact`, `traces/slow`.

use std::fmt;
use std::str::FromStr;

/// The id of a component (or a pipeline): its type, and a name that tells several of
/// one type apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentId {
    /// The part before the first `/`: the type, or the signal of a pipeline.
    pub kind: String,
    pub name: Option<String>,
}

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("the id is empty")]
    Empty,
    #[error("`{0}` is not a component type")]
    Kind(String),
    #[error("there is no name behind the `/`")]
    NoName,
    #[error("the name is longer than 1024 bytes")]
    LongName,
    #[error("a name cannot contain `{0}`")]
    Character(char),
}

impl IdError {
    pub fn hint(&self) -> &'static str {
        match self {
            IdError::Empty => "write `type` or `type/name`",
            IdError::Kind(_) => "a type is a letter, then up to 62 letters, digits and `_`, such as `otlp`",
            IdError::NoName => "write `type/name`, or the type alone",
            IdError::LongName => "choose a shorter name",
            IdError::Character(_) => "use letters, digits and punctuation, such as `otlp/tempo-2`",
        }
    }
}

impl FromStr for ComponentId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind.trim(), Some(name.trim())),
            None => (text.trim(), None),
        };
        if kind.is_empty() && name.is_none() {
            return Err(IdError::Empty);
        }
        let mut letters = kind.chars();
        let sound = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
            && kind.len() <= 63;
        if !sound {
            return Err(IdError::Kind(kind.to_owned()));
        }
        if let Some(name) = name {
            if name.is_empty() {
                return Err(IdError::NoName);
            }
            if name.len() > 1024 {
                return Err(IdError::LongName);
            }
            if let Some(bad) = name.chars().find(|c| !fits_a_name(*c)) {
                return Err(IdError::Character(bad));
            }
        }
        Ok(ComponentId { kind: kind.to_owned(), name: name.map(str::to_owned) })
    }
}

fn fits_a_name(c: char) -> bool {
    // The symbols of ASCII in Unicode's sense; the rest of ASCII is punctuation.
    !(c.is_whitespace() || c.is_control() || "$+<=>^`|~".contains(c))
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        match &self.name {
            Some(name) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_type_and_perhaps_a_name() {
        for text in ["otlp", "wasm/redact", "otlp_http/a/b", "x9_/ö-1.2:3", "batch/1"] {
            let id: ComponentId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
        }
        let id: ComponentId = " otlp / tempo ".parse().unwrap();
        assert_eq!(id.kind, "otlp");
        assert_eq!(id.name.as_deref(), Some("tempo"));
    }

    #[test]
    fn what_is_no_id_says_why() {
        let parse = |text: &str| text.parse::<ComponentId>();
        assert_eq!(parse(""), Err(IdError::Empty));
        assert_eq!(parse("/x"), Err(IdError::Kind(String::new())));
        assert_eq!(parse("9a"), Err(IdError::Kind("9a".to_owned())));
        assert_eq!(parse("a-b"), Err(IdError::Kind("a-b".to_owned())));
        assert_eq!(parse("otlp/"), Err(IdError::NoName));
        assert_eq!(parse("otlp/a b"), Err(IdError::Character(' ')));
        assert_eq!(parse("otlp/a+b"), Err(IdError::Character('+')));
        assert_eq!(parse(&format!("a/{}", "x".repeat(1025))), Err(IdError::LongName));
        assert!(parse(&"a".repeat(63)).is_ok());
        assert!(parse(&"a".repeat(64)).is_err());
    }
}
