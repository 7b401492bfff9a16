mod rules;
mod values;

use std::path::Path;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;

use super::*;
use crate::traces::fuzz::{self, Choices};
use crate::traces::tests::{Case, choices, config, decode};
use crate::traces::{Batch, Message};

proptest! {
    #![proptest_config(config())]

    /// Any order of fields on the wire, messages in pieces, unknown fields.
    #[test]
    fn a_request_reads_back_from_json_as_prost_reads_it(choices in choices()) {
        let case = Case::new(&mut Choices::new(&choices));
        let json = encode_request(&Message::copy_of(&case.wire)).unwrap();
        serde_json::from_slice::<serde::de::IgnoredAny>(&json).unwrap();
        let back = decode_request(&json, usize::MAX).unwrap();
        // As text, since a NaN's payload has no place in JSON.
        assert_eq!(format!("{:?}", decode(&back.bytes())), format!("{:?}", case.decoded));
    }
}

/// A request that uses every key, with some of its bytes changed, left out or repeated.
fn mutated(choices: &mut Choices) -> Vec<u8> {
    let plain = include_bytes!("../../../../../tests/fuzz/corpus/json/plain.json");
    let bytes = b"{}[]\",:\\u0dnul-1.eE \n\x00\x80\xffabAB=";
    let mut text = plain.to_vec();
    for _ in 0..=choices.below(4) {
        let at = choices.below(text.len());
        let end = (at + choices.below(40)).min(text.len());
        match choices.below(4) {
            0 => text.splice(at..end, []).for_each(drop),
            1 => text.splice(at..at, text[at..end].to_vec()).for_each(drop),
            _ => text[at] = bytes[choices.below(bytes.len())],
        }
    }
    text
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn text_that_is_nearly_right_is_read_or_refused(choices in proptest::collection::vec(any::<u8>(), 0..40)) {
        fuzz::json(&mutated(&mut Choices::new(&choices)));
    }
}

#[track_caller]
fn wire(json: &str) -> ExportTraceServiceRequest {
    decode(&decode_request(json.as_bytes(), usize::MAX).unwrap().bytes())
}

#[track_caller]
fn refused(json: &str) -> String {
    decode_request(json.as_bytes(), usize::MAX).unwrap_err().to_string()
}

#[test]
fn an_empty_request_is_one() {
    assert_eq!(wire("{}"), ExportTraceServiceRequest::default());
    assert_eq!(wire(" {\"resourceSpans\" : [ ] } \n"), ExportTraceServiceRequest::default());
    assert_eq!(encode_request(&Message::copy_of(&[])).unwrap(), b"{\"resourceSpans\":[]}");
}

/// Requests that real clients sent, where they are at hand.
fn payload(name: &str) -> Option<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/payloads");
    std::fs::read(folder.join(name)).ok()
}

#[test]
fn what_node_sends_is_read() {
    for (name, nans) in [("node-agent.json", false), ("node-agent-nan.json", true)] {
        let Some(json) = payload(name) else { continue };
        let message = decode_request(&json, usize::MAX).unwrap();
        let (batch, invalid) = Batch::receive(message.clone(), Arc::default(), true).unwrap();
        let text = String::from_utf8(json.clone()).unwrap();
        assert_eq!((batch.spans(), invalid.len()), (text.matches("\"startTimeUnixNano\"").count(), 0), "{name}");
        assert_eq!(format!("{:?}", decode(&message.bytes())).contains("DoubleValue(NaN)"), nans, "{name}");
        let again = decode_request(&encode_request(&message).unwrap(), usize::MAX).unwrap();
        assert_eq!(format!("{:?}", decode(&again.bytes())), format!("{:?}", decode(&message.bytes())), "{name}");
    }
}

#[test]
fn what_clients_send_as_protobuf_survives_json() {
    for name in [
        "collector-relay",
        "go-sdk",
        "java-agent",
        "node-agent",
        "python-five-services",
        "python-many-types",
        "rust-sdk",
    ] {
        let Some(wire) = payload(&format!("{name}.pb")) else { continue };
        let back = decode_request(&encode_request(&Message::copy_of(&wire)).unwrap(), usize::MAX).unwrap();
        assert_eq!(format!("{:?}", decode(&back.bytes())), format!("{:?}", decode(&wire)), "{name}");
    }
}
