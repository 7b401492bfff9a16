//! The `headers_setter` extension: headers for a destination, out of the config,
//! a file, or what is known of the batch's sender.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::basic_auth::Secret;
use super::watched::{FileError, Watched};
use crate::component::{Authorizer, ConsumeError};
use crate::config::{Reference, Section};
use crate::traces::Context;

#[derive(Debug, Clone)]
pub struct HeadersSetterSettings {
    rules: Vec<RuleSettings>,
    /// Runs first, so that its headers can be changed here.
    pub additional: Option<Reference>,
}

#[derive(Debug, Clone)]
struct RuleSettings {
    key: HeaderName,
    action: Action,
    source: SourceSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Only where the header is not set yet.
    Insert,
    /// Only where it is.
    Update,
    Upsert,
    Delete,
}

#[derive(Debug, Clone)]
enum SourceSettings {
    Nothing,
    Value(Secret),
    /// A header of the sender, kept by a receiver's `include_metadata`.
    Metadata(String, String),
    /// What an authenticator found out about the sender.
    Identity(String, String),
}

impl HeadersSetterSettings {
    pub fn read(mut section: Section<'_>) -> Self {
        let rules: Vec<_> = section.sections("headers");
        if rules.is_empty() {
            section.problem_at("headers", "missing headers configuration", "write `headers: [{key: …, value: …}]`");
        }
        let rules = rules.into_iter().filter_map(read_rule).collect();
        let additional = section.reference("additional_auth");
        section.finish();
        Self { rules, additional }
    }
}

fn read_rule(mut section: Section<'_>) -> Option<RuleSettings> {
    let written = section.text("key").unwrap_or_default();
    let key = written.parse::<HeaderName>().ok();
    if key.is_none() {
        let message =
            if written.is_empty() { "missing header name".into() } else { format!("`{written}` is no header") };
        section.problem_at("key", message, "write `key: X-Scope-OrgID`");
    }
    let action = match section.choice_or("action", &["insert", "update", "upsert", "delete", ""], "upsert") {
        "insert" => Action::Insert,
        "update" => Action::Update,
        "delete" => Action::Delete,
        _ => Action::Upsert,
    };
    let default = section.text_or("default_value", "");
    let given: Vec<(&str, String)> = ["value", "value_file", "from_context", "from_attribute"]
        .into_iter()
        .filter_map(|key| Some((key, section.text(key)?)))
        .collect();
    let source = match given.as_slice() {
        _ if action == Action::Delete => SourceSettings::Nothing,
        [(key, text)] => source(key, text.clone(), default),
        [] => {
            let message = "missing header source, must be 'from_context', 'from_attribute', 'value' or 'value_file'";
            section.problem(message, "for a tenant: `from_context: X-Scope-OrgID`");
            SourceSettings::Nothing
        }
        _ => {
            let message =
                "invalid header source, must either 'from_context', 'from_attribute', 'value' or 'value_file'";
            section.problem(message, "keep one of them");
            SourceSettings::Nothing
        }
    };
    section.finish();
    Some(RuleSettings { key: key?, action, source })
}

fn source(key: &str, text: String, default: String) -> SourceSettings {
    match (key, text.strip_prefix("auth.")) {
        ("value", _) => SourceSettings::Value(Secret::Text(text)),
        ("value_file", _) => SourceSettings::Value(Secret::File(text.into())),
        ("from_context", Some(attribute)) => SourceSettings::Identity(attribute.to_owned(), default),
        ("from_context", None) => SourceSettings::Metadata(text.to_ascii_lowercase(), default),
        _ => SourceSettings::Identity(text, default),
    }
}

pub struct HeadersSetter {
    rules: Vec<Rule>,
    additional: Option<Arc<dyn Authorizer>>,
}

struct Rule {
    key: HeaderName,
    action: Action,
    source: Source,
}

enum Source {
    Nothing,
    Value(Watched<String>),
    Metadata(String, String),
    Identity(String, String),
}

impl HeadersSetter {
    pub fn new(settings: HeadersSetterSettings, additional: Option<Arc<dyn Authorizer>>) -> Result<Self, FileError> {
        let rules = settings.rules.into_iter().map(|RuleSettings { key, action, source }| {
            let source = match source {
                SourceSettings::Nothing => Source::Nothing,
                SourceSettings::Value(secret) => Source::Value(secret.watch()?),
                SourceSettings::Metadata(name, default) => Source::Metadata(name, default),
                SourceSettings::Identity(name, default) => Source::Identity(name, default),
            };
            Ok(Rule { key, action, source })
        });
        Ok(Self { rules: rules.collect::<Result<_, FileError>>()?, additional })
    }
}

impl Source {
    /// Empty is as absent: a header without a value says nothing to anyone.
    fn text(&self, context: &Context) -> Result<String, ConsumeError> {
        let (found, name, default) = match self {
            Self::Nothing => return Ok(String::new()),
            Self::Value(text) => return Ok(text.get().as_ref().clone()),
            Self::Metadata(name, default) => (&context.metadata, name, default),
            Self::Identity(name, default) => (&context.auth, name, default),
        };
        let mut values = found.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
        match (values.next(), values.count()) {
            (None, _) => Ok(default.clone()),
            (Some(value), 0) => Ok(value.clone()),
            // To guess would be to deliver to somebody else's tenant.
            (Some(_), more) => Err(ConsumeError::permanent(format!(
                "the sender gave {} values for `{name}`, and which one is meant cannot be told",
                more + 1
            ))),
        }
    }
}

impl Authorizer for HeadersSetter {
    fn authorize(&self, headers: &mut HeaderMap, context: &Context) -> Result<(), ConsumeError> {
        if let Some(additional) = &self.additional {
            additional.authorize(headers, context)?;
        }
        for rule in &self.rules {
            let is_set = headers.get(&rule.key).is_some_and(|value| !value.is_empty());
            let applies = match rule.action {
                Action::Delete => {
                    headers.remove(&rule.key);
                    false
                }
                Action::Insert => !is_set,
                Action::Update => is_set,
                Action::Upsert => true,
            };
            if !applies {
                continue;
            }
            let text = rule.source.text(context)?;
            if text.is_empty() {
                // What the sender did not say is not taken from somewhere else.
                headers.remove(&rule.key);
                continue;
            }
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                ConsumeError::permanent(format!("the value for header `{}` cannot stand in one", rule.key))
            })?;
            value.set_sensitive(true);
            headers.insert(rule.key.clone(), value);
        }
        Ok(())
    }

    fn shows_secrets(&self) -> bool {
        self.additional.as_ref().is_some_and(|additional| additional.shows_secrets())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(action: Action, source: Source, before: Option<&str>) -> Result<Option<String>, ConsumeError> {
        let rule = Rule { key: "x-scope-orgid".parse().unwrap(), action, source };
        let setter = HeadersSetter { rules: vec![rule], additional: None };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let context = Context {
            metadata: vec![pair("tenant", "blue"), pair("two", "a"), pair("two", "b")],
            auth: vec![pair("username", "ann")],
            ..Context::default()
        };
        let mut headers = HeaderMap::new();
        if let Some(before) = before {
            headers.insert("x-scope-orgid", before.parse().unwrap());
        }
        setter.authorize(&mut headers, &context)?;
        Ok(headers.get("x-scope-orgid").map(|value| value.to_str().unwrap().to_owned()))
    }

    fn fixed(text: &str) -> Source {
        Source::Value(Watched::fixed(text.to_owned()))
    }

    #[test]
    fn actions_are_the_collector_s() {
        let is = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(set(Action::Insert, fixed("new"), None), is("new"));
        assert_eq!(set(Action::Insert, fixed("new"), Some("old")), is("old"));
        assert_eq!(set(Action::Update, fixed("new"), None), Ok(None));
        assert_eq!(set(Action::Update, fixed("new"), Some("old")), is("new"));
        assert_eq!(set(Action::Upsert, fixed("new"), Some("old")), is("new"));
        assert_eq!(set(Action::Delete, Source::Nothing, Some("old")), Ok(None));
    }

    #[test]
    fn what_is_known_of_the_sender_can_be_a_header() {
        let metadata = |name: &str, default: &str| Source::Metadata(name.into(), default.into());
        assert_eq!(set(Action::Upsert, metadata("tenant", "x"), None).unwrap().as_deref(), Some("blue"));
        assert_eq!(set(Action::Upsert, metadata("absent", "x"), None).unwrap().as_deref(), Some("x"));
        assert_eq!(set(Action::Upsert, metadata("absent", ""), Some("old")), Ok(None));
        let identity = Source::Identity("username".into(), String::new());
        assert_eq!(set(Action::Upsert, identity, None).unwrap().as_deref(), Some("ann"));
        assert!(!set(Action::Upsert, metadata("two", ""), None).unwrap_err().retryable);
        assert!(set(Action::Upsert, fixed("a\nb"), None).unwrap_err().message.contains("x-scope-orgid"));
    }
}
