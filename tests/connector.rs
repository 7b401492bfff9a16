//! The `forward` connector joins pipelines.

use serde_json::{Value, json};

use crate::support::sink::Down;
use crate::support::spans::{attribute, names, spans};
use crate::support::{Reply, Setup, Sink, request, script, to};

/// A plugin that sets an attribute of every span.
fn set_text(key: &str, text: &str) -> Value {
    script(json!([{"op": "set", "owner": "span", "rows": "all", "key": key, "value": {"text": text}}]))
}

#[test]
fn a_batch_goes_through_connectors_to_every_pipeline_and_is_edited_on_its_way_only() {
    let (plain, edited) = (Sink::start(), Sink::start());
    let set = |value: &str| set_text("way", value);
    let collector = Setup::new()
        .set("connectors", json!({"forward/in": {}, "forward/out": {}}))
        .processor("wasm/first", set("first"))
        .processor("wasm/second", set("second"))
        .exporter("otlp/plain", to(&plain))
        .exporter("otlp/edited", to(&edited))
        .pipeline("traces/edited", &["forward/out"], &["wasm/second"], &["otlp/edited"])
        .pipeline("traces/plain", &["forward/in"], &[], &["otlp/plain"])
        .pipeline("traces/first", &["forward/in"], &["wasm/first"], &["forward/out"])
        .pipeline("traces/more", &["nop"], &[], &["forward/out"])
        .receiver("nop", json!(null))
        .pipeline("traces/in", &["otlp"], &[], &["forward/in"])
        .start();
    let sent = request(spans(3));
    collector.send(&sent).expect_ok();
    assert_eq!(plain.only(), sent);
    let received = edited.only();
    assert_eq!(names(&received), names(&sent));
    for span in crate::support::spans::all(&received) {
        assert_eq!(attribute(span, "way"), Some("second"));
    }
    collector.finish();
}

#[test]
fn an_exporter_beside_a_connector_gets_what_its_own_pipeline_made() {
    let (first, second) = (Sink::start(), Sink::start());
    let set = |value: &str| set_text(value, "yes");
    let collector = Setup::new()
        .set("connectors.forward", json!({}))
        .processor("wasm/a", set("a"))
        .processor("wasm/b", set("b"))
        .exporter("otlp/first", to(&first))
        .exporter("otlp/second", to(&second))
        .pipeline("traces", &["otlp"], &["wasm/a"], &["otlp/first", "forward"])
        .pipeline("traces/second", &["forward"], &["wasm/b"], &["otlp/second"])
        .start();
    collector.send(&request(spans(1))).expect_ok();
    let has = |sink: &Sink, key: &str| {
        let received = sink.only();
        crate::support::spans::all(&received).iter().all(|span| attribute(span, key).is_some())
    };
    assert!(has(&first, "a") && !has(&first, "b"));
    assert!(has(&second, "a") && has(&second, "b"));
    collector.finish();
}

#[test]
fn a_sender_hears_ok_only_once_the_destinations_behind_a_connector_have_the_spans() {
    let (near, far) = (Sink::start(), Sink::start());
    far.answer(Reply::Hold);
    let collector = Setup::new()
        .set("connectors.forward", json!({}))
        .exporter("otlp/near", to(&near))
        .exporter("otlp/far", to(&far))
        .pipeline("traces", &["otlp"], &[], &["otlp/near", "forward"])
        .pipeline("traces/far", &["forward"], &[], &["otlp/far"])
        .start();
    let pending = collector.start_send(&request(spans(1)));
    near.wait(1);
    far.wait(1);
    assert!(!pending.is_answered());
    far.release();
    pending.answer().expect_ok();
    collector.finish();
}

#[test]
fn a_destination_behind_a_connector_that_takes_nothing_fails_the_request() {
    let (near, down) = (Sink::start(), Down::new());
    let mut settings = to(down.address());
    settings["retry_on_failure"] = json!({"enabled": false});
    let collector = Setup::new()
        .set("connectors.forward", json!({}))
        .exporter("otlp/near", to(&near))
        .exporter("otlp/far", settings)
        .pipeline("traces", &["otlp"], &[], &["otlp/near", "forward"])
        .pipeline("traces/far", &["forward"], &[], &["otlp/far"])
        .start();
    collector.send(&request(spans(1))).expect(tonic::Code::Unavailable, "");
    near.wait(1);
    collector.finish();
}
