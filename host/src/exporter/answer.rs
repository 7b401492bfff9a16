//! What a destination's answer means: the specification's tables, and what Tempo
//! says in words where its status alone would mislead.

use std::time::Duration;

use prost::Message as _;
use tonic::Code;

use crate::component::{ConsumeError, Outcome};
use crate::telemetry::ExporterMetrics;
use crate::transport::status::{ExportResponse, PartialSuccess, RpcStatus, is_retryable, is_retryable_http};

/// Why a request was not taken, and what may help.
#[derive(Debug)]
pub struct Failure {
    pub error: ConsumeError,
    pub remedy: Remedy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// A retry where the error is retryable, otherwise none.
    Usual,
    /// A smaller request; the destination may say how large one can be.
    Split(Option<usize>),
    /// Another config: nothing that this collector does by itself can help.
    Config,
}

impl Failure {
    pub fn retryable(message: impl Into<String>) -> Self {
        ConsumeError::retryable(message).into()
    }
}

impl From<ConsumeError> for Failure {
    fn from(error: ConsumeError) -> Self {
        Self { error, remedy: Remedy::Usual }
    }
}

/// A gRPC status that is not OK. `retry_exhausted`: RESOURCE_EXHAUSTED is retried
/// without a RetryInfo too, because Tempo before 3.0 sends none when it limits a rate.
pub fn of_grpc(status: &RpcStatus, retry_exhausted: bool) -> Failure {
    let (code, message, retry_after) = (Code::from_i32(status.code), &status.message, status.retry_after());
    let text = format!("rpc error: code = {code:?} desc = {message}");
    if let Some(failure) = said_by_tempo(code, message, &text) {
        return failure;
    }
    let retryable = is_retryable(code, retry_after.is_some() || retry_exhausted);
    let error = if retryable { ConsumeError::retryable } else { ConsumeError::permanent }(text);
    error.after(retry_after).with_code(code as i32).into()
}

/// gRPC's table for answers that carry only an HTTP status.
pub fn without_grpc_status(status: http::StatusCode) -> Failure {
    let message = format!("the destination answered HTTP {status} and no gRPC status");
    match status.as_u16() {
        200 | 429 | 502 | 503 | 504 => Failure::retryable(message),
        _ => ConsumeError::permanent(message).into(),
    }
}

/// An HTTP status that is no success.
pub fn of_http(url: &http::Uri, status: u16, body: &[u8], retry_after: Option<Duration>) -> Failure {
    let body = RpcStatus::decode(body).unwrap_or_default();
    let said = if body.message.is_empty() { String::new() } else { format!(": {}", body.message) };
    let text = format!("{url} answered HTTP {status}{said}");
    let code = match (status, body.code) {
        (_, code) if code > 0 => Code::from_i32(code),
        (429, _) => Code::ResourceExhausted,
        (503, _) => Code::Unavailable,
        _ => Code::Unknown,
    };
    if status == 413 || (status == 400 && body.message.contains("request body too large")) {
        return too_large(&text, None);
    }
    if let Some(failure) = said_by_tempo(code, &body.message, &text) {
        return failure;
    }
    if is_retryable_http(status) {
        return ConsumeError::retryable(text).after(retry_after.or_else(|| body.retry_after())).into();
    }
    let error = ConsumeError::permanent(text);
    if body.code > 0 { error.with_code(body.code).into() } else { error.into() }
}

/// An answer in JSON as the message that it stands for; what is none is an empty one.
pub fn json_to_wire(answer: &[u8], is_success: bool) -> Vec<u8> {
    let json: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    // 64-bit numbers are text, and some write them as numbers.
    let number =
        |value: &serde_json::Value| value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default();
    if is_success {
        let partial = json.get("partialSuccess").map(|partial| PartialSuccess {
            rejected_spans: number(&partial["rejectedSpans"]),
            error_message: text(&partial["errorMessage"]),
        });
        return ExportResponse { partial_success: partial }.encode_to_vec();
    }
    let code = i32::try_from(number(&json["code"])).unwrap_or_default();
    RpcStatus { code, message: text(&json["message"]), details: vec![] }.encode_to_vec()
}

/// Statuses that mean something else than they say.
fn said_by_tempo(code: Code, message: &str, text: &str) -> Option<Failure> {
    match code {
        Code::ResourceExhausted if message.contains("larger than max") => Some(too_large(text, limit_of(message))),
        // More than the limiter's bucket holds: it can never pass, with whatever pause.
        Code::ResourceExhausted if message.contains("batch size (") && message.contains("exceeds ingestion limit") => {
            Some(too_large(text, None))
        }
        Code::Unavailable | Code::Unauthenticated if message.contains("no org id") => {
            let text = format!(
                "{text}: the destination wants a tenant; set `headers: {{X-Scope-OrgID: …}}` on the exporter, or a \
                 `headers_setter`"
            );
            Some(Failure { error: ConsumeError::retryable(text), remedy: Remedy::Config })
        }
        _ => None,
    }
}

fn too_large(text: &str, limit: Option<usize>) -> Failure {
    let error = ConsumeError::permanent(text).with_code(Code::ResourceExhausted as i32);
    Failure { error, remedy: Remedy::Split(limit) }
}

/// The second number of grpc-go's `larger than max (5491537 vs. 4194304)`.
fn limit_of(message: &str) -> Option<usize> {
    let (_, after) = message.split_once(" vs. ")?;
    let digits: &str = after.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|limit| *limit > 0)
}

/// Says what the destination refused within an accepted request, and counts it.
pub fn accepted(id: &str, answer: &[u8], spans: usize, metrics: &ExporterMetrics) -> Outcome {
    let response = ExportResponse::decode(answer).unwrap_or_default();
    let partial = response.partial_success.unwrap_or_default();
    let rejected = u64::try_from(partial.rejected_spans).unwrap_or_default().min(spans as u64);
    let outcome = Outcome::rejected(rejected as usize, partial.error_message);
    if outcome != Outcome::default() {
        let message = &outcome.message;
        tracing::warn!(exporter = id, dropped_spans = rejected, message, "Partial success response");
    }
    metrics.partial.inc_by(rejected);
    metrics.sent.inc_by(spans as u64 - rejected);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_exhausted_has_three_meanings() {
        let of = |message: &str, retry: bool| of_grpc(&RpcStatus::new(Code::ResourceExhausted, message), retry);
        let rate =
            "RATE_LIMITED: ingestion rate limit (local: 200 bytes/s, burst: 400 bytes) exceeded while adding 90 bytes";
        assert_eq!(of(rate, true).remedy, Remedy::Usual);
        assert!(of(rate, true).error.retryable);
        assert!(!of(rate, false).error.retryable);
        let burst = "RATE_LIMITED: batch size (2126 bytes) exceeds ingestion limit (local: 1, burst: 400 bytes)";
        assert_eq!(of(burst, true).remedy, Remedy::Split(None));
        let large = "grpc: received message larger than max (5491537 vs. 4194304)";
        assert_eq!(of(large, true).remedy, Remedy::Split(Some(4_194_304)));
        assert!(!of(large, true).error.retryable);
        assert_eq!(of("larger than max (5 vs. many)", true).remedy, Remedy::Split(None));
    }

    #[test]
    fn a_missing_tenant_is_a_fault_of_the_config_over_both_protocols() {
        let grpc = of_grpc(&RpcStatus::new(Code::Unavailable, "no org id"), true);
        let url = "http://tempo:4318/v1/traces".parse().unwrap();
        let body = RpcStatus::new(Code::Unavailable, "no org id").encode_to_vec();
        let http = of_http(&url, 503, &body, None);
        for failure in [grpc, http] {
            assert_eq!(failure.remedy, Remedy::Config);
            assert!(failure.error.retryable && failure.error.message.contains("X-Scope-OrgID"));
        }
    }
}
