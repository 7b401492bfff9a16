//! Every action and every rule, as tables of a config, a span's attributes before,
//! and after. The values are what the Collector 0.161 makes of the same.

use attributes::Attributes;
use serde_json::{Value as Json, json};
use shared::configured;
use vespid_plugin::testing::{self, Resource, Scope, Span, Traces};
use vespid_plugin::{SpanKind, Value};

/// Attributes of JSON; `["$double", 1.0]` and the like say what JSON cannot.
fn value(json: &Json) -> Value {
    match json.as_array().map(Vec::as_slice) {
        Some([Json::String(kind), what]) if kind == "$double" => {
            Value::Double(what.as_str().map_or_else(|| what.as_f64().unwrap(), |text| text.parse().unwrap()))
        }
        Some([Json::String(kind), what]) if kind == "$bytes" => Value::Bytes(what.as_str().unwrap().into()),
        Some([Json::String(kind)]) if kind == "$empty" => Value::Json("{}".into()),
        _ => configured(json),
    }
}

fn with_attributes(span: Span, attributes: &Json) -> Span {
    attributes.as_object().unwrap().iter().fold(span, |span, (key, it)| span.attribute(key, value(it)))
}

fn sorted(span: &Span) -> Vec<(String, Value)> {
    let mut all = span.attributes.0.clone();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn run(config: &Json, traces: Traces) -> Vec<Span> {
    let mut plugin: Attributes =
        testing::configure(&config.to_string()).unwrap_or_else(|error| panic!("{config}: {error}"));
    testing::run(&mut plugin, traces).unwrap().traces.spans
}

/// One span through some actions.
fn check(actions: Json, before: Json, after: Json) {
    let traces = Traces::new()
        .metadata("x-team", &["a", "b"])
        .auth("username", &["ann"])
        .client("grpc", "10.0.0.7:4711")
        .span(with_attributes(Span::new("s"), &before));
    let spans = run(&json!({"actions": actions}), traces);
    assert_eq!(sorted(&spans[0]), sorted(&with_attributes(Span::new("s"), &after)), "{actions} on {before}");
}

#[test]
fn a_value_is_inserted_updated_and_upserted() {
    for (action, absent, present) in [
        ("insert", json!({"k": 1}), json!({"k": "old"})),
        ("update", json!({}), json!({"k": 1})),
        ("UpSert", json!({"k": 1}), json!({"k": 1})),
    ] {
        let actions = json!([{"key": "k", "action": action, "value": 1}]);
        check(actions.clone(), json!({}), absent);
        check(actions, json!({"k": "old"}), present);
    }
    let nested = json!([{"key": "k", "action": "insert", "value": {"a": [1, "x", null]}}]);
    check(nested, json!({}), json!({"k": {"a": [1, "x", null]}}));
}

#[test]
fn a_value_comes_from_elsewhere_or_by_default() {
    let table = [
        (json!({"from_attribute": "a"}), json!({"a": [1]}), json!({"a": [1], "k": [1]})),
        (json!({"from_attribute": "a"}), json!({}), json!({})),
        (json!({"from_attribute": "a", "default_value": 2.5}), json!({}), json!({"k": 2.5})),
        (json!({"default_value": true}), json!({}), json!({"k": true})),
        (json!({"from_context": "client.address"}), json!({}), json!({"k": "10.0.0.7"})),
        (json!({"from_context": "metadata.X-Team"}), json!({}), json!({"k": "a;b"})),
        (json!({"from_context": "x-team"}), json!({}), json!({"k": "a;b"})),
        (json!({"from_context": "auth.username"}), json!({}), json!({"k": "ann"})),
        (json!({"from_context": "auth.subject"}), json!({}), json!({})),
        (json!({"from_context": "auth.subject", "default_value": "nobody"}), json!({}), json!({"k": "nobody"})),
    ];
    for (source, before, after) in table {
        let mut action = json!({"key": "k", "action": "upsert"});
        action.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        check(json!([action]), before, after);
    }
}

#[test]
fn attributes_are_deleted_by_key_and_by_pattern() {
    let before = json!({"a1": 1, "a2": "x", "b": 2});
    check(json!([{"key": "b", "action": "delete"}]), before.clone(), json!({"a1": 1, "a2": "x"}));
    check(json!([{"pattern": "^a[0-9]", "action": "delete"}]), before.clone(), json!({"b": 2}));
    check(json!([{"key": "b", "pattern": "1", "action": "delete"}]), before.clone(), json!({"a2": "x"}));
    check(json!([{"pattern": ".*", "action": "delete"}]), before, json!({}));
    // A key that an action before has made.
    let actions = json!([{"key": "new", "action": "insert", "value": 1}, {"pattern": "e", "action": "delete"}]);
    check(actions, json!({"b": 2}), json!({"b": 2}));
}

#[test]
fn scalars_are_hashed_and_the_rest_becomes_empty_text() {
    let one = "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a";
    let int_one = "7c9fa136d4413fa6173637e883b6998d32e1d675f88cddff9dcbcf331820f4b8";
    let a = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
    let hash = json!([{"pattern": ".", "action": "hash"}]);
    let before = json!({"bool": true, "int": 1, "text": "a", "list": [1], "map": {"a": 1}, "bytes": ["$bytes", "a"]});
    let after = json!({"bool": one, "int": int_one, "text": a, "list": "", "map": "", "bytes": ""});
    check(hash, before, after);
    check(json!([{"key": "none", "action": "hash"}]), json!({"a": ["$empty"]}), json!({"a": ["$empty"]}));
    // Named by key and by pattern it is hashed twice.
    let twice = json!([{"key": "k", "pattern": "k", "action": "hash"}]);
    let hash_of_hash = "da3811154d59c4267077ddd8bb768fa9b06399c486e1fc00485116b57c9872f5";
    check(twice, json!({"k": "a"}), json!({"k": hash_of_hash}));
}

#[test]
fn groups_become_attributes() {
    let extract = |pattern: &str| json!([{"key": "url", "action": "extract", "pattern": pattern}]);
    let parts = r"^(?P<scheme>\w+)://(?P<host>[^/:]+)(?P<port>:\d+)?";
    let before = json!({"url": "http://a.example/x", "host": 5});
    let after = json!({"url": "http://a.example/x", "scheme": "http", "host": "a.example", "port": ""});
    check(extract(parts), before, after);
    check(extract(parts), json!({"url": "nothing"}), json!({"url": "nothing"}));
    check(extract("(?P<first>.)"), json!({"url": 12}), json!({"url": 12}));
    check(extract("(?P<url>o+)"), json!({"url": "foo"}), json!({"url": "oo"}));
}

#[test]
fn values_are_converted() {
    let convert = |to: &str| json!([{"key": "k", "action": "convert", "converted_type": to}]);
    let table = [
        ("int", json!("12"), json!(12)),
        ("int", json!("12.5"), json!("12.5")),
        ("int", json!(12.9), json!(12)),
        ("int", json!(["$double", "NaN"]), json!(i64::MIN)),
        ("int", json!(true), json!(1)),
        ("int", json!([1]), json!([1])),
        ("double", json!("1e3"), json!(["$double", 1000.0])),
        ("double", json!(2), json!(["$double", 2.0])),
        ("double", json!("x"), json!("x")),
        ("string", json!(2), json!("2")),
        ("string", json!(1e21), json!("1e+21")),
        ("string", json!(["$double", "inf"]), json!("Infinity")),
        ("string", json!([1, "a", {"b": null}]), json!(r#"[1,"a",{"b":null}]"#)),
        ("string", json!({"b": 1, "a": 0.5}), json!(r#"{"a":0.5,"b":1}"#)),
        ("string", json!(["$bytes", "a"]), json!("YQ==")),
        ("string", json!(["$empty"]), json!("")),
    ];
    for (to, before, after) in table {
        check(convert(to), json!({"k": before}), json!({"k": after}));
    }
}

#[test]
fn each_action_sees_what_those_before_it_did() {
    let actions = json!([
        {"key": "b", "action": "upsert", "from_attribute": "a"},
        {"key": "a", "action": "delete"},
        {"key": "c", "action": "insert", "from_attribute": "a"},
        {"key": "a", "action": "insert", "value": "back"},
        {"key": "a", "action": "extract", "pattern": "(?P<first>.)"},
        {"key": "first", "action": "update", "value": "7"},
        {"key": "first", "action": "convert", "converted_type": "int"},
    ]);
    check(actions, json!({"a": "x"}), json!({"a": "back", "b": "x", "first": 7}));
}

#[test]
fn nothing_is_left_of_a_key_that_stands_twice() {
    for (action, after) in [("delete", None), ("upsert", Some("new"))] {
        let mut config = json!({"key": "k", "action": action});
        if after.is_some() {
            config["value"] = json!("new");
        }
        let span = Span::new("s").attribute("k", "secret").attribute("k", "secret too");
        let spans = run(&json!({"actions": [config]}), Traces::new().span(span));
        let left: Vec<_> = spans[0].attributes.all("k").filter_map(Value::as_text).collect();
        assert_eq!(left, Vec::from_iter(after));
    }
}

/// Two services; libraries, names, kinds and attributes of four spans.
fn choices() -> Traces {
    let resource = |name: &str| Resource::new().attribute("service.name", name).attribute("zone", "eu");
    Traces::new()
        .resource(resource("shop"))
        .scope(Scope::named("http", "1.0"))
        .span(Span::new("GET /a").kind(SpanKind::Server).attribute("code", 200).attribute("path", "/a"))
        .span(Span::new("GET /b").kind(SpanKind::Client).attribute("code", 404).attribute("ratio", 0.5))
        .resource(Resource::new().attribute("zone", 7))
        .scope(Scope::named("sql", ""))
        .span(Span::new("SELECT").kind(SpanKind::Client).attribute("ok", true).attribute("code", "200"))
        .span(Span::new("job").kind(SpanKind::Internal).attribute("list", Value::Json(LIST.into())))
}

const LIST: &str = r#"{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"a"}]}}"#;

#[test]
fn spans_are_chosen_by_all_that_is_given() {
    let strict = |what: Json| (json!("strict"), what);
    let regexp = |what: Json| (json!("regexp"), what);
    let table = [
        (strict(json!({"services": ["shop", "cart"]})), vec!["GET /a", "GET /b"]),
        (strict(json!({"services": ["<nil-service-name>"]})), vec!["SELECT", "job"]),
        (regexp(json!({"services": ["^s", "nil"]})), vec!["GET /a", "GET /b", "SELECT", "job"]),
        (strict(json!({"span_names": ["job", "GET"]})), vec!["job"]),
        (regexp(json!({"span_names": ["^GET"]})), vec!["GET /a", "GET /b"]),
        (strict(json!({"span_kinds": ["SPAN_KIND_CLIENT"]})), vec!["GET /b", "SELECT"]),
        (regexp(json!({"span_kinds": ["SERVER|INTERNAL"]})), vec!["GET /a", "job"]),
        (strict(json!({"libraries": [{"name": "http"}]})), vec!["GET /a", "GET /b"]),
        (strict(json!({"libraries": [{"name": "http", "version": "2"}]})), vec![]),
        (strict(json!({"libraries": [{"name": "sql", "version": ""}]})), vec!["SELECT", "job"]),
        (regexp(json!({"libraries": [{"name": "h"}, {"name": "p"}]})), vec!["GET /a", "GET /b"]),
        (strict(json!({"libraries": [{"name": "http"}, {"name": "sql"}]})), vec![]),
        (strict(json!({"resources": [{"key": "zone", "value": "eu"}]})), vec!["GET /a", "GET /b"]),
        (regexp(json!({"resources": [{"key": "zone", "value": "^[0-9]$"}]})), vec!["SELECT", "job"]),
        (strict(json!({"attributes": [{"key": "code"}]})), vec!["GET /a", "GET /b", "SELECT"]),
        (strict(json!({"attributes": [{"key": "code", "value": 200}]})), vec!["GET /a"]),
        (strict(json!({"attributes": [{"key": "code", "value": "200"}]})), vec!["SELECT"]),
        (strict(json!({"attributes": [{"key": "ratio", "value": 0.5}]})), vec!["GET /b"]),
        (strict(json!({"attributes": [{"key": "ok", "value": true}]})), vec!["SELECT"]),
        (strict(json!({"attributes": [{"key": "list", "value": [1, "a"]}]})), vec!["job"]),
        (regexp(json!({"attributes": [{"key": "code", "value": "^20"}]})), vec!["GET /a", "SELECT"]),
        (regexp(json!({"attributes": [{"key": "list", "value": "."}]})), vec![]),
        (strict(json!({"attributes": [{"key": "code"}, {"key": "path", "value": "/a"}]})), vec!["GET /a"]),
        (regexp(json!({"services": ["shop"], "span_kinds": ["CLIENT"]})), vec!["GET /b"]),
    ];
    for ((match_type, mut properties), expected) in table {
        properties["match_type"] = match_type;
        let marked = |config: Json| -> Vec<String> {
            let spans = run(&config, choices());
            spans.into_iter().filter(|span| span.get("hit").is_some()).map(|span| span.name).collect()
        };
        let actions = json!([{"key": "hit", "action": "insert", "value": 1}]);
        assert_eq!(marked(json!({"include": properties, "actions": actions})), expected, "{properties}");
        let others: Vec<_> = choices().spans.into_iter().map(|span| span.name).collect();
        let others: Vec<_> = others.into_iter().filter(|name| !expected.contains(&name.as_str())).collect();
        assert_eq!(marked(json!({"exclude": properties, "actions": actions})), others, "{properties}");
    }
}

#[test]
fn what_is_excluded_is_taken_out_of_what_is_included() {
    let config = json!({
        "include": {"match_type": "strict", "services": ["shop"]},
        "exclude": {"match_type": "strict", "span_kinds": ["SPAN_KIND_CLIENT"]},
        "actions": [{"key": "hit", "action": "insert", "value": 1}],
    });
    let spans = run(&config, choices());
    let hits: Vec<_> = spans.iter().filter(|span| span.get("hit").is_some()).map(|span| &span.name).collect();
    assert_eq!(hits, ["GET /a"]);
}

#[test]
fn a_wrong_config_is_refused_at_the_setting() {
    let table = [
        (json!({}), "it needs `actions`"),
        (json!({"actions": []}), "it needs `actions`"),
        (json!({"actions": [{"key": "a"}]}), "actions[0]: an action needs its `action`"),
        (json!({"actions": [{"key": "a", "action": "move"}]}), "actions[0].action: `move` is not known"),
        (json!({"actions": [{"action": "insert", "value": 1}]}), "actions[0]: `insert` needs a `key`"),
        (json!({"actions": [{"action": "delete"}]}), "actions[0]: `delete` needs a `key` or `pattern`"),
        (json!({"actions": [{"key": "a", "action": "insert"}]}), "actions[0]: `insert` needs one of `value`"),
        (json!({"actions": [{"key": "a", "action": "insert", "value": null}]}), "actions[0]: `insert` needs one of"),
        (json!({"actions": [{"key": "a", "action": "upsert", "value": 1, "from_context": "b"}]}), "actions[0]: more"),
        (json!({"actions": [{"key": "a", "action": "update", "value": 1, "pattern": "b"}]}), "actions[0].pattern: "),
        (json!({"actions": [{"key": "a", "action": "hash", "value": 1}]}), "actions[0].value: `hash` does not use it"),
        (json!({"actions": [{"key": "a", "action": "extract"}]}), "actions[0]: `extract` needs a `pattern`"),
        (
            json!({"actions": [{"key": "a", "action": "extract", "pattern": "a"}]}),
            "actions[0].pattern: it has no groups",
        ),
        (json!({"actions": [{"key": "a", "action": "extract", "pattern": "(a)"}]}), "actions[0].pattern: one of its"),
        (json!({"actions": [{"key": "a", "action": "convert"}]}), "actions[0]: `convert` needs a `converted_type`"),
        (
            json!({"actions": [{"key": "a", "action": "convert", "converted_type": "bool"}]}),
            "actions[0].converted_type:",
        ),
        (json!({"actions": [{"pattern": "(a", "action": "delete"}]}), "actions[0].pattern: "),
        (json!({"actions": [{"key": "a", "action": "delete", "kee": 1}]}), "actions[0].kee: unknown key `kee`"),
        (json!({"actions": [{"key": 5, "action": "delete"}]}), "actions[0].key: invalid type: integer `5`"),
        (json!({"actons": []}), "actons: unknown key `actons`"),
    ];
    let refused = |config: &Json| match testing::configure::<Attributes>(&config.to_string()) {
        Ok(_) => panic!("{config} was not refused"),
        Err(rejection) => rejection.to_string(),
    };
    for (config, expected) in table {
        let found = refused(&config);
        assert!(found.starts_with(expected), "{config}\n{found}");
    }
    let table = [
        (json!({"services": ["a"]}), "include: it needs a `match_type`"),
        (json!({"match_type": "glob", "services": ["a"]}), "include.match_type: `glob` is not known"),
        (json!({"match_type": "strict"}), "include: it says nothing of the spans"),
        (json!({"match_type": "strict", "services": []}), "include: it says nothing of the spans"),
        (json!({"match_type": "strict", "span_kinds": ["SERVER"]}), "include.span_kinds[0]: `SERVER` is no kind"),
        (json!({"match_type": "strict", "services": ["a"], "log_bodies": ["b"]}), "include.log_bodies: "),
        (json!({"match_type": "regexp", "services": ["a", "("]}), "include.services[1]: "),
        (json!({"match_type": "regexp", "attributes": [{"key": "a", "value": 1}]}), "include.attributes[0].value: "),
        (json!({"match_type": "strict", "resources": [{"value": 1}]}), "include.resources[0]: an attribute needs a"),
        (json!({"match_type": "regexp", "libraries": [{"name": "("}]}), "include.libraries[0].name: "),
        (
            json!({"match_type": "strict", "libraries": [{"name": "a", "versions": 1}]}),
            "include.libraries[0].versions: ",
        ),
    ];
    for (include, expected) in table {
        let found = refused(&json!({"include": include, "actions": [{"key": "a", "action": "delete"}]}));
        assert!(found.starts_with(expected), "{include}\n{found}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let config =
        r#"{"include": {"match_type": "strict"}, "actions": [{"key": "a", "action": "x"}, {"action": "hash"}]}"#;
    let Err(rejection) = testing::configure::<Attributes>(config) else { panic!("it was not refused") };
    assert_eq!(rejection.text().lines().filter(|line| !line.starts_with("hint: ")).count(), 3);
}
