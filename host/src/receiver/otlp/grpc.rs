//! OTLP over gRPC: one unary method, read and answered as HTTP/2 carries it.
//! tonic's own server decodes into a buffer of its own; here a message that
//! came in one frame is not copied at all, and goes out as it came in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use prost::Message as _;
use tonic::{Code, Status};

use super::body::{self, Body, BodyError, FIRST_PIECE};
use super::{Intake, Refusal};
use crate::component::Outcome;
use crate::traces::{Message, PREFIX};
use crate::transport::body::Ready;
use crate::transport::compress::Codec;
use crate::transport::status::{self, RETRY_AFTER, RpcStatus};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// In the order of what they cost.
const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,zstd,snappy,gzip");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

pub(super) async fn handle(intake: Arc<Intake>, request: Request<Incoming>) -> Response<Ready> {
    let is_grpc = request.headers().get(http::header::CONTENT_TYPE).is_some_and(|found| {
        found
            .as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    });
    if request.method() != Method::POST || !is_grpc {
        let mut response = Response::new(Ready::default());
        *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    if request.uri().path() != EXPORT {
        let message =
            format!("this collector carries traces only, and `{}` is not their service", request.uri().path());
        return refuse(&RpcStatus::new(Code::Unimplemented, message));
    }
    let answer = match timeout(request.headers()) {
        None => answer(&intake, request).await,
        Some(limit) => tokio::time::timeout(limit, answer(&intake, request)).await.unwrap_or_else(|_| {
            Err(RpcStatus::new(Code::DeadlineExceeded, "the call's deadline passed before the destination answered"))
        }),
    };
    match answer {
        Ok(outcome) => accept(outcome),
        Err(status) => refuse(&status),
    }
}

async fn answer(intake: &Intake, request: Request<Incoming>) -> Result<Outcome, RpcStatus> {
    intake.admit().map_err(|error| status::of_error(&error))?;
    let (parts, mut incoming) = request.into_parts();
    let identity = intake.authenticate(&parts.headers).await;
    let identity = identity.map_err(|error| RpcStatus::new(Code::Unauthenticated, error.to_string()))?;
    // Held until the answer is known: that long the bytes are here.
    let mut lease = intake.budget.lease();
    let message = read(intake, &parts.headers, Body { incoming: &mut incoming, lease: &mut lease }).await;
    let message = message.inspect_err(|_| intake.failed(0))?;
    intake.accept(message, &parts, identity).await.map_err(|refusal| match refusal {
        Refusal::Malformed(error) => RpcStatus::malformed(format!("byte {}", error.offset), error.to_string()),
        Refusal::Pipeline(error) => status::of_error(&error),
    })
}

fn failed(error: &BodyError) -> RpcStatus {
    let status = RpcStatus::new(error.code(), error.to_string());
    if error.code() == Code::Unavailable { status.with_retry(Some(RETRY_AFTER)) } else { status }
}

/// Reads the call's one message.
async fn read(intake: &Intake, headers: &HeaderMap, mut body: Body<'_>) -> Result<Message, RpcStatus> {
    let limit = intake.settings.limit;
    let nothing = || RpcStatus::new(Code::InvalidArgument, "the call ended before a whole message came");
    let mut first = Bytes::new();
    let mut buffer: Vec<u8> = vec![];
    let mut expected = None;
    while let Some(piece) = body.next().await.map_err(|error| failed(&error))? {
        if first.is_empty() && buffer.is_empty() {
            first = piece;
        } else {
            if buffer.is_empty() {
                let whole = expected.unwrap_or(FIRST_PIECE);
                buffer.reserve_exact(whole.min(FIRST_PIECE.max(first.len() + piece.len())));
                buffer.extend_from_slice(&std::mem::take(&mut first));
            }
            buffer.extend_from_slice(&piece);
        }
        let so_far = if buffer.is_empty() { &first[..] } else { &buffer[..] };
        if expected.is_none()
            && let Some(length) = so_far.get(1..PREFIX).and_then(|length| length.try_into().ok())
        {
            let length = u32::from_be_bytes(length) as usize;
            if length > limit {
                return Err(failed(&BodyError::TooLarge(limit)));
            }
            // Refused before it comes, where it could not be held.
            let to_come = length.saturating_sub(so_far.len());
            if !intake.budget.has(to_come) || !body.lease.reserve(to_come.min(FIRST_PIECE)) {
                return Err(failed(&BodyError::NoRoom));
            }
            expected = Some(length + PREFIX);
        }
        if expected.is_some_and(|expected| so_far.len() > expected) {
            return Err(RpcStatus::new(Code::InvalidArgument, "the call carries more than one message"));
        }
    }
    let framed = if buffer.is_empty() { first } else { buffer.into() };
    if expected != Some(framed.len()) {
        return Err(nothing());
    }
    match framed.first() {
        Some(0) => Message::from_grpc(framed).ok_or_else(nothing),
        Some(1) => {
            let codec = codec(headers)?;
            body::unpack(codec, framed, limit, body.lease).await.map_err(|error| failed(&error))
        }
        _ => Err(RpcStatus::new(Code::InvalidArgument, "the message's first byte is neither 0 nor 1")),
    }
}

fn codec(headers: &HeaderMap) -> Result<Codec, RpcStatus> {
    let Some(encoding) = headers.get("grpc-encoding").map(HeaderValue::as_bytes) else {
        return Err(RpcStatus::new(Code::Internal, "the message is compressed, and no `grpc-encoding` says how"));
    };
    std::str::from_utf8(encoding).ok().and_then(Codec::of_grpc).ok_or_else(|| {
        let message = format!("`{}` is not a compression that is understood here", encoding.escape_ascii());
        RpcStatus::new(Code::Unimplemented, message)
    })
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn accept(outcome: Outcome) -> Response<Ready> {
    let response = status::accepted(outcome).encode_to_vec();
    let message = Message::copy_of(&response).framed();
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Ready::with_trailers(message, trailers));
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, GRPC);
    headers.insert("grpc-accept-encoding", ACCEPTED);
    response
}

/// A status alone: it goes in the headers, and there is no body.
fn refuse(status: &RpcStatus) -> Response<Ready> {
    let mut response = Response::new(Ready::default());
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, GRPC);
    headers.insert("grpc-accept-encoding", ACCEPTED);
    let details = if status.details.is_empty() { vec![] } else { status.encode_to_vec() };
    let status = Status::with_details(Code::from_i32(status.code), status.message.clone(), details.into());
    let _ = status.add_header(headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_read_in_every_unit_and_nonsense_is_no_timeout() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(read("9999789u"), Some(Duration::from_micros(9_999_789)));
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        for nonsense in ["", "u", "-1S", "123456789S", "1x", "1é"] {
            assert_eq!(nonsense.parse::<HeaderValue>().ok().and_then(|_| read(nonsense)), None, "{nonsense}");
        }
    }
}
