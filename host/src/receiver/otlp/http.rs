//! OTLP over HTTP: `POST /v1/traces`, protobuf and JSON, in any of the
//! Collector's encodings.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tonic::Code;

use super::body::{self, Body, BodyError, FIRST_PIECE};
use super::{Intake, Refusal};
use crate::component::{ConsumeError, Outcome};
use crate::traces::{Message, OtlpJsonError, PREFIX, decode_request, write_prefix};
use crate::transport::body::Ready;
use crate::transport::budget::Lease;
use crate::transport::compress::{Codec, DecompressError};
use crate::transport::status::{self, RpcStatus, ToJson};

/// How a request is written, and so its answer too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        // Parameters, such as a charset, change nothing.
        let media_type = text.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/x-protobuf") {
            Some(Self::Protobuf)
        } else if media_type.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else {
            None
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        })
    }

    fn write<M: prost::Message + ToJson>(self, message: &M) -> Vec<u8> {
        match self {
            Self::Protobuf => message.encode_to_vec(),
            Self::Json => message.to_json().to_string().into_bytes(),
        }
    }
}

pub(super) async fn handle(intake: Arc<Intake>, request: Request<Incoming>) -> Response<Ready> {
    let settings = &intake.settings.http;
    if let Some(cors) = &settings.cors
        && let Some(answer) = cors.preflight(&request)
    {
        return answer;
    }
    let (parts, mut incoming) = request.into_parts();
    let origin = parts.headers.get(ORIGIN);
    let encoding = Encoding::of(&parts.headers).unwrap_or(Encoding::Protobuf);
    let answer = respond(&intake, &parts, &mut incoming);
    let mut response = match settings.write_timeout {
        None => answer.await,
        Some(limit) => tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            let message = "the destination did not answer within `write_timeout`";
            let status = RpcStatus::new(Code::DeadlineExceeded, message);
            refuse(&intake, (status::to_http(status.code), status), encoding)
        }),
    };
    if parts.version < Version::HTTP_2 && !response.status().is_success() {
        body::linger(incoming);
    }
    let headers = response.headers_mut();
    for (name, value) in &settings.response_headers {
        headers.insert(name, value.clone());
    }
    if let Some(cors) = &settings.cors {
        cors.mark(origin, headers);
    }
    response
}

async fn respond(intake: &Intake, parts: &Parts, incoming: &mut Incoming) -> Response<Ready> {
    if parts.uri.path() != intake.settings.http.path {
        return plain(StatusCode::NOT_FOUND, "404 page not found");
    }
    if parts.method != Method::POST {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed, supported: [POST]");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let Some(encoding) = Encoding::of(&parts.headers) else {
        let message = "415 unsupported media type, supported: [application/json, application/x-protobuf]";
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    };
    match answer(intake, parts, incoming, encoding).await {
        Ok(outcome) => {
            let mut response = Response::new(Ready::new(encoding.write(&status::accepted(outcome))));
            response.headers_mut().insert(CONTENT_TYPE, encoding.content_type());
            response
        }
        Err(refused) => refuse(intake, refused, encoding),
    }
}

/// A refusal: HTTP's status, and `google.rpc.Status` as its body.
type Refused = (StatusCode, RpcStatus);

async fn answer(
    intake: &Intake,
    parts: &Parts,
    incoming: &mut Incoming,
    encoding: Encoding,
) -> Result<Outcome, Refused> {
    intake.admit().map_err(|error| of_error(&error))?;
    let identity = intake
        .authenticate(&parts.headers)
        .await
        .map_err(|error| (StatusCode::UNAUTHORIZED, RpcStatus::new(Code::Unauthenticated, error.to_string())))?;
    // Held until the answer is known: that long the bytes are here.
    let mut lease = intake.budget.lease();
    let message = message(intake, &parts.headers, Body { incoming, lease: &mut lease }, encoding).await;
    let message = message.inspect_err(|_| intake.failed(0))?;
    intake.accept(message, parts, identity).await.map_err(|refusal| match refusal {
        Refusal::Malformed(error) => {
            (StatusCode::BAD_REQUEST, RpcStatus::malformed(format!("byte {}", error.offset), error.to_string()))
        }
        Refusal::Pipeline(error) => of_error(&error),
    })
}

fn of_error(error: &ConsumeError) -> Refused {
    let status = status::of_error(error);
    (status::to_http(status.code), status)
}

/// Reads the request to wire bytes.
async fn message(intake: &Intake, headers: &HeaderMap, body: Body<'_>, encoding: Encoding) -> Result<Message, Refused> {
    let Body { incoming, lease } = body;
    let read = read(intake, headers, Body { incoming, lease: &mut *lease });
    let message = match intake.settings.http.read_timeout {
        None => read.await?,
        Some(limit) => {
            tokio::time::timeout(limit, read).await.unwrap_or_else(|_| Err(failed(&BodyError::Late(limit))))?
        }
    };
    match encoding {
        Encoding::Protobuf => Ok(message),
        Encoding::Json => translate(message.bytes(), intake.settings.limit, lease).await,
    }
}

fn failed(error: &BodyError) -> Refused {
    let http = match error {
        BodyError::TooLarge(_) | BodyError::Packed(DecompressError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Slow(_) | BodyError::Late(_) => StatusCode::REQUEST_TIMEOUT,
        other => status::to_http(other.code() as i32),
    };
    let status = RpcStatus::new(error.code(), error.to_string());
    let retry = (error.code() == Code::Unavailable).then_some(status::RETRY_AFTER);
    (http, status.with_retry(retry))
}

/// Reads the body, and unpacks it where it says so.
async fn read(intake: &Intake, headers: &HeaderMap, mut body: Body<'_>) -> Result<Message, Refused> {
    let limit = intake.settings.limit;
    let codec = codec(headers, intake.settings.http.encodings.as_deref())?;
    let claimed = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if claimed.is_some_and(|claimed| claimed > limit) {
        return Err(failed(&BodyError::TooLarge(limit)));
    }
    // Refused before it comes, where it could not be held.
    let first = claimed.unwrap_or_default().min(FIRST_PIECE);
    if !intake.budget.has(claimed.unwrap_or_default()) || !body.lease.reserve(first) {
        return Err(failed(&BodyError::NoRoom));
    }
    // Room for gRPC's prefix, so that a gRPC exporter sends this very buffer on.
    let mut buffer = Vec::with_capacity(PREFIX + first);
    buffer.resize(PREFIX, 0);
    while let Some(piece) = body.next().await.map_err(|error| failed(&error))? {
        if buffer.len() - PREFIX + piece.len() > limit {
            return Err(failed(&BodyError::TooLarge(limit)));
        }
        buffer.extend_from_slice(&piece);
    }
    match codec {
        None => Ok(Message::from_framed(buffer)),
        Some(codec) => {
            write_prefix(true, &mut buffer);
            body::unpack(codec, buffer.into(), limit, body.lease).await.map_err(|error| failed(&error))
        }
    }
}

/// `None` for a body that is not packed.
fn codec(headers: &HeaderMap, taken: Option<&[Codec]>) -> Result<Option<Codec>, Refused> {
    let mut names = headers.get_all(CONTENT_ENCODING).iter();
    let encoding = names.next().map(HeaderValue::as_bytes).unwrap_or_default();
    let name = std::str::from_utf8(encoding).map(str::trim).ok().filter(|_| names.next().is_none());
    match name {
        Some("") => return Ok(None),
        Some(name) if name.eq_ignore_ascii_case("identity") => return Ok(None),
        Some(name) => {
            let codec = Codec::of_http(name).filter(|codec| taken.is_none_or(|taken| taken.contains(codec)));
            if codec.is_some() {
                return Ok(codec);
            }
        }
        None => {}
    }
    let message = format!("unsupported Content-Encoding: {}", encoding.escape_ascii());
    Err((StatusCode::BAD_REQUEST, RpcStatus::new(Code::InvalidArgument, message)))
}

/// Translating more than this keeps a worker from its other requests for too long.
const LARGE: usize = 512 << 10;

/// The wire bytes of a request in JSON, for which the lease has to have room too.
async fn translate(json: Bytes, limit: usize, lease: &mut Lease) -> Result<Message, Refused> {
    let came = json.len();
    // OTLP JSON is never shorter than what it says on the wire.
    if !lease.grow(came) {
        return Err(failed(&BodyError::NoRoom));
    }
    let decode = move || decode_request(&json, limit);
    let decoded = if came > LARGE {
        tokio::task::spawn_blocking(decode).await.map_err(|error| failed(&BodyError::Unpacking(error)))?
    } else {
        decode()
    };
    lease.shrink(came);
    decoded.map_err(|error| match error {
        OtlpJsonError::TooLarge { limit } => failed(&BodyError::TooLarge(limit)),
        error => (StatusCode::BAD_REQUEST, RpcStatus::malformed(error.place(), error.to_string())),
    })
}

fn plain(code: StatusCode, message: &'static str) -> Response<Ready> {
    let mut response = Response::new(Ready::new(message));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// A refusal's body is a `google.rpc.Status` in the request's encoding.
fn refuse(intake: &Intake, (code, status): Refused, encoding: Encoding) -> Response<Ready> {
    let mut response = Response::new(Ready::new(encoding.write(&status)));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, encoding.content_type());
    if code == StatusCode::UNAUTHORIZED
        && let Some(authenticator) = &intake.door.authenticator
        && let Ok(challenge) = HeaderValue::from_str(authenticator.challenge())
    {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if matches!(code, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
        && let Some(after) = status.retry_after()
    {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}
