//! The same plugin in four languages: each does the same to the same spans,
//! refuses the same configs, and says where it failed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use serde_json::{Value as Json, json};

use crate::clients::server::skipped;
use crate::support::collector::vespid;
use crate::support::config::with;
use crate::support::guests::{guest, in_language};
use crate::support::spans::{Request, Span, attribute, int, names, pair, spans, text};
use crate::support::{Collector, Setup, Sink, request, root, span};

const LANGUAGES: [&str; 4] = ["rust", "python", "javascript", "go"];

/// The settings of `tidy` or `fails` in a language, compiled already; `None`
/// where the language's tools are absent.
fn plugin(language: &str, name: &str, config: Json) -> Option<Json> {
    let module = match language {
        "rust" => guest(name),
        _ => match in_language(language, name) {
            Ok(module) => module,
            Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{language}: {why}"),
            Err(why) => {
                skipped(&format!("{language}: {why}"));
                return None;
            }
        },
    };
    compile(&module);
    // A busy machine must not turn a slow language into a failing one.
    Some(json!({"module": module, "config": config, "limits": {"deadline": "10s"}}))
}

/// Puts the module's native code into the cache that all collectors share: for
/// Python that takes longer than any test waits for a collector to start.
fn compile(module: &Path) {
    static COMPILED: Mutex<Vec<String>> = Mutex::new(vec![]);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let module = module.display().to_string();
    if !compiled.contains(&module) {
        let config = Setup::new()
            .processor("wasm/compiled", json!({"module": module, "config": {"table": {}}}))
            .exporter("nop", json!({}))
            .text();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("collector.yaml");
        fs::write(&file, config).unwrap();
        // Whether `config` suits the plugin does not matter.
        vespid(&["validate", "--config"]).arg(&file).output().expect("the binary can be run");
        compiled.push(module);
    }
}

/// Runs a test for each language that is here.
#[track_caller]
fn in_each(name: &str, config: Json, test: impl Fn(&str, Json)) {
    for language in LANGUAGES {
        if let Some(plugin) = plugin(language, name, config.clone()) {
            test(language, plugin);
        }
    }
}

fn with_text(name: &str, key: &str, value: &str) -> Span {
    Span { attributes: vec![text(key, value)], ..span(name) }
}

/// Names and what to expect of them: `true` for a span that stays.
const CHECKS: [(&str, &str, &str, bool); 14] = [
    ("GET /healthz", "k", "", false),
    ("/livez", "k", "", false),
    ("HEAD  /readyz", "k", "", false),
    ("grpc.health.v1.Health/Check", "k", "", false),
    ("probe", "url.path", "/readyz", false),
    ("GET", "http.target", "/livez?verbose", false),
    ("GET", "http.route", "/healthz", false),
    ("GET /healthz", "url.path", "/healthz", false),
    ("GET /healthz/deep", "k", "", true),
    ("healthz", "k", "", true),
    ("GET /healthz ", "k", "", true),
    ("GET /orders", "url.path", "/orders/healthz", true),
    ("GET /orders", "url.full", "/healthz", true),
    ("", "url.path", "", true),
];

#[test]
fn in_every_language_the_example_drops_health_checks_and_nothing_else() {
    in_each("tidy", json!({}), |language, plugin| {
        let sink = Sink::start();
        let collector = Setup::line(&sink).processor("wasm/tidy", plugin).start();
        let sent: Vec<Span> = CHECKS.iter().map(|(name, key, value, _)| with_text(name, key, value)).collect();
        collector.send(&request(sent.clone())).expect_ok();
        let stays: Vec<Span> =
            sent.into_iter().zip(CHECKS).filter(|(_, check)| check.3).map(|(span, _)| span).collect();
        assert_eq!(sink.only(), request(stays), "{language}");
        let dropped = [("processor", "wasm/tidy"), ("reason", "health check")];
        assert_eq!(collector.metrics().sum("vespid_processor_dropped_spans", &dropped), 8, "{language}");
        collector.finish();
    });
}

#[test]
fn in_every_language_the_example_does_as_its_config_says() {
    let config = json!({"health_checks": ["/ping", "Käse"], "set": {"key": "mail", "value": "ops@example.org"}});
    in_each("tidy", config, |language, plugin| {
        let sink = Sink::start();
        let collector = Setup::line(&sink).processor("wasm/tidy", plugin).start();
        let mut twice = span("twice");
        twice.attributes = vec![text("mail", "ann@example.org"), int("other", 1), text("mail", "bob@example.org")];
        let sent = vec![span("GET /ping"), span("GET Käse"), span("GET /healthz"), twice.clone(), span("last")];
        collector.send(&request(sent.clone())).expect_ok();
        // One attribute of the key, in the first one's place, and as the config has it.
        twice.attributes = vec![text("mail", "ops@example.org"), int("other", 1)];
        let mut expected = vec![sent[2].clone(), twice, sent[4].clone()];
        expected[0].attributes.push(text("mail", "ops@example.org"));
        expected[2].attributes.push(text("mail", "ops@example.org"));
        assert_eq!(sink.only(), request(expected), "{language}");
        collector.finish();
    });
}

/// Texts, and the same without addresses.
const TEXTS: [(&str, &str); 12] = [
    ("ann@example.org", "****"),
    ("mail ann@example.org now", "mail **** now"),
    ("from a.b+c@x.example, to d_e%f@y-z.example.", "from ****, to ****."),
    ("für jürgen@müller.example", "für ****"),
    ("a@b.c@d.e", "****@d.e"),
    ("<ann@mail.example.org>;bob@example.org", "<****>;****"),
    ("user@localhost", "user@localhost"),
    ("@b.c a@ @ 2 @ 3.50", "@b.c a@ @ 2 @ 3.50"),
    ("a@.b", "a@.b"),
    ("", ""),
    ("\u{0}ann@example.org\u{0}", "\u{0}****\u{0}"),
    ("https://ann@example.org:443/?to=bob%40example.org", "https://****:443/?to=bob%40example.org"),
];

/// A request that holds these texts wherever text can be.
fn texts(of: impl Fn(usize) -> &'static str) -> Request {
    let attributes = || (0..TEXTS.len()).map(|number| text(&format!("k{number}"), of(number))).collect::<Vec<_>>();
    let nested = KeyValueList { values: vec![text("in a list", "ann@example.org")] };
    let mut span = Span { span_id: vec![3; 8], trace_id: vec![4; 16], ..span("ann@example.org stays in a name") };
    span.attributes = attributes();
    span.attributes.extend([text("twice", of(0)), text("twice", of(1)), int("number", 1)]);
    span.attributes.push(pair("nested", Value::KvlistValue(nested)));
    span.attributes.push(KeyValue { key: "no value".into(), ..KeyValue::default() });
    span.events = vec![Event { name: "e".into(), attributes: attributes(), ..Event::default() }];
    let (trace_id, span_id) = (vec![7; 16], vec![7; 8]);
    span.links = vec![Link { trace_id, span_id, attributes: attributes(), ..Link::default() }];
    let mut request = request(vec![span]);
    let resource = &mut request.resource_spans[0];
    resource.resource.as_mut().unwrap().attributes.extend(attributes());
    let scope = InstrumentationScope { name: "tests".into(), attributes: attributes(), ..Default::default() };
    resource.scope_spans[0].scope = Some(scope);
    request
}

#[test]
fn in_every_language_the_example_masks_addresses_wherever_text_is() {
    in_each("tidy", json!({}), |language, plugin| {
        let sink = Sink::start();
        let collector = Setup::line(&sink).processor("wasm/tidy", plugin).start();
        collector.send(&texts(|number| TEXTS[number].0)).expect_ok();
        assert_eq!(sink.only(), texts(|number| TEXTS[number].1), "{language}");
        collector.finish();
    });
}

#[test]
fn in_every_language_the_example_says_what_is_wrong_in_its_config() {
    let wrong = [
        (json!({"helth_checks": []}), "helth_checks: unknown key `helth_checks`"),
        (json!({"set": {"kee": "a", "value": "b"}}), "set.kee: unknown key `kee`"),
        (json!({"set": {"key": "a"}}), "set: missing field `value`"),
        (json!({"set": {"key": "", "value": "b"}}), "set.key: is empty"),
        (json!({"set": {"key": "a", "value": 3}}), "set.value: invalid type: `3`, expected a string"),
        (json!({"set": {"key": "a", "value": null}}), "set.value: invalid type: `null`, expected a string"),
        (json!({"set": "a"}), "set: invalid type: `\"a\"`, expected an object"),
        (json!({"health_checks": "/ping"}), "health_checks: invalid type: `\"/ping\"`, expected a list"),
        (json!({"health_checks": ["/ping", true]}), "health_checks[1]: invalid type: `true`, expected a string"),
    ];
    for (config, told) in wrong {
        in_each("tidy", config, |language, plugin| {
            let said = Setup::new().processor("wasm/tidy", plugin).exporter("nop", json!({})).refused();
            // The Rust one has serde's words for a type: "integer `3`, expected a string".
            let told = if language == "rust" { told.split(" type: ").next().unwrap() } else { told };
            assert!(said.starts_with(&format!("error: processors.wasm/tidy.config.{told}")), "{language}: {said}");
            assert!(said.contains("collector.yaml:"), "{language}: {said}");
            if told.contains("unknown key") {
                assert!(said.contains("\nhint: known here: `"), "{language}: {said}");
            }
        });
    }
}

/// Where a defective plugin fails: its file, and the line with this remark.
fn place(language: &str, remark: &str) -> String {
    // The Go one stands in the place of the example's own file.
    let (source, told) = match language {
        "rust" => ("src/lib.rs", "fails/src/lib.rs"),
        "python" => ("fails.py", "fails.py"),
        "javascript" => ("fails.js", "fails.js"),
        _ => ("fails.go", "tidy.go"),
    };
    let text = fs::read_to_string(root().join("tests/guests/fails").join(source)).unwrap();
    let line = text.lines().position(|line| line.contains(remark)).expect("the remark is there");
    format!("{told}:{}", line + 1)
}

/// What each language calls the defect.
fn defect(language: &str, phase: &str) -> String {
    let place = place(language, &format!("fails in {phase}"));
    let nil = "panic: runtime error: invalid memory address or nil pointer dereference";
    match (language, phase) {
        ("rust", "configure") => format!("panicked at {place}: there is a table"),
        ("rust", _) => format!("panicked at {place}: every name is known"),
        ("python", "configure") => format!("KeyError: 'table' at {place}"),
        ("python", _) => format!("KeyError: 'GET /unknown' at {place}"),
        ("javascript", "configure") => format!("TypeError: Cannot convert undefined or null to object at {place}"),
        ("javascript", _) => format!("TypeError: cannot read property 'tag' of undefined at {place}"),
        _ => format!("{nil} at {place}"),
    }
}

/// A collector whose plugin knows no span but `GET /known`, and its sink.
fn defective(plugin: Json, on_error: &str) -> (Collector, Sink) {
    let sink = Sink::start();
    let plugin = with(plugin, [("on_error", json!(on_error))]);
    (Setup::line(&sink).processor("wasm/fails", plugin).start(), sink)
}

fn known() -> Json {
    json!({"table": {"GET /known": {"tag": "found"}, "GET /null": null}})
}

#[test]
fn a_defect_in_any_language_reaches_the_log_with_its_place_and_spoils_one_batch() {
    let known = json!({"table": {"GET /known": {"tag": "found"}}});
    in_each("fails", known, |language, plugin| {
        for on_error in ["pass", "drop", "refuse"] {
            let (mut collector, sink) = defective(plugin.clone(), on_error);
            let sent = collector.send(&request(vec![span("GET /known"), span("GET /unknown")]));
            match on_error {
                "refuse" => sent.expect(tonic::Code::Unavailable, "processor `wasm/fails`"),
                _ => drop(sent.expect_ok()),
            }
            collector.send(&request(vec![span("GET /known")])).expect_ok();
            let arrived = sink.wait(if on_error == "pass" { 2 } else { 1 });
            if on_error == "pass" {
                let spoilt = arrived[0].request();
                assert_eq!(names(&spoilt), ["GET /known", "GET /unknown"], "{language}");
                assert!(spoilt.resource_spans[0].scope_spans[0].spans.iter().all(|span| span.attributes.is_empty()));
            }
            let last = arrived.last().unwrap().request();
            assert_eq!(attribute(&last.resource_spans[0].scope_spans[0].spans[0], "tag"), Some("found"), "{language}");
            collector.wait_for_log(&format!("the plugin failed on a batch of 2 spans (on_error: {on_error})"));
            collector.wait_for_log(&defect(language, "process"));
            let reason = if language == "rust" { "trap" } else { "rejection" };
            let failed = [("processor", "wasm/fails"), ("reason", reason)];
            assert_eq!(collector.metrics().sum("vespid_plugin_failures", &failed), 1, "{language}");
            let dropped = if on_error == "drop" { 2 } else { 0 };
            let by_error = [("processor", "wasm/fails"), ("reason", "on_error")];
            assert_eq!(collector.metrics().sum("vespid_processor_dropped_spans", &by_error), dropped, "{language}");
            collector.finish();
        }
    });
}

#[test]
fn what_javascript_throws_need_not_be_an_error() {
    let Some(plugin) = plugin("javascript", "fails", known()) else { return };
    let (mut collector, sink) = defective(plugin, "pass");
    collector.send(&request(vec![span("GET /null")])).expect_ok();
    assert_eq!(names(&sink.only()), ["GET /null"]);
    collector.wait_for_log("rejected: thrown: {\"code\":3}");
    collector.finish();
}

#[test]
fn a_defect_at_the_start_is_told_with_its_place_in_any_language() {
    in_each("fails", json!({}), |language, plugin| {
        let said = Setup::new().processor("wasm/fails", plugin).exporter("nop", json!({})).refused();
        assert!(said.contains(&defect(language, "configure")), "{language}: {said}");
    });
}

/// Go keeps what imports give until it is told otherwise, and the memory of a
/// plugin that grows is given up by the collector: here none is.
#[test]
fn in_every_language_the_example_lives_on_through_a_thousand_batches() {
    in_each("tidy", json!({"set": {"key": "k", "value": "v"}}), |language, plugin| {
        let sink = Sink::start();
        let collector = Setup::line(&sink).processor("wasm/tidy", plugin).start();
        let mut spans = spans(100);
        for span in &mut spans {
            span.attributes = vec![text("url.path", &"/a/long/path".repeat(40)), text("mail", "ann@example.org")];
        }
        let request = request(spans);
        for _ in 0..1000 {
            collector.send(&request).expect_ok();
        }
        let metrics = collector.metrics();
        let mut of = BTreeMap::new();
        for name in ["calls", "failures", "instances_recycled"] {
            of.insert(name, metrics.sum(&format!("vespid_plugin_{name}"), &[]));
        }
        assert_eq!(of, BTreeMap::from([("calls", 1000), ("failures", 0), ("instances_recycled", 0)]), "{language}");
        collector.finish();
    });
}
