//! The plugins inside the binary: the example of each page does what the page
//! says, under the Collector's name and as a module.

use prost::Message as _;
use serde_json::{Map, Value as Json, json};

use crate::support::config::with;
use crate::support::proto::framed;
use crate::support::send::Call;
use crate::support::spans::{Request, pair, request, text};
use crate::support::{Setup, Sink, root, span};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

/// The blocks of a language in a page, in order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The example of a plugin's page: its config, attributes before and after.
fn example(plugin: &str) -> (Json, Json, Json) {
    let page = std::fs::read_to_string(root().join("plugins").join(plugin).join("README.md")).unwrap();
    let config: Json = serde_yaml::from_str(&blocks(&page, "yaml")[0]).unwrap();
    let json = blocks(&page, "json");
    let [before, after] = [0, 1].map(|at| serde_json::from_str(&json[at]).unwrap());
    (config["processors"][plugin].clone(), before, after)
}

fn attributes(from: &Json) -> Vec<KeyValue> {
    let pairs = from.as_object().unwrap().iter();
    let value = |key: &str, value: &Json| match value {
        Json::String(it) => text(key, it),
        Json::Bool(it) => pair(key, Value::BoolValue(*it)),
        it => pair(key, Value::IntValue(it.as_i64().unwrap())),
    };
    pairs.map(|(key, it)| value(key, it)).collect()
}

fn shown(attributes: &[KeyValue]) -> Json {
    let value = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(it)) => json!(it),
        Some(Value::BoolValue(it)) => json!(it),
        Some(Value::IntValue(it)) => json!(it),
        other => panic!("{other:?}"),
    };
    let map: Map<String, Json> = attributes.iter().map(|pair| (pair.key.clone(), value(pair))).collect();
    assert_eq!(map.len(), attributes.len(), "no key comes twice");
    Json::Object(map)
}

/// The two ways to name a bundled plugin.
fn both(plugin: &str, config: &Json) -> [(String, Json); 2] {
    let module = json!({"module": format!("builtin:{plugin}"), "config": config});
    [(plugin.to_owned(), config.clone()), (format!("wasm/{plugin}"), module)]
}

fn through(id: &str, settings: Json, sent: &Request) -> Request {
    let sink = Sink::start();
    let collector = Setup::line(&sink).processor(id, settings).start();
    collector.send(sent).expect_ok();
    sink.only()
}

#[test]
fn the_example_of_attributes_does_what_its_page_says() {
    let (config, before, after) = example("attributes");
    let mut one = span("GET /cart");
    one.attributes = attributes(&before);
    let mut sent = request(vec![one]);
    sent.resource_spans[0].resource.as_mut().unwrap().attributes = vec![text("service.name", "shop-cart")];
    let mut other = sent.clone();
    other.resource_spans[0].resource.as_mut().unwrap().attributes = vec![text("service.name", "bank")];
    for (id, settings) in both("attributes", &config) {
        let received = through(&id, settings.clone(), &sent);
        assert_eq!(shown(&received.resource_spans[0].scope_spans[0].spans[0].attributes), after, "{id}");
        assert_eq!(through(&id, settings, &other), other, "{id}: another service");
    }
}

#[test]
fn the_example_of_resource_does_what_its_page_says() {
    let (config, before, after) = example("resource");
    let mut sent = request(vec![span("GET /cart")]);
    sent.resource_spans[0].resource.as_mut().unwrap().attributes = attributes(&before);
    for (id, settings) in both("resource", &config) {
        let received = through(&id, settings, &sent);
        assert_eq!(shown(&received.resource_spans[0].resource.as_ref().unwrap().attributes), after, "{id}");
        assert_eq!(received.resource_spans[0].scope_spans, sent.resource_spans[0].scope_spans);
    }
}

#[test]
fn what_a_sender_is_known_by_can_be_set_as_an_attribute() {
    let sink = Sink::start();
    let actions = json!([
        {"key": "from", "action": "insert", "from_context": "client.address"},
        {"key": "team", "action": "insert", "from_context": "metadata.X-Team"},
        {"key": "user", "action": "insert", "from_context": "auth.username"},
    ]);
    let password = json!({"htpasswd": {"inline": "ann:secret"}});
    let collector = Setup::line(&sink)
        .set("extensions.basicauth", password)
        .set("service.extensions", json!(["health_check", "basicauth"]))
        .set("receivers.otlp.protocols.grpc.include_metadata", json!(true))
        .set("receivers.otlp.protocols.grpc.auth", json!({"authenticator": "basicauth"}))
        .processor("attributes", with(json!({}), [("actions", actions)]))
        .start();
    let call = Call::grpc(collector.grpc());
    let call = call.header("x-team", "a").header("authorization", "Basic YW5uOnNlY3JldA==");
    call.call(framed(&request(vec![span("s")]).encode_to_vec())).expect_ok();
    let received = sink.only();
    let found = shown(&received.resource_spans[0].scope_spans[0].spans[0].attributes);
    assert_eq!(found["from"], "127.0.0.1");
    assert_eq!(found["team"], "a");
    assert_eq!(found["user"], "ann");
}
