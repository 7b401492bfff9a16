//! Several destinations: a repeated request goes to those that lack it.

use serde_json::json;
use tonic::Code;

use super::{came, send_named};
use crate::support::config::with;
use crate::support::spans::spans;
use crate::support::{Collector, Reply, Setup, Sink, request, script, span, to};

/// To both sinks, without retries.
fn two(one: &Sink, other: &Sink) -> Setup {
    let once = |sink: &Sink| with(to(sink), [("retry_on_failure", json!({"enabled": false}))]);
    Setup::new().exporter("otlp/one", once(one)).exporter("otlp/other", once(other))
}

fn down() -> Reply {
    Reply::grpc(Code::Unavailable, "down")
}

#[test]
fn a_repeated_request_goes_only_to_those_that_lack_it() {
    let (one, other) = (Sink::start(), Sink::start());
    other.answer_next([down(), down()]);
    let collector = two(&one, &other).start();
    let repeated = request(vec![span("repeated")]);
    for _ in 0..2 {
        collector.send(&repeated).expect(Code::Unavailable, "down");
    }
    collector.send(&repeated).expect_ok();
    assert_eq!((one.received().len(), other.received().len()), (1, 3));
    // All have it: it is forgotten, and the same bytes are a request like any other.
    collector.send(&repeated).expect_ok();
    assert_eq!((one.received().len(), other.received().len()), (2, 4));
    collector.stop();
}

#[test]
fn other_requests_and_other_tenants_are_not_held_for_repeats() {
    let (one, other) = (Sink::start(), Sink::start());
    other.answer_next([down()]);
    let collector = two(&one, &other).start();
    collector.send(&request(vec![span("a")])).expect(Code::Unavailable, "down");
    send_named(&collector, ["b"]);
    assert_eq!((came(&one), came(&other)), (vec!["a".into(), "b".into()], vec!["a".to_owned(), "b".to_owned()]));
    collector.stop();
}

#[test]
fn a_sender_that_did_not_wait_for_the_slow_one_does_not_send_twice_to_the_fast_one() {
    let (one, other) = (Sink::start(), Sink::start());
    other.answer_next([Reply::Hold]);
    let collector = two(&one, &other).start();
    let repeated = request(vec![span("repeated")]);
    let gone = collector.start_send(&repeated);
    other.wait(1);
    collector.wait_for_metric("otelcol_exporter_sent_spans", &[("exporter", "otlp/one")], 1);
    drop(gone);
    collector.wait_for_metric("vespid_receiver_in_flight_spans", &[], 0);
    collector.send(&repeated).expect_ok();
    assert_eq!((one.received().len(), other.received().len()), (1, 2));
    collector.stop();
}

#[test]
fn pipelines_and_connectors_of_one_receiver_count_as_destinations_too() {
    let (one, other) = (Sink::start(), Sink::start());
    other.answer_next([down()]);
    let rename = |name: &str| script(json!([{"op": "set-names", "rows": [0], "names": [name]}]));
    let collector = two(&one, &other)
        .set("connectors.forward", json!({}))
        .processor("wasm/one", rename("one"))
        .processor("wasm/other", rename("other"))
        .pipeline("traces/one", &["otlp"], &["wasm/one"], &["otlp/one"])
        .pipeline("traces/in", &["otlp"], &[], &["forward"])
        .pipeline("traces/other", &["forward"], &["wasm/other"], &["otlp/other"])
        .start();
    let repeated = request(spans(1));
    collector.send(&repeated).expect(Code::Unavailable, "down");
    collector.send(&repeated).expect_ok();
    assert_eq!((came(&one), came(&other)), (vec!["one".to_owned()], vec!["other".to_owned(), "other".to_owned()]));
    collector.stop();
}

#[test]
fn of_two_tenants_only_the_one_is_sent_again_that_was_not_taken() {
    let sink = Sink::start();
    let tenants = json!([
        {"op": "set-tenant", "rows": [0], "tenant": "blue"}, {"op": "set-tenant", "rows": [1], "tenant": "green"},
    ]);
    let once = with(to(&sink), [("retry_on_failure", json!({"enabled": false}))]);
    let collector: Collector = Setup::new().processor("wasm/tenants", script(tenants)).exporter("otlp", once).start();
    let repeated = request(spans(2));
    sink.answer_next([Reply::Accept, down()]);
    collector.send(&repeated).expect(Code::Unavailable, "down");
    collector.send(&repeated).expect_ok();
    let received = sink.wait(3);
    let mut tenants: Vec<_> = received.iter().map(|it| it.header("x-scope-orgid").unwrap().to_owned()).collect();
    let last = tenants.pop().unwrap();
    tenants.sort_unstable();
    assert_eq!(tenants, ["blue", "green"]);
    let first = received[0].header("x-scope-orgid").unwrap();
    assert_ne!(first, last, "what was taken first is not sent again");
    collector.stop();
}
