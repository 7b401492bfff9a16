//! Tables of what the OpenTelemetry Collector 0.161 makes of configs and spans, and
//! of single texts. `cases.json` and `sanitized.json` hold its results as seen;
//! `tests/plugin/redaction.rs` sends some of them through the whole collector.

use std::collections::BTreeMap;

use redaction::{Redaction, sanitize};
use serde_json::{Map, Value as Json};
use shared::configured;
use vespid_plugin::testing::{self, Attributes, Event, Link, Resource, Scope, Span, Traces};
use vespid_plugin::{SpanId, SpanKind, TraceId, Value};

fn value(json: &Json) -> Value {
    let only = |key: &str| json.as_object().filter(|members| members.len() == 1)?.get(key);
    if let Some(bytes) = only("$bytes") {
        return Value::Bytes(bytes.as_str().unwrap().into());
    }
    if let Some(double) = only("$double") {
        return Value::Double(double.as_str().unwrap().parse().unwrap());
    }
    match only("$empty") {
        Some(_) => Value::Json("{}".into()),
        None => configured(json),
    }
}

fn attributes(case: &Json, of: &str) -> Attributes {
    let empty = Map::new();
    let members = case[of].as_object().unwrap_or(&empty);
    Attributes(members.iter().map(|(key, json)| (key.clone(), value(json))).collect())
}

fn kind(name: Option<&str>) -> SpanKind {
    match name {
        Some("server") => SpanKind::Server,
        Some("client") => SpanKind::Client,
        Some("producer") => SpanKind::Producer,
        _ => SpanKind::Internal,
    }
}

fn traces(case: &Json) -> Traces {
    let mut span = Span::new(case["name"].as_str().unwrap_or("span")).kind(kind(case["kind"].as_str()));
    span.attributes = attributes(case, "attributes");
    let mut event = Event::new("event");
    event.attributes = attributes(case, "event");
    let mut link = Link::new(TraceId::default(), SpanId::default());
    link.attributes = attributes(case, "link");
    let (mut resource, mut scope) = (Resource::new(), Scope::new());
    resource.attributes = attributes(case, "resource");
    scope.attributes = attributes(case, "scope");
    Traces::new().resource(resource).scope(scope).span(span.event(event).link(link))
}

/// By key, as text, since not a number is not equal to itself.
fn shown(attributes: &Attributes) -> BTreeMap<String, String> {
    let shown: BTreeMap<_, _> = attributes.0.iter().map(|(key, value)| (key.clone(), format!("{value:?}"))).collect();
    assert_eq!(shown.len(), attributes.0.len(), "no key comes twice");
    shown
}

#[test]
fn every_rule_has_the_collectors_results() {
    let cases: Vec<Json> = serde_json::from_str(include_str!("cases.json")).unwrap();
    assert!(cases.len() > 80);
    let mut wrong = vec![];
    for case in cases {
        let mut plugin: Redaction = testing::configure(&case["config"].to_string()).unwrap();
        let after = testing::run(&mut plugin, traces(&case["before"])).unwrap().traces;
        let span = &after.spans[0];
        let mut check = |part: &str, found: &Attributes| {
            let expected = attributes(&case["after"], part);
            if shown(found) != shown(&expected) {
                wrong.push(format!("{}, {part}:\n  {:?}\n  {:?}", case["name"], shown(found), shown(&expected)));
            }
        };
        check("attributes", &span.attributes);
        check("event", &span.events[0].attributes);
        check("link", &span.links[0].attributes);
        check("resource", &after.resources[0].attributes);
        check("scope", &after.scopes[0].attributes);
        if case["after"]["name"].as_str().is_some_and(|name| name != span.name) {
            wrong.push(format!("{}: name `{}`", case["name"], span.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn texts_are_sanitized_as_the_collector_does() {
    let tables: BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(include_str!("sanitized.json")).unwrap();
    assert_eq!(tables.len(), 6);
    let mut wrong = vec![];
    for (kind, table) in tables {
        for (text, expected) in table {
            let found = match kind.as_str() {
                "url" => sanitize::url(&text),
                "sql" => sanitize::sql(&text, sanitize::Dialect::Any),
                "mysql" => sanitize::sql(&text, sanitize::Dialect::MySql),
                "redis" => sanitize::redis(&text),
                "memcached" => sanitize::memcached(&text),
                _ => sanitize::json(&text).unwrap_or_else(|| text.clone()),
            };
            if found != expected {
                wrong.push(format!("{kind} {text:?}: {found:?}, expected {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Attributes of a key that a span holds several times.
fn several(config: &str, values: &[Value]) -> Vec<(String, Value)> {
    let mut plugin: Redaction = testing::configure(config).unwrap();
    let span = values.iter().fold(Span::new("s"), |span, value| span.attribute("k", value.clone()));
    testing::run(&mut plugin, Traces::new().span(span)).unwrap().traces.spans.remove(0).attributes.0
}

#[test]
fn no_secret_stays_behind_where_a_key_comes_twice() {
    let text = |key: &str, text: &str| (key.to_owned(), Value::from(text));
    let count = |key: &str, count: i64| (key.to_owned(), Value::Int(count));
    let two: [Value; 2] = ["a secret".into(), "another secret".into()];
    let masks = r#"{"allow_all_keys": true, "blocked_values": ["secret"], "summary": "debug"}"#;
    let summary = [text("redaction.masked.keys", "k,k"), count("redaction.masked.count", 2)];
    let mut expected = vec![text("k", "a ****"), text("k", "another ****")];
    expected.extend(summary.clone());
    assert_eq!(several(masks, &two), expected);
    let keys = r#"{"allow_all_keys": true, "blocked_key_patterns": ["k"], "summary": "debug"}"#;
    // One of them is no text: a single mask stands for both.
    let mut expected = vec![text("k", "****")];
    expected.extend(summary);
    assert_eq!(several(keys, &["a".into(), Value::Bytes(vec![1])]), expected);
    let removed = several(r#"{"summary": "debug"}"#, &["a".into(), true.into()]);
    assert_eq!(removed, [text("redaction.redacted.keys", "k,k"), count("redaction.redacted.count", 2)]);
}

#[test]
fn all_that_is_wrong_with_a_config_is_told() {
    let wrong = |config: &str| testing::configure::<Redaction>(config).map(drop).unwrap_err().to_string();
    let patterns =
        wrong(r#"{"blocked_values": ["ok", "("], "allowed_values": "a(?=b)", "ignored_key_patterns": ["*"]}"#);
    for place in ["blocked_values[1]: ", "allowed_values[0]: ", "ignored_key_patterns[0]: "] {
        assert!(patterns.lines().any(|line| line.starts_with(place)), "{place} in {patterns}");
    }
    let table = [
        (r#"{"allow_all_key": true}"#, "allow_all_key: unknown key `allow_all_key`"),
        (r#"{"allow_all_keys": "true"}"#, "allow_all_keys: invalid type: string \"true\", expected a boolean"),
        (r#"{"allowed_keys": [1]}"#, "allowed_keys[0]: invalid type: integer `1`"),
        (r#"{"allowed_keys": {"a": 1}}"#, "allowed_keys: invalid type: a mapping, expected a list of texts"),
        (r#"{"hash_function": "sha256"}"#, "hash_function: `sha256` is not known"),
        (r#"{"hash_function": "hmac-sha256"}"#, "hash_function: needs an `hmac_key`"),
        (r#"{"hash_function": "hmac-sha512", "hmac_key": "short"}"#, "hmac_key: has 5 bytes"),
        (r#"{"hmac_key": 12345}"#, "hmac_key: is no text; put it in quotes"),
        (r#"{"url_sanitizer": true}"#, "url_sanitizer: invalid type: boolean `true`, expected a mapping"),
        (r#"{"url_sanitizer": {"enable": true}}"#, "url_sanitizer.enable: unknown key `enable`"),
        (r#"{"db_sanitizer": {"sql": {"attribute": []}}}"#, "db_sanitizer.sql.attribute: unknown key `attribute`"),
    ];
    for (config, expected) in table {
        let found = wrong(config);
        assert!(found.starts_with(expected), "{config}: {found}");
    }
    assert!(!wrong(r#"{"hash_function": "md5", "hmac_key": 12345}"#).contains("12345"));
}
