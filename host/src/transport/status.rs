//! Answers on the wire: OTLP's response and Google's `Status`, and the two
//! tables that decide whether a sender tries again (OTLP 1.11, "Failures").

use std::time::Duration;

use prost::Message;
use tonic::Code;

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

/// What a sender is told to wait when this process is out of memory for requests.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A destination that asks for a longer pause than this gets this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

impl RpcStatus {
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
    RpcStatus::new(code, error.message.clone()).with_retry(error.retry_after.filter(|_| error.retryable))
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
        assert_eq!(of_error(&ConsumeError::retryable("later")).code, Code::Unavailable as i32);
    }
}
