mod rules;
mod values;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;

use super::*;
use crate::traces::Message;
use crate::traces::fuzz::Choices;
use crate::traces::tests::{Case, choices, config, decode};

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
