//! Answers on the wire: OTLP's response and Google's `Status`, and the two
//! tables that decide whether a sender tries again (OTLP 1.11, "Failures").

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use http::HeaderMap;
use prost::Message;
use tonic::{Code, Status};

use crate::component::{ConsumeError, Outcome, shortened};

/// `opentelemetry.proto.collector.trace.v1.ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<WireDuration>,
}

#[derive(Clone, PartialEq, Message)]
struct WireDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// What a sender is told to wait when this process cannot take its request now.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A destination that asks for a longer pause than this gets this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// gRPC's binary headers come with and without padding.
const BINARY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl RpcStatus {
    /// The status in a gRPC answer's headers or trailers; `None` where there is none.
    /// tonic's own reading panics at details that are no base64, and takes a message
    /// that is no UTF-8 for another status.
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let code = Code::from_bytes(headers.get(Status::GRPC_STATUS)?.as_bytes());
        let message = headers.get(Status::GRPC_MESSAGE).map(|message| unescaped(message.as_bytes()));
        let details = headers.get(Status::GRPC_STATUS_DETAILS).and_then(|it| BINARY.decode(it).ok());
        let details = details.and_then(|details| Self::decode(details.as_slice()).ok());
        let details = details.unwrap_or_default().details;
        Some(Self { code: code as i32, message: message.unwrap_or_default(), details })
    }

    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: shortened(message.into()), details: vec![] }
    }

    /// Data that cannot be read: what is wrong with it, and where.
    pub fn malformed(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut status = Self::new(Code::InvalidArgument, message);
        let violation = FieldViolation { field: shortened(field.into()), description: status.message.clone() };
        let detail = BadRequest { field_violations: vec![violation] };
        status.details.push(Any { type_url: BAD_REQUEST.into(), value: detail.encode_to_vec() });
        status
    }

    pub fn with_retry(mut self, after: Option<Duration>) -> Self {
        if let Some(after) = after {
            let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
            let delay = WireDuration { seconds, nanos: after.subsec_nanos() as i32 };
            let info = RetryInfo { retry_delay: Some(delay) };
            self.details.push(Any { type_url: RETRY_INFO.into(), value: info.encode_to_vec() });
        }
        self
    }

    /// How long the sender of this status wants us to wait, where it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        let detail = self.details.iter().find(|detail| detail.type_url.ends_with("google.rpc.RetryInfo"))?;
        let delay = RetryInfo::decode(detail.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
        let (seconds, nanos) = (u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?);
        Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into())).min(LONGEST_PAUSE))
    }
}

/// Text with `%20` for a blank; what is broken in it stays as it is.
fn unescaped(text: &[u8]) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// JSON as protobuf maps it, for senders that speak it.
pub trait ToJson {
    fn to_json(&self) -> serde_json::Value;
}

impl ToJson for RpcStatus {
    fn to_json(&self) -> serde_json::Value {
        let details: Vec<_> = self.details.iter().map(Any::to_json).collect();
        let mut json = serde_json::json!({ "code": self.code, "message": self.message });
        if !details.is_empty() {
            json["details"] = details.into();
        }
        json
    }
}

impl ToJson for Any {
    fn to_json(&self) -> serde_json::Value {
        let mut json = match self.type_url.as_str() {
            RETRY_INFO => {
                let info = RetryInfo::decode(self.value.as_slice()).unwrap_or_default();
                let delay = info.retry_delay.unwrap_or_default();
                let nanos = format!("{:09}", delay.nanos);
                let fraction = nanos.trim_end_matches('0');
                let point = if fraction.is_empty() { "" } else { "." };
                serde_json::json!({ "retryDelay": format!("{}{point}{fraction}s", delay.seconds) })
            }
            BAD_REQUEST => {
                let detail = BadRequest::decode(self.value.as_slice()).unwrap_or_default();
                let violations = detail.field_violations.into_iter();
                let violations =
                    violations.map(|it| serde_json::json!({ "field": it.field, "description": it.description }));
                serde_json::json!({ "fieldViolations": violations.collect::<Vec<_>>() })
            }
            // What has no known form in JSON: none of our own.
            _ => serde_json::json!({}),
        };
        json["@type"] = self.type_url.as_str().into();
        json
    }
}

impl ToJson for ExportResponse {
    fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({});
        if let Some(partial) = &self.partial_success {
            // 64-bit numbers are text.
            json["partialSuccess"] = serde_json::json!({
                "rejectedSpans": partial.rejected_spans.to_string(),
                "errorMessage": partial.error_message,
            });
        }
        json
    }
}

/// What a refused batch is answered with.
pub fn of_error(error: &ConsumeError) -> RpcStatus {
    let code = match (error.retryable, error.code.map(Code::from_i32)) {
        (true, _) => Code::Unavailable,
        (false, Some(code)) if code != Code::Ok && !is_retryable(code, true) => code,
        (false, _) => Code::Internal,
    };
    // What a destination has said is passed on as it is.
    let pause = error.retry_after.or(error.code.is_none().then_some(RETRY_AFTER));
    RpcStatus::new(code, error.message.clone()).with_retry(pause.filter(|_| error.retryable))
}

/// Whether a gRPC client tries again. RESOURCE_EXHAUSTED means so only with a RetryInfo.
pub fn is_retryable(code: Code, has_retry_info: bool) -> bool {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => has_retry_info,
        _ => false,
    }
}

/// Whether an HTTP client tries again.
pub fn is_retryable_http(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// The HTTP status of a gRPC one, as the Collector maps them.
pub fn to_http(code: i32) -> http::StatusCode {
    use http::StatusCode as Http;
    match Code::from_i32(code) {
        Code::InvalidArgument => Http::BAD_REQUEST,
        Code::Unauthenticated => Http::UNAUTHORIZED,
        Code::PermissionDenied => Http::FORBIDDEN,
        Code::Unimplemented => Http::NOT_FOUND,
        Code::ResourceExhausted => Http::TOO_MANY_REQUESTS,
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Http::SERVICE_UNAVAILABLE,
        _ => Http::INTERNAL_SERVER_ERROR,
    }
}

/// `Retry-After`: seconds, or a date as HTTP writes it.
pub fn parse_retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds).min(LONGEST_PAUSE));
    }
    let at = httpdate::parse_http_date(text.trim()).ok()?;
    Some(at.duration_since(std::time::SystemTime::now()).unwrap_or_default().min(LONGEST_PAUSE))
}

/// The answer to an accepted request.
pub fn accepted(outcome: Outcome) -> ExportResponse {
    let says_something = outcome != Outcome::default();
    let partial = PartialSuccess { rejected_spans: outcome.rejected as i64, error_message: outcome.message };
    ExportResponse { partial_success: says_something.then_some(partial) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_info_reads_back_and_a_hostile_one_is_bounded() {
        let wait = Some(Duration::from_millis(1500));
        let status = RpcStatus::new(Code::Unavailable, "later").with_retry(wait);
        assert_eq!(RpcStatus::decode(status.encode_to_vec().as_slice()).unwrap().retry_after(), wait);
        let endless = RpcStatus::new(Code::Unavailable, "").with_retry(Some(Duration::MAX));
        assert_eq!(endless.retry_after(), Some(LONGEST_PAUSE));
        let negative = RetryInfo { retry_delay: Some(WireDuration { seconds: -1, nanos: 0 }) };
        let details = vec![Any { type_url: RETRY_INFO.into(), value: negative.encode_to_vec() }];
        assert_eq!(RpcStatus { code: 14, message: String::new(), details }.retry_after(), None);
    }

    #[test]
    fn a_status_is_read_from_headers_whatever_they_hold() {
        let of = |headers: &[(&'static str, &str)]| {
            RpcStatus::of_headers(
                &headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
            )
        };
        assert_eq!(of(&[("grpc-message", "a")]), None);
        for (code, read) in [("14", 14), ("0", 0), ("16", 16), ("17", 2), ("-1", 2), ("", 2), ("x", 2)] {
            assert_eq!(of(&[("grpc-status", code)]).unwrap().code, read, "{code}");
        }
        for (message, read) in
            [("a%20b%C3%A9", "a bé"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%FFx", "\u{fffd}x"), ("%+1", "%+1")]
        {
            assert_eq!(of(&[("grpc-status", "3"), ("grpc-message", message)]).unwrap().message, read);
        }
        let whole = RpcStatus::new(Code::Unavailable, "x").with_retry(Some(Duration::from_secs(7)));
        let padded = BINARY.encode(whole.encode_to_vec());
        assert!(padded.ends_with('='), "it has something to leave out");
        for details in [padded.as_str(), padded.trim_end_matches('=')] {
            let read = of(&[("grpc-status", "14"), ("grpc-status-details-bin", details)]).unwrap();
            assert_eq!(read.retry_after(), Some(Duration::from_secs(7)), "{details}");
        }
        for details in ["***", "AAAA////", "é"] {
            let headers = [("grpc-status", "14"), ("grpc-status-details-bin", details)];
            assert_eq!(of(&headers).unwrap(), RpcStatus { code: 14, ..RpcStatus::default() }, "{details}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon"), None);
    }

    #[test]
    fn permanent_errors_never_look_retryable() {
        let exhausted = ConsumeError::permanent("no").with_code(Code::Unavailable as i32);
        assert_eq!(of_error(&exhausted).code, Code::Internal as i32);
        let refused = ConsumeError::permanent("no").with_code(Code::InvalidArgument as i32);
        assert_eq!(of_error(&refused).code, Code::InvalidArgument as i32);
        let later = of_error(&ConsumeError::retryable("later"));
        assert_eq!((later.code, later.retry_after()), (Code::Unavailable as i32, Some(RETRY_AFTER)));
    }
}
