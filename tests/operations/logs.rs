//! The collector's log: its shape, its places, and what runbooks look for in it.

use regex::Regex;
use serde_json::{Value, json};

use crate::support::config::with;
use crate::support::sink::Down;
use crate::support::spans::spans;
use crate::support::{Collector, Reply, Setup, Sink, plugin, request, to, wait_for};

/// A line of the console, as the Collector's log pipelines take it apart.
fn console(line: &str) -> (String, String, Value) {
    let shape = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t(debug|info|warn|error)\t([^\t]+)(?:\t(\{.*\}))?$";
    let shape = Regex::new(shape).unwrap();
    let found = shape.captures(line).unwrap_or_else(|| panic!("`{line}` is no line"));
    let fields = found.get(3).map_or(json!({}), |fields| serde_json::from_str(fields.as_str()).unwrap());
    (found[1].to_owned(), found[2].to_owned(), fields)
}

#[test]
fn logs_may_be_json_lines() {
    let failing = plugin("hostile", json!({"mode": "panic"}));
    let mut collector = Setup::new()
        .exporter("debug", json!({}))
        .processor("wasm/hostile", failing)
        .set(
            "service.telemetry.logs",
            json!({"encoding": "json", "level": "DEBUG", "initial_fields": {"team": "blue"}}),
        )
        .start();
    collector.wait_for_log("Everything is ready");
    let log = collector.log();
    for line in log.lines() {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let shape = r#"^\{"level":"(debug|info|warn|error)","ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","msg":"#;
        assert!(Regex::new(shape).unwrap().is_match(line), "{line}");
        assert_eq!(parsed["team"], "blue", "{line}");
    }
    collector.stop();
}

#[test]
fn a_line_of_the_console_has_the_collectors_parts_and_names_its_component() {
    let sink = Sink::start();
    let said = plugin("script", json!({"steps": [{"op": "log", "level": "warn", "message": "one\n\ttwo"}]}));
    let collector = Setup::line(&sink).processor("wasm/said", said).start();
    collector.send(&request(spans(1))).expect_ok();
    let log = collector.finish().log;
    let lines: Vec<_> = log.lines().map(console).collect();
    let of = |part: &str| lines.iter().find(|(_, message, _)| message.contains(part)).expect(&log);
    let (level, message, fields) = of("one");
    assert_eq!((level.as_str(), message.as_str()), ("warn", r"one\n\ttwo"));
    let expected = json!({
        "otelcol.component.id": "wasm/said",
        "otelcol.component.kind": "processor",
        "otelcol.pipeline.id": "traces",
        "otelcol.signal": "traces",
    });
    assert_eq!(*fields, expected);
    let (_, _, fields) = of("receiving OTLP over gRPC");
    assert_eq!(
        (&fields["otelcol.component.id"], &fields["otelcol.component.kind"]),
        (&json!("otlp"), &json!("receiver"))
    );
    let (_, message, fields) = of("Everything is ready");
    assert_eq!(message, "Everything is ready. Begin running and processing data.");
    assert_eq!(*fields, json!({}));
}

#[test]
fn failures_are_told_in_the_words_that_runbooks_look_for() {
    let sink = Sink::start();
    sink.answer_next([Reply::grpc(tonic::Code::Unavailable, "busy"), Reply::grpc(tonic::Code::InvalidArgument, "no")]);
    let collector =
        Setup::line(&sink).set("exporters.otlp.sending_queue", json!({"queue_size": 4, "sizer": "items"})).start();
    collector.send(&request(spans(3)));
    collector.send(&request(spans(5)));
    let log = collector.finish().log;
    let lines: Vec<_> = log.lines().map(console).collect();
    let of = |part: &str| lines.iter().filter(|(_, message, _)| message == part).collect::<Vec<_>>();
    let retries = of("Exporting failed. Will retry the request after interval.");
    let [(level, _, fields)] = retries.as_slice() else { panic!("{log}") };
    assert_eq!((level.as_str(), &fields["otelcol.component.kind"]), ("info", &json!("exporter")));
    assert!(fields["interval"].is_string() && fields["error"].as_str().unwrap().contains("busy"), "{fields}");
    let rejected = of("Exporting failed. Rejecting data.");
    let [(level, _, first), (_, _, second)] = rejected.as_slice() else { panic!("{log}") };
    assert_eq!((level.as_str(), &first["rejected_items"], &second["rejected_items"]), ("error", &json!(3), &json!(5)));
}

#[test]
fn logs_go_where_they_are_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one.log"), folder.path().join("other.log"));
    std::fs::write(&one, "what was there\n").unwrap();
    let paths = json!(["stdout", "stderr", one, format!("file://{}", other.display())]);
    let logs = json!({"output_paths": paths, "disable_caller": true, "disable_stacktrace": true, "development": false});
    let sink = Sink::start();
    let collector = Setup::line(&sink).set("service.telemetry.logs", logs).start();
    let ended = collector.finish();
    assert_eq!(ended.out, ended.log);
    assert_eq!(std::fs::read_to_string(one).unwrap(), format!("what was there\n{}", ended.log));
    assert_eq!(std::fs::read_to_string(other).unwrap(), ended.log);
    let logs = json!({"output_paths": [folder.path().join("no/such/folder.log")]});
    let log = Setup::line(&sink).set("service.telemetry.logs", logs).refused();
    assert!(log.contains("error: service.telemetry.logs: `") && log.contains("folder.log` cannot be opened"), "{log}");
}

#[test]
fn the_level_hides_what_is_below_it() {
    let sink = Sink::start();
    let setup = Setup::line(&sink)
        .set("extensions.pprof", json!({}))
        .set("service.extensions", json!(["health_check", "pprof"]))
        .set("service.telemetry.logs.level", json!("WARN"));
    let mut process = Collector::spawn(setup);
    // Only a warning tells that it has come so far.
    process.wait_for_log("extensions.pprof");
    process.signal(libc::SIGTERM);
    let ended = process.wait();
    let levels: Vec<_> = ended.log.lines().map(|line| console(line).0).collect();
    assert_eq!(levels, ["warn"], "{}", ended.log);
}

#[test]
fn a_repeated_line_is_thinned() {
    let down = Down::new();
    let exporter = with(to(down.address()), [("retry_on_failure", json!({"enabled": false}))]);
    let setup = Setup::new().exporter("otlp", exporter);
    let sampling = json!({"enabled": true, "tick": "1h", "initial": 2, "thereafter": 3});
    let collector = setup.set("service.telemetry.logs.sampling", sampling).start();
    for _ in 0..9 {
        collector.send(&request(spans(1)));
    }
    let log = collector.finish().log;
    // The first two, then the fifth and the eighth.
    assert_eq!(log.matches("Exporting failed. Rejecting data.").count(), 4, "{log}");
}

#[test]
fn a_repeated_line_is_not_thinned_where_sampling_is_off() {
    let down = Down::new();
    let exporter = with(to(down.address()), [("retry_on_failure", json!({"enabled": false}))]);
    let setup = Setup::new().exporter("otlp", exporter);
    let collector = setup.set("service.telemetry.logs.sampling", json!({"enabled": false})).start();
    for _ in 0..15 {
        collector.send(&request(spans(1)));
    }
    wait_for("fifteen lines", || {
        (collector.log().matches("Exporting failed. Rejecting data.").count() == 15).then_some(())
    });
    collector.finish();
}
