//! `grpc.health.v1`: the health check for those who probe over gRPC, as Kubernetes
//! does. A service's name is a pipeline's; the empty one is the whole collector.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use prost::Message;
use tonic::{Code, Status};

use super::Port;
use super::health_v2::StatusPage;
use crate::transport::body::Ready;
use crate::transport::listen::{Listener, Server};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// A service's name is no longer than this, with gRPC's prefix.
const REQUEST_LIMIT: usize = 4096;
const PREFIX: usize = 5;

/// `HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

pub(super) fn serve(port: Port, listener: Arc<Listener>, page: Arc<StatusPage>) -> Server {
    port.serve(listener, move |request: Request<Incoming>| {
        let page = Arc::clone(&page);
        async move {
            match check(&page, request).await {
                Ok(status) => accept(status),
                Err(status) => refuse(&status),
            }
        }
    })
}

async fn check(page: &StatusPage, request: Request<Incoming>) -> Result<i32, Status> {
    match request.uri().path() {
        CHECK => {}
        WATCH => return Err(Status::unimplemented("this health service answers `Check` only")),
        path => return Err(Status::unimplemented(format!("`{path}` is not served here"))),
    }
    let body = Limited::new(request.into_body(), REQUEST_LIMIT).collect().await;
    let body = body.map_err(|error| Status::invalid_argument(format!("the request cannot be read: {error}")))?;
    let body = body.to_bytes();
    let asked = match body.split_first_chunk::<PREFIX>() {
        Some(([0, length @ ..], message)) if u32::from_be_bytes(*length) as usize == message.len() => {
            CheckRequest::decode(message).map_err(|error| Status::invalid_argument(error.to_string()))?
        }
        Some(([1, ..], _)) => return Err(Status::unimplemented("a request this small is not to be compressed")),
        _ => return Err(Status::invalid_argument("the call does not hold one message")),
    };
    let name = Some(asked.service.as_str()).filter(|name| !name.is_empty());
    match page.told(name, false) {
        Some((StatusCode::OK, _)) => Ok(SERVING),
        Some(_) => Ok(NOT_SERVING),
        None => Err(Status::not_found(format!("there is no pipeline `{}`", asked.service))),
    }
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

fn accept(status: i32) -> Response<Ready> {
    let message = CheckResponse { status }.encode_to_vec();
    let mut framed = vec![0, 0, 0, 0, message.len() as u8];
    framed.extend(message);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from(Code::Ok as i32));
    let mut response = Response::new(Ready::with_trailers(framed, trailers));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

fn refuse(status: &Status) -> Response<Ready> {
    let mut response = Response::new(Ready::default());
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    let _ = status.add_header(response.headers_mut());
    response
}
