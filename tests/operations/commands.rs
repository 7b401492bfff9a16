//! The command line.

use std::collections::BTreeSet;
use std::net::TcpListener;

use serde_json::json;

use crate::support::collector::{Ended, Process, vespid};
use crate::support::config::with;
use crate::support::guests::guest;
use crate::support::spans::{names, spans};
use crate::support::{Setup, Sink, request, to};

fn run(arguments: &[&str]) -> Ended {
    Process::spawn(&mut vespid(arguments)).wait()
}

#[test]
fn a_config_comes_from_the_environment_and_is_set_over() {
    let sink = Sink::start();
    let collector = Setup::new()
        .exporter("otlp", with(to("nowhere.invalid:4317"), [("headers", json!({"x-team": "${env:TEAM:-green}"}))]))
        .in_environment()
        .argument(format!("--set=exporters.otlp.endpoint={sink}"))
        .argument("--feature-gates=-some.gate,other.gate,service.partialReload")
        .variable("TEAM", "blue")
        .start();
    collector.send(&request(spans(1))).expect_ok();
    assert_eq!(sink.wait(1)[0].header("x-team"), Some("blue"));
    let ended = collector.finish();
    let warning = "not known here, and without effect: `some.gate`, `other.gate`";
    assert_eq!(ended.log.matches(warning).count(), 1, "{}", ended.log);
}

#[test]
fn several_configs_are_merged() {
    let sink = Sink::start();
    let over = format!("yaml:exporters::otlp::endpoint: {sink}");
    let collector =
        Setup::new().exporter("otlp", to("nowhere.invalid:4317")).argument(format!("--config={over}")).start();
    collector.send(&request(spans(1))).expect_ok();
    sink.wait(1);
    collector.finish();
}

#[test]
fn a_config_that_cannot_be_read_is_told_with_its_reason() {
    let ended = run(&["--config", "/nowhere/collector.yaml"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("error: there is no file `/nowhere/collector.yaml`\nhint: "), "{}", ended.log);
    let ended = run(&[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("error: no config is named\nhint: name one with `--config=FILE`"), "{}", ended.log);
}

#[test]
fn flags_that_do_not_exist_are_refused() {
    let ended = run(&["--konfig=x"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.contains("--config"), "{}", ended.log);
}

#[test]
fn the_version_is_told() {
    for flag in ["--version", "-v"] {
        let ended = run(&[flag]);
        assert_eq!((ended.code, ended.out), (Some(0), format!("vespid {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

/// A sound config that opens nothing, as a URI.
const SOUND: &str = "yaml:{receivers: {nop: }, exporters: {debug: }, service: {telemetry: {metrics: {level: none}}, \
                     pipelines: {traces: {receivers: [nop], exporters: [debug]}}}}";

#[test]
fn flags_may_have_one_dash_or_two_and_their_value_behind_a_blank_or_an_equals_sign() {
    let joined = ["-", "--"].map(|dashes| format!("{dashes}config={SOUND}"));
    for arguments in [vec![joined[0].as_str()], vec![&joined[1]], vec!["-config", SOUND], vec!["--config", SOUND]] {
        let ended = run(&[&["validate"], arguments.as_slice()].concat());
        assert_eq!((ended.code, ended.log.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn gates_that_have_an_effect_are_listed() {
    let ended = run(&["featuregate"]);
    assert_eq!(ended.code, Some(0));
    let lines: Vec<&str> = ended.out.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].contains("Enabled") && lines[0].contains("Stage"), "{}", ended.out);
    assert!(lines[1].starts_with("confmap.enableMergeAppendOption "), "{}", ended.out);
    assert_eq!(run(&["featuregate", "confmap.enableMergeAppendOption"]).out, ended.out);
    let ended = run(&["featuregate", "no.such"]);
    assert_eq!((ended.code, ended.log.trim()), (Some(1), "error: feature gate `no.such` is not known"));
}

#[test]
fn the_gate_that_appends_lists_does_so() {
    let over = "yaml:{receivers: {nop/b: }, exporters: {nop: }, service: {pipelines: {traces: {receivers: [nop/b], exporters: [nop]}}}}";
    let described = |gate: &[&str]| {
        let ended = run(&[&["validate", "--config", SOUND, "--config", over], gate].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        ended.out
    };
    assert!(described(&[]).starts_with("traces: nop/b → nop;"), "{}", described(&[]));
    let appended = described(&["--feature-gates=+confmap.enableMergeAppendOption"]);
    assert!(appended.starts_with("traces: nop, nop/b → debug, nop;"), "{appended}");
}

#[test]
fn the_config_is_printed_as_it_is_merged_and_with_its_secrets_hidden() {
    let secrets = "yaml:exporters: {otlp: {endpoint: 'https://ann:${WORD}@tempo:4317', headers: {x-token: '${WORD}'}}}";
    let print = |arguments: &[&str]| {
        let config =
            ["print-config", "--config", SOUND, "--config", secrets, "--set=service.telemetry.logs.level=debug"];
        let ended = Process::spawn(vespid(&config).args(arguments).env("WORD", "s3cret")).wait();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        ended.out
    };
    let value: serde_yaml::Value = serde_yaml::from_str(&print(&[])).unwrap();
    assert_eq!(value["exporters"]["otlp"]["headers"]["x-token"], "[REDACTED]");
    assert_eq!(value["exporters"]["otlp"]["endpoint"], "https://[REDACTED]@tempo:4317");
    assert_eq!(value["service"]["telemetry"]["logs"]["level"], "debug");
    assert_eq!(value["service"]["pipelines"]["traces"]["receivers"][0], "nop");
    assert!(!print(&["--format", "json"]).contains("s3cret"));
    let value: serde_json::Value = serde_json::from_str(&print(&["--mode=unredacted", "--format=json"])).unwrap();
    assert_eq!(value["exporters"]["otlp"]["headers"]["x-token"], "s3cret");
    assert_eq!(value["exporters"]["debug"], serde_json::Value::Null);
}

#[test]
fn a_config_with_errors_is_printed_all_the_same() {
    let ended = run(&["print-config", "--config", "yaml:{receivers: {nop: }, service: {pipelines: {traces: {}}}}"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.out.starts_with("receivers:\n"), "{}", ended.out);
    assert!(ended.log.contains("must have at least one receiver"), "{}", ended.log);
}

#[test]
fn traces_only_runs_what_there_is_of_traces_in_a_mixed_config() {
    let sink = Sink::start();
    let mixed = || {
        Setup::new()
            .exporter("otlp", to(&sink))
            .receiver("prometheus", json!({"auth": {"authenticator": "oidc"}}))
            .set("connectors.span_metrics", json!({}))
            .set("extensions.oidc", json!({}))
            .set("service.extensions", json!(["health_check", "oidc"]))
            .pipeline("traces", &["otlp"], &[], &["otlp", "span_metrics"])
            .pipeline("metrics", &["prometheus", "span_metrics"], &["filter"], &["nowhere"])
    };
    let refused = mixed().refused();
    assert!(refused.contains("hint: start with `--traces-only`, which leaves such pipelines out"), "{refused}");
    for unknown in ["prometheus", "span_metrics", "oidc"] {
        assert!(refused.contains(&format!("unknown type: \"{unknown}\"")), "{refused}");
    }
    let collector = mixed().argument("--traces-only").start();
    collector.send(&request(spans(2))).expect_ok();
    assert_eq!(sink.only().resource_spans.len(), 1);
    assert_eq!(collector.health().status, 200);
    let ended = collector.finish();
    let left_out = "left out, as `--traces-only` asks: pipeline `metrics`; receiver `prometheus`; \
                    connector `span_metrics`; extension `oidc`";
    assert_eq!(ended.log.matches(left_out).count(), 1, "{}", ended.log);
    assert_eq!(ended.log.matches("connector `span_metrics` leads to what").count(), 1, "{}", ended.log);
}

#[test]
fn components_are_listed_as_yaml() {
    let ended = run(&["components"]);
    assert_eq!(ended.code, Some(0));
    let listed: serde_yaml::Value = serde_yaml::from_str(&ended.out).unwrap();
    assert_eq!(listed["buildinfo"]["command"], "vespid");
    assert_eq!(listed["buildinfo"]["version"], env!("CARGO_PKG_VERSION"));
    let names = |kind: &str| -> BTreeSet<String> {
        let components = listed[kind].as_sequence().unwrap().iter();
        components.map(|component| component["name"].as_str().unwrap().to_owned()).collect()
    };
    for (kind, expected) in [
        ("receivers", &["nop", "otlp"][..]),
        ("processors", &["wasm"]),
        ("connectors", &["forward"]),
        ("exporters", &["debug", "otlp", "otlp_grpc", "otlp_http", "otlphttp"]),
        ("extensions", &["health_check"]),
    ] {
        let names = names(kind);
        assert!(expected.iter().all(|name| names.contains(*name)), "{kind}: {names:?}");
    }
    let of = |kind: &str, name: &str| {
        let components = listed[kind].as_sequence().unwrap();
        components.iter().find(|component| component["name"] == name).unwrap().clone()
    };
    assert_eq!(of("receivers", "otlp")["module"], concat!("github.com/vespid/vespid v", env!("CARGO_PKG_VERSION")));
    assert_eq!(of("receivers", "otlp")["stability"]["traces"], "Beta");
    assert_eq!(of("connectors", "forward")["stability"]["traces-to-traces"], "Beta");
    assert_eq!(of("extensions", "health_check")["stability"]["extension"], "Beta");
    assert_eq!(of("exporters", "otlp")["deprecated_alias_of"], "otlp_grpc");
    assert_eq!(of("exporters", "otlp")["stability"]["traces"], "Deprecated");
}

#[test]
fn send_sends_sample_spans() {
    let sink = Sink::start();
    let ended = run(&["send", "--endpoint", &sink.to_string(), "--count", "2", "--interval", "1ms"]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ended.out);
    for (line, received) in lines.iter().zip(sink.wait(2)) {
        let trace = line.strip_prefix("sent 3 spans; trace ").unwrap();
        let sent = received.request();
        assert_eq!(names(&sent), ["POST /orders", "INSERT orders", "GET /healthz"]);
        let order = &sent.resource_spans[0].scope_spans[0].spans[0];
        let id: String = order.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(id, trace);
    }
}

#[test]
fn send_says_why_it_could_not() {
    let down = crate::support::sink::Down::new();
    let ended = run(&["send", "--endpoint", &format!("http://{}", down.address())]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("the spans were not taken") && ended.log.contains("efused"), "{}", ended.log);
    let ended = run(&["send", "--endpoint", "no endpoint"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("`http://no endpoint` is no endpoint"), "{}", ended.log);
}

#[test]
fn the_quickstart_shows_spans_before_and_after_the_plugin() {
    // It listens on the ports that everybody knows, which may be in use here.
    for port in [4317, 4318, 8888] {
        if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
            eprintln!("skipped: port {port}: {error}");
            return;
        }
    }
    let module = guest("tidy");
    let ended = run(&["quickstart", "--once", "--module", module.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let shown = format!("{}{}", ended.out, ended.log);
    let block = |id: &str, spans: usize| {
        let head = format!("{{\"otelcol.component.id\": \"{id}\", \"resource spans\": 1, \"spans\": {spans}}}");
        let mut blocks = shown.split("Traces\t").filter(|block| block.starts_with(&head));
        blocks.next().unwrap_or_else(|| panic!("{head} is not in\n{shown}"))
    };
    let (before, after) = (block("debug/before", 3), block("debug/after", 2));
    for part in ["ada@example.org", "GET /healthz"] {
        assert!(before.contains(part) && !after.contains(part), "{shown}");
    }
    assert!(after.contains("****") && shown.contains("3/3"), "{shown}");
}
