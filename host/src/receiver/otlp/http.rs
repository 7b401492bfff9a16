//! OTLP over HTTP: `POST /v1/traces`, protobuf, gzip.

use std::sync::Arc;

use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use prost::Message as _;
use tonic::Code;

use super::{BodyError, Intake, Refusal, next_piece};
use crate::traces::{Message, PREFIX};
use crate::transport::body::Ready;
use crate::transport::compress::{Codec, DecompressError};
use crate::transport::status::{self, RpcStatus};

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

/// At most so much is set aside before a byte of the body has come.
const FIRST_PIECE: usize = 1 << 20;

pub(super) async fn handle(intake: Arc<Intake>, request: Request<Incoming>) -> Response<Ready> {
    if request.uri().path() != intake.settings.path {
        return plain(StatusCode::NOT_FOUND, "404 page not found");
    }
    if request.method() != Method::POST {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed, supported: [POST]");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if media_type(request.headers()).as_deref() != Some("application/x-protobuf") {
        let message = "415 unsupported media type, supported: [application/x-protobuf]";
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    }
    match answer(&intake, request).await {
        Ok(rejected) => {
            let mut response = Response::new(Ready::new(status::accepted(rejected).encode_to_vec()));
            response.headers_mut().insert(CONTENT_TYPE, PROTOBUF);
            response
        }
        Err((code, status)) => refuse(code, &status),
    }
}

type Refused = (StatusCode, RpcStatus);

async fn answer(intake: &Intake, request: Request<Incoming>) -> Result<usize, Refused> {
    let (parts, body) = request.into_parts();
    let message = read(intake, &parts.headers, body).await.inspect_err(|_| intake.failed(0))?;
    intake.accept(message, &parts.headers).await.map_err(|refusal| match refusal {
        Refusal::Malformed(error) => bad_request(error.to_string()),
        Refusal::Pipeline(error) => {
            let status = status::of_error(&error);
            (status::to_http(status.code), status)
        }
    })
}

fn bad_request(message: String) -> Refused {
    (StatusCode::BAD_REQUEST, RpcStatus::new(Code::InvalidArgument, message))
}

/// Reads the body, and decompresses it where it says so.
async fn read(intake: &Intake, headers: &HeaderMap, mut body: Incoming) -> Result<Message, Refused> {
    let limit = intake.settings.limit;
    let failed = |error: BodyError| {
        let (http, code) = match error {
            BodyError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
            BodyError::Broken(_) => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
            BodyError::Slow(_) => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
        };
        (http, RpcStatus::new(code, error.to_string()))
    };
    let encoding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
    let codec = match std::str::from_utf8(encoding).ok() {
        Some("" | "identity") => None,
        Some(name) if Codec::of_http(name).is_some() => Codec::of_http(name),
        _ => return Err(bad_request(format!("unsupported Content-Encoding: {}", encoding.escape_ascii()))),
    };
    let claimed = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if claimed.is_some_and(|claimed| claimed > limit) {
        return Err(failed(BodyError::TooLarge(limit)));
    }
    // Room for gRPC's prefix, so that a gRPC exporter sends this very buffer on.
    let mut buffer = Vec::with_capacity(PREFIX + claimed.unwrap_or_default().min(FIRST_PIECE));
    buffer.resize(PREFIX, 0);
    while let Some(piece) = next_piece(&mut body).await.map_err(failed)? {
        if buffer.len() - PREFIX + piece.len() > limit {
            return Err(failed(BodyError::TooLarge(limit)));
        }
        buffer.extend_from_slice(&piece);
    }
    let Some(codec) = codec else { return Ok(Message::from_framed(buffer)) };
    let mut inflated = vec![0; PREFIX];
    codec.decompress(buffer.get(PREFIX..).unwrap_or_default(), &mut inflated, limit).map_err(|error| match error {
        DecompressError::Malformed(..) => bad_request(error.to_string()),
        DecompressError::TooLarge(_) => failed(BodyError::TooLarge(limit)),
    })?;
    Ok(Message::from_framed(inflated))
}

/// The media type without its parameters, lower case.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn plain(code: StatusCode, message: &'static str) -> Response<Ready> {
    let mut response = Response::new(Ready::new(message));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// A refusal's body is a `google.rpc.Status` in the request's encoding.
fn refuse(code: StatusCode, status: &RpcStatus) -> Response<Ready> {
    let mut response = Response::new(Ready::new(status.encode_to_vec()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PROTOBUF);
    if matches!(code, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
        && let Some(after) = status.retry_after()
    {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}
