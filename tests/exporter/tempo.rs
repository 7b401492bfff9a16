//! What Tempo answers, and what becomes of it.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;

use crate::support::config::{script, to_http, with};
use crate::support::spans::{Span, all, names, span, spans, text};
use crate::support::tempo::{Tempo, Version};
use crate::support::{Collector, Reply, Setup, Sink, request, to};

type Protocol = (&'static str, fn(String) -> Value);

const PROTOCOLS: [Protocol; 2] = [("otlp", to), ("otlphttp", to_http)];
const VERSIONS: [Version; 2] = [Version::V3, Version::V2];

fn start((id, settings): Protocol, sink: &Sink) -> Collector {
    Setup::new().exporter(id, settings(sink.to_string())).start()
}

/// Each protocol to each version of a Tempo that is changed so.
fn everywhere(change: impl Fn(&mut Tempo), test: impl Fn(&Sink, Collector, Version)) {
    for version in VERSIONS {
        for protocol in PROTOCOLS {
            let mut tempo = Tempo::new(version);
            change(&mut tempo);
            let sink = Sink::tempo(tempo);
            let collector = start(protocol, &sink);
            test(&sink, collector, version);
        }
    }
}

/// A span with an attribute of so many bytes that do not shrink.
fn large(name: &str, bytes: usize) -> Span {
    let mut span = span(name);
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect();
    span.attributes.push(text("noise", &noise));
    span
}

/// The names of all spans that came in requests of at most so many bytes.
fn arrived(sink: &Sink, most: usize) -> Vec<String> {
    let received = sink.received();
    let fitting = received.iter().filter(|it| it.message.len() <= most);
    let mut found: Vec<String> =
        fitting.flat_map(|it| names(&it.request()).into_iter().map(str::to_owned).collect::<Vec<_>>()).collect();
    found.sort();
    found
}

#[test]
fn an_empty_partial_success_is_a_plain_success() {
    everywhere(
        |_| {},
        |sink, collector, _| {
            assert_eq!(collector.send(&request(spans(2))).expect_ok().partial_success, None);
            sink.wait(1);
            collector.finish();
        },
    );
}

#[test]
fn a_span_that_tempo_would_refuse_the_whole_request_for_does_not_reach_it() {
    everywhere(
        |_| {},
        |sink, collector, _| {
            let mut sent = spans(4);
            sent[1].trace_id = vec![0; 16];
            sent[2].span_id = vec![1; 4];
            let partial = collector.send(&request(sent)).expect_ok().partial_success.clone().unwrap();
            assert_eq!(partial.rejected_spans, 2);
            assert_eq!(names(&sink.only()), ["span 0", "span 3"]);
            collector.finish();
        },
    );
}

#[test]
fn a_limited_rate_is_waited_for_with_and_without_a_word_on_how_long() {
    everywhere(
        |tempo| tempo.rate_limited = 2,
        |sink, collector, version| {
            collector.send(&request(spans(3))).expect_ok();
            sink.wait(3);
            let log = collector.log();
            assert_eq!(log.contains(r#""interval": "1s""#), version == Version::V3, "{log}");
            collector.finish();
        },
    );
}

#[test]
fn a_rate_limit_can_be_taken_by_the_specifications_letter() {
    let sink = Sink::tempo(Tempo { rate_limited: 1, ..Tempo::new(Version::V2) });
    let exporter = with(to(&sink), [("retry_on_failure.resource_exhausted", json!(false))]);
    let collector = Setup::new().exporter("otlp", exporter).start();
    collector.send(&request(spans(1))).expect(Code::Internal, "ingestion rate limit");
    sink.wait(1);
    collector.finish();
}

#[test]
fn a_request_over_the_burst_goes_in_parts_and_every_span_arrives_once() {
    everywhere(
        |tempo| tempo.burst = 3000,
        |sink, mut collector, _| {
            let sent: Vec<Span> = (0..20).map(|number| large(&format!("{number:02}"), 500)).collect();
            let expected: Vec<String> = sent.iter().map(|span| span.name.clone()).collect();
            assert_eq!(collector.send(&request(sent)).expect_ok().partial_success, None);
            assert_eq!(arrived(sink, 3000), expected);
            collector.wait_for_log("The request is too large and goes in parts.");
            assert_eq!(collector.metrics().sum("otelcol_exporter_sent_spans", &[]), 20);
            collector.finish();
        },
    );
}

#[test]
fn a_span_that_cannot_pass_even_alone_is_rejected_and_the_rest_arrives() {
    everywhere(
        |tempo| tempo.burst = 3000,
        |sink, collector, _| {
            let sent = vec![large("a", 100), large("b", 5000), large("c", 100), large("d", 100)];
            let partial = collector.send(&request(sent)).expect_ok().partial_success.clone().unwrap();
            assert_eq!(partial.rejected_spans, 1);
            assert!(partial.error_message.contains("exceeds ingestion limit"), "{}", partial.error_message);
            assert_eq!(arrived(sink, 3000), ["a", "c", "d"]);
            let metrics = collector.metrics();
            assert_eq!(metrics.sum("otelcol_exporter_sent_spans", &[]), 3);
            assert_eq!(metrics.sum("otelcol_exporter_send_failed_spans", &[]), 1);
            collector.finish();
        },
    );
}

#[test]
fn a_lone_span_over_the_burst_is_a_permanent_error() {
    everywhere(
        |tempo| tempo.burst = 3000,
        |sink, collector, _| {
            collector.send(&request(vec![large("a", 5000)])).expect(Code::Internal, "exceeds ingestion limit");
            assert_eq!(sink.wait(1).len(), 1, "it is not tried again");
            assert_eq!(collector.metrics().sum("otelcol_exporter_send_failed_spans", &[]), 1);
            collector.finish();
        },
    );
}

#[test]
fn a_message_over_the_limit_goes_in_parts_and_the_next_one_at_once() {
    let limit = 4 << 20;
    let sink = Sink::tempo(Tempo::new(Version::V3));
    let collector = Setup::line(&sink).start();
    for round in 1..=2 {
        let sent: Vec<Span> = (0..60).map(|number| large(&format!("{number:02}"), 100_000)).collect();
        collector.send(&request(sent)).expect_ok();
        assert_eq!(arrived(&sink, limit).len(), round * 60);
        let over = sink.received().iter().filter(|it| it.message.len() > limit).count();
        assert_eq!(over, 1, "the limit is known after the first refusal");
    }
    collector.finish();
}

#[test]
fn a_body_that_is_too_large_for_http_goes_in_parts() {
    let mut tempo = Tempo::new(Version::V3);
    tempo.largest.1 = 3000;
    let sink = Sink::tempo(tempo);
    let collector = start(PROTOCOLS[1], &sink);
    let sent: Vec<Span> = (0..10).map(|number| large(&format!("{number:02}"), 500)).collect();
    collector.send(&request(sent)).expect_ok();
    assert_eq!(arrived(&sink, 3000).len(), 10);
    // Others say so by a status of its own.
    let before = sink.received().len();
    sink.answer_next([Reply::http(413, "Payload Too Large")]);
    collector.send(&request(spans(4))).expect_ok();
    assert!(sink.received().len() - before > 2);
    collector.finish();
}

#[test]
fn a_part_that_fails_fails_the_request_so_that_its_sender_sends_it_again() {
    let sink = Sink::start();
    let exporter = with(to(&sink), [("retry_on_failure", json!({"enabled": false}))]);
    let collector = Setup::new().exporter("otlp", exporter).start();
    let too_large = Reply::grpc(Code::ResourceExhausted, "grpc: received message larger than max (9 vs. 8)");
    sink.answer_next([too_large, Reply::Accept, Reply::grpc(Code::Unavailable, "down")]);
    collector.send(&request(spans(8))).expect(Code::Unavailable, "down");
    let metrics = collector.metrics();
    let (sent, failed) =
        (metrics.sum("otelcol_exporter_sent_spans", &[]), metrics.sum("otelcol_exporter_send_failed_spans", &[]));
    assert!(sent > 0 && sent + failed == 8, "sent {sent}, failed {failed}");
    collector.finish();
}

#[test]
fn a_part_that_is_refused_for_good_does_not_take_the_others_with_it() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let too_large = Reply::grpc(Code::ResourceExhausted, "RATE_LIMITED: batch size (9 bytes) exceeds ingestion limit");
    sink.answer_next([too_large, Reply::grpc(Code::PermissionDenied, "not these")]);
    let partial = collector.send(&request(spans(8))).expect_ok().partial_success.clone().unwrap();
    assert!(partial.rejected_spans > 0 && partial.error_message.contains("not these"), "{partial:?}");
    let received = sink.received();
    let refused = all(&received[1].request()).len();
    let taken: usize = received[2..].iter().map(|it| all(&it.request()).len()).sum();
    assert_eq!((refused as i64, refused + taken), (partial.rejected_spans, 8));
    let account = collector.account();
    let why = Some("permanent_error: PermissionDenied");
    assert_eq!(account.of("rejected", "exporter:otlp", why) as i64, partial.rejected_spans);
    collector.finish();
}

#[test]
fn a_missing_tenant_is_told_with_its_remedy_and_not_retried() {
    everywhere(
        |tempo| tempo.multi_tenant = true,
        |sink, mut collector, _| {
            let answer = collector.send(&request(spans(2)));
            answer.expect(Code::Unavailable, "no org id");
            answer.expect(Code::Unavailable, "X-Scope-OrgID");
            assert_eq!(sink.wait(1).len(), 1);
            collector.wait_for_log("headers_setter");
            collector.finish();
        },
    );
}

#[test]
fn a_tenant_that_tempo_does_not_take_is_a_permanent_error() {
    for (id, settings) in PROTOCOLS {
        for (tenant, part) in
            [("a|b", "multiple org IDs"), ("../x", "unsupported character"), (&"x".repeat(151), "too long")]
        {
            let sink = Sink::tempo(Tempo { multi_tenant: true, ..Tempo::new(Version::V3) });
            let settings = with(settings(sink.to_string()), [("headers", json!({"X-Scope-OrgID": tenant}))]);
            let collector = Setup::new().exporter(id, settings).start();
            collector.send(&request(spans(1))).expect(Code::InvalidArgument, part);
            sink.wait(1);
            collector.finish();
        }
    }
}

#[test]
fn a_plugins_tenant_counts_before_a_headers_setters_and_that_before_the_headers() {
    for (id, settings) in PROTOCOLS {
        let sink = Sink::tempo(Tempo { multi_tenant: true, ..Tempo::new(Version::V3) });
        let keys =
            [("headers", json!({"X-Scope-OrgID": "static"})), ("auth", json!({"authenticator": "headers_setter"}))];
        let settings = with(settings(sink.to_string()), keys);
        // It changes nothing where the sender says nothing.
        let rules =
            json!([{"key": "X-Scope-OrgID", "action": "upsert", "from_context": "tenant", "default_value": "static"}]);
        let steps = json!([{"op": "set-tenant", "rows": [1], "tenant": "plugin"}]);
        let collector = Setup::new()
            .set("extensions.headers_setter", json!({"headers": rules}))
            .set("service.extensions", json!(["health_check", "headers_setter"]))
            .set("receivers.otlp.protocols.grpc.include_metadata", json!(true))
            .exporter(id, settings)
            .processor("wasm/edit", script(steps))
            .start();
        let call = crate::support::send::Call::grpc(collector.grpc());
        collector.offer(4);
        let message = || {
            use prost::Message as _;
            crate::support::proto::framed(&request(spans(2)).encode_to_vec())
        };
        call.clone().call(message()).expect_ok();
        call.header("tenant", "sender").call(message()).expect_ok();
        let mut tenants: Vec<_> =
            sink.wait(4).iter().map(|it| it.header("x-scope-orgid").unwrap().to_owned()).collect();
        tenants.sort();
        assert_eq!(tenants, ["plugin", "plugin", "sender", "static"]);
        assert!(sink.received().iter().all(|it| all(&it.request()).len() == 1));
        collector.finish();
    }
}

#[test]
fn the_refusals_of_its_table_are_final_and_told_by_their_codes() {
    let rows = [
        (13, 400, "grpc: error unmarshalling request: unmarshal: invalid TraceID length", Code::Internal),
        (3, 400, "trace ids must be 128 bit, received 0 bits", Code::InvalidArgument),
        (3, 400, "span ids must be 64 bit and not all zero, received 0 bits", Code::InvalidArgument),
        (13, 400, "grpc: error unmarshalling request: unexpected EOF", Code::Internal),
        (12, 404, "unknown service", Code::Unimplemented),
    ];
    for protocol in PROTOCOLS {
        let sink = Sink::start();
        let collector = start(protocol, &sink);
        for (count, (grpc, http, message, told)) in rows.into_iter().enumerate() {
            sink.answer_next([Reply::Status { grpc, http, message: message.to_owned(), retry: None }]);
            collector.send(&request(spans(1))).expect(told, message);
            sink.wait(count + 1);
        }
        collector.finish();
    }
}

#[test]
fn a_tempo_that_was_told_to_ask_for_a_pause_gets_it() {
    for protocol in PROTOCOLS {
        let pause = Duration::from_secs(2);
        let sink = Sink::tempo(Tempo { rate_limited: 1, pause, ..Tempo::new(Version::V3) });
        let collector = start(protocol, &sink);
        let began = std::time::Instant::now();
        collector.send(&request(spans(1))).expect_ok();
        assert!(began.elapsed() >= pause);
        collector.finish();
    }
}
