//! Three hostile plugins beside a healthy chain, under load: one loops, one leaks,
//! one traps. Nothing healthy is lost, and nothing of theirs either.

use std::collections::HashSet;

use serde_json::{Value as Json, json};

use crate::support::config::with;
use crate::support::proto::framed;
use crate::support::send::Call;
use crate::support::spans::{Request, all, request, text};
use crate::support::{Collector, Setup, Sink, plugin, span, to};
use prost::Message as _;

/// Batches that each sender sends.
const BATCHES: u8 = 60;
const SENDERS: u8 = 4;
const SPANS: u8 = 8;

fn hostile(mode: &str) -> Json {
    let limits = [("limits.deadline", json!("100ms")), ("limits.memory", json!("16MiB"))];
    let every = if mode == "leak" { 1 } else { 10 };
    with(plugin("hostile", json!({"mode": mode, "every": every})), limits)
}

/// Spans whose ids say where they come from, with an address to mask.
fn batch(line: u8, sender: u8, number: u8) -> Request {
    let spans = (0..SPANS).map(|at| {
        let mut span = span("GET /cart");
        span.trace_id = [[line + 1, sender, number].as_slice(), &[1; 13]].concat();
        span.span_id = [[line + 1, sender, number, at].as_slice(), &[1; 4]].concat();
        span.attributes = vec![text("user.email", "ann@example.org"), text("secret", "x")];
        span
    });
    request(spans.collect())
}

/// Sends all batches of a line, some at a time; every one is acknowledged.
fn load(collector: &Collector, line: u8, receiver: &str) {
    let address = collector.grpc_of(receiver);
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            scope.spawn(move || {
                for number in 0..BATCHES {
                    let message = framed(&batch(line, sender, number).encode_to_vec());
                    collector.offer(usize::from(SPANS));
                    Call::grpc(address).call(message).expect_ok();
                }
            });
        }
    });
}

#[test]
fn nothing_healthy_is_lost_beside_plugins_that_loop_and_leak_and_trap() {
    let lines = [("healthy", None), ("loops", Some("loop")), ("leaks", Some("leak")), ("traps", Some("trap"))];
    let sinks: Vec<Sink> = lines.iter().map(|_| Sink::start()).collect();
    let actions = json!([{"key": "env", "action": "upsert", "value": "prod"}, {"key": "secret", "action": "delete"}]);
    let mut setup = Setup::new()
        .processor("attributes", json!({"actions": actions}))
        .processor("redaction", json!({"allow_all_keys": true, "blocked_values": ["[a-z]+@[a-z.]+"]}));
    for ((name, mode), sink) in lines.iter().zip(&sinks) {
        let (receiver, exporter) = (format!("otlp/{name}"), format!("otlp/{name}"));
        let hostile_id = format!("wasm/{name}");
        setup = setup
            .receiver(&receiver, json!({"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}))
            .exporter(&exporter, to(sink));
        let mut processors = vec!["attributes", "redaction"];
        if let Some(mode) = mode {
            setup = setup.processor(&hostile_id, hostile(mode));
            processors = vec![&hostile_id];
        }
        setup = setup.pipeline(&format!("traces/{name}"), &[&receiver], &processors, &[&exporter]);
    }
    let collector = setup.start();
    std::thread::scope(|scope| {
        for (line, (name, _)) in (0..).zip(lines) {
            let collector = &collector;
            scope.spawn(move || load(collector, line, &format!("otlp/{name}")));
        }
    });
    let sent = u64::from(SENDERS) * u64::from(BATCHES);
    for ((name, mode), sink) in lines.iter().zip(&sinks) {
        let received = sink.wait(sent as usize);
        let requests: Vec<Request> = received.iter().map(|it| it.request()).collect();
        let spans: Vec<_> = requests.iter().flat_map(all).collect();
        let ids: HashSet<_> = spans.iter().map(|span| &span.span_id).collect();
        assert_eq!(
            (spans.len() as u64, ids.len() as u64),
            (sent * u64::from(SPANS), sent * u64::from(SPANS)),
            "{name}"
        );
        match mode {
            None => {
                let clean = |span: &&&crate::support::spans::Span| {
                    let keys: Vec<_> = span.attributes.iter().map(|pair| pair.key.as_str()).collect();
                    keys == ["user.email", "env"] && !format!("{span:?}").contains("example.org")
                };
                assert_eq!(spans.iter().filter(clean).count(), spans.len(), "every healthy span was processed");
            }
            // A leak ends by a new instance, before or after a call fails.
            Some("leak") => {}
            Some(_) => {
                let id = format!("wasm/{name}");
                let failures = collector.metrics().sum("vespid_plugin_failures", &[("processor", &id)]);
                // Each instance counts its own calls, and there are as many as workers.
                assert!(failures >= sent / 20, "{name}: {failures} of {sent} batches");
            }
        }
    }
    for id in ["attributes", "redaction"] {
        assert_eq!(collector.metrics().sum("vespid_plugin_failures", &[("processor", id)]), 0);
    }
    let (resident, _) = collector.memory();
    assert!(resident < 256 << 20, "{resident} bytes");
    assert_eq!(collector.health().status, 200);
    collector.finish();
}
