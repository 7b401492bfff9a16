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
        .argument("--feature-gates=-some.gate,other.gate")
        .variable("TEAM", "blue")
        .start();
    collector.send(&request(spans(1))).expect_ok();
    assert_eq!(sink.wait(1)[0].header("x-team"), Some("blue"));
    let ended = collector.finish();
    assert!(ended.log.contains("feature gates have no effect"), "{}", ended.log);
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
    let ended = run(&["--version"]);
    assert_eq!((ended.code, ended.out), (Some(0), format!("vespid {}\n", env!("CARGO_PKG_VERSION"))));
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
        ("receivers", &["otlp"][..]),
        ("processors", &["wasm"]),
        ("exporters", &["debug", "otlp", "otlp_grpc", "otlp_http", "otlphttp"]),
        ("extensions", &["health_check"]),
    ] {
        let names = names(kind);
        assert!(expected.iter().all(|name| names.contains(*name)), "{kind}: {names:?}");
    }
    assert!(listed["connectors"].is_sequence());
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
