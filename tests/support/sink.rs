//! A destination: OTLP over gRPC and over HTTP on one port. It keeps every
//! request as it came, and answers as it is told.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request as HttpRequest, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::proto::{Status, framed, unpack};
use super::send::{JSON, PROTOBUF};
use super::spans::Request;
use super::tempo::Tempo;
use super::{runtime, wait_for};

/// How the sink answers.
#[derive(Debug, Clone)]
pub enum Reply {
    Accept,
    Partial {
        rejected: i64,
        message: &'static str,
    },
    /// A gRPC status; `retry` goes with it as a RetryInfo.
    Grpc {
        code: i32,
        message: &'static str,
        retry: Option<Duration>,
    },
    /// An HTTP status, with no gRPC status, and a `google.rpc.Status` as its body.
    Http {
        status: u16,
        message: &'static str,
        retry_after: Option<&'static str>,
    },
    /// A status in the words of either protocol.
    Status {
        grpc: i32,
        http: u16,
        message: String,
        retry: Option<Duration>,
    },
    /// A gRPC answer of these headers alone.
    Headers(&'static [(&'static str, &'static str)]),
    /// Sends elsewhere.
    Redirect {
        status: u16,
        location: String,
    },
    /// A response of so many bytes.
    Huge(usize),
    /// Waits for `release`, then accepts.
    Hold,
    /// Accepts after this time.
    Delayed(Duration),
    /// Closes the connection without an answer.
    HangUp,
}

impl Reply {
    pub fn grpc(code: tonic::Code, message: &'static str) -> Self {
        Self::Grpc { code: code as i32, message, retry: None }
    }

    pub fn http(status: u16, message: &'static str) -> Self {
        Self::Http { status, message, retry_after: None }
    }
}

/// A request as the destination got it.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    /// The message's very bytes, without compression and gRPC's prefix.
    pub message: Vec<u8>,
    pub was_compressed: bool,
    /// The same as it was on the wire, without gRPC's prefix.
    pub wire: Vec<u8>,
    pub version: http::Version,
    /// Whom the request was for: `:authority` or `Host`.
    pub authority: String,
    /// Which of the sink's connections it came over.
    pub connection: usize,
    /// How it was answered.
    pub reply: Reply,
}

impl Received {
    pub fn request(&self) -> Request {
        Request::decode(self.message.as_slice()).expect("what a destination gets is a request")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    state: Mutex<State>,
    released: watch::Sender<bool>,
}

struct State {
    received: Vec<Received>,
    usual: Reply,
    next: VecDeque<Reply>,
    /// Answers by itself, where no reply was ordered.
    tempo: Option<Tempo>,
}

impl Shared {
    fn new() -> Arc<Self> {
        let state = State { received: vec![], usual: Reply::Accept, next: VecDeque::new(), tempo: None };
        Arc::new(Self { state: Mutex::new(state), released: watch::Sender::new(false) })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// A destination that is down: its port is taken, and connections are refused.
pub struct Down(TcpSocket);

impl Down {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Comes up.
    pub fn up(self) -> Sink {
        let _inside = runtime().enter();
        Sink::on(self.0.listen(64).unwrap(), None)
    }
}

impl Sink {
    pub fn start() -> Self {
        Down::new().up()
    }

    pub fn start_tls(acceptor: TlsAcceptor) -> Self {
        let _inside = runtime().enter();
        Self::on(Down::new().0.listen(64).unwrap(), Some(acceptor))
    }

    /// Takes no more connections, and breaks those that there are off.
    pub fn stop(&self) {
        self.task.abort();
    }

    pub fn on(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Shared::new();
        let task = runtime().spawn(serve(listener, tls, Arc::clone(&shared))).abort_handle();
        Self { address, shared, task }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On a socket of the file system.
    pub fn start_unix(path: &std::path::Path) -> Self {
        let _inside = runtime().enter();
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let shared = Shared::new();
        let task = runtime().spawn(serve_unix(listener, Arc::clone(&shared))).abort_handle();
        Self { address: ([0, 0, 0, 0], 0).into(), shared, task }
    }

    /// A destination that answers as Tempo does.
    pub fn tempo(tempo: Tempo) -> Self {
        let sink = Self::start();
        sink.state().tempo = Some(tempo);
        sink
    }

    /// From now on every request is answered so.
    pub fn answer(&self, reply: Reply) {
        self.state().usual = reply;
    }

    /// The next requests are answered so, one each.
    pub fn answer_next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state().next.extend(replies);
    }

    /// Lets go of what it holds, now and later.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    pub fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    /// Waits for so many requests in all; more than that fail the test.
    #[track_caller]
    pub fn wait(&self, count: usize) -> Vec<Received> {
        let what = format!("{count} requests at the destination");
        wait_for(&what, || (self.state().received.len() >= count).then_some(()));
        let received = self.received();
        assert_eq!(received.len(), count, "more came than was sent");
        received
    }

    /// The one request that came, decoded.
    #[track_caller]
    pub fn only(&self) -> Request {
        self.wait(1)[0].request()
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    // Connections end with the sink.
    let mut connections = JoinSet::new();
    for number in 0.. {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            match tls {
                None => speak(stream, number, shared).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        speak(stream, number, shared).await;
                    }
                }
            }
        });
    }
}

async fn serve_unix(listener: tokio::net::UnixListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let Ok((stream, _)) = listener.accept().await else { return };
        connections.spawn(speak(stream, number, Arc::clone(&shared)));
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, number: usize, shared: Arc<Shared>) {
    let service = hyper::service::service_fn(move |request| answer(request, number, Arc::clone(&shared)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_frame_size(1 << 20).initial_stream_window_size(8 << 20);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: HttpRequest<Incoming>,
    connection: usize,
    shared: Arc<Shared>,
) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let kind = parts.headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
    let (is_grpc, is_json) = (kind == "application/grpc", kind == JSON);
    let encoding = |name: &str| parts.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let (message, codec) = if is_grpc {
        assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - 5, "the prefix is right");
        (&body[5..], if body[0] == 1 { encoding("grpc-encoding") } else { "" })
    } else {
        (&body[..], encoding("content-encoding"))
    };
    // gRPC's snappy is the framed one.
    let codec = if is_grpc && codec == "snappy" { "x-snappy-framed" } else { codec };
    let was_compressed = !codec.is_empty();
    let wire = message.to_vec();
    let message = unpack(codec, message);
    let authority = parts.uri.authority().map(ToString::to_string);
    let authority = authority.unwrap_or_else(|| encoding("host").to_owned());
    let mut received = Received {
        path: parts.uri.path().to_owned(),
        message,
        was_compressed,
        wire,
        version: parts.version,
        authority,
        connection,
        headers: parts.headers.clone(),
        reply: Reply::Accept,
    };
    let reply = {
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ordered = state.next.pop_front();
        let reply = ordered.unwrap_or_else(|| match &mut state.tempo {
            Some(tempo) => tempo.answer(is_grpc, &received),
            None => state.usual.clone(),
        });
        received.reply = reply.clone();
        state.received.push(received);
        reply
    };
    respond(reply, is_grpc, is_json, &shared).await
}

async fn respond(
    reply: Reply,
    is_grpc: bool,
    is_json: bool,
    shared: &Shared,
) -> Result<Response<Body>, std::io::Error> {
    let mut response = ExportTraceServiceResponse::default();
    match reply {
        Reply::Accept => {}
        Reply::Hold => drop(shared.released.subscribe().wait_for(|released| *released).await),
        Reply::Delayed(time) => tokio::time::sleep(time).await,
        Reply::HangUp => return Err(std::io::Error::other("told to hang up")),
        Reply::Partial { rejected, message } => {
            let error_message = message.to_owned();
            response.partial_success = Some(ExportTracePartialSuccess { rejected_spans: rejected, error_message });
        }
        Reply::Huge(size) => {
            let error_message = "x".repeat(size);
            response.partial_success = Some(ExportTracePartialSuccess { rejected_spans: 0, error_message });
        }
        Reply::Grpc { code, message, retry } => {
            let details = if retry.is_some() { Status::new(code, message, retry).encode_to_vec() } else { vec![] };
            let status = tonic::Status::with_details(code.into(), message, details.into());
            return Ok(status.into_http::<Full<Bytes>>().map(BodyExt::boxed));
        }
        Reply::Headers(headers) => {
            let mut response = Response::new(Full::new(Bytes::new()).boxed());
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            *response.headers_mut() =
                headers.chain([("content-type".parse().unwrap(), "application/grpc".parse().unwrap())]).collect();
            return Ok(response);
        }
        Reply::Redirect { status, location } => {
            let mut response = Response::new(Full::new(Bytes::new()).boxed());
            *response.status_mut() = status.try_into().unwrap();
            response.headers_mut().insert("location", location.parse().unwrap());
            return Ok(response);
        }
        Reply::Status { grpc, message, retry, .. } if is_grpc => {
            let details = if retry.is_some() { Status::new(grpc, &message, retry).encode_to_vec() } else { vec![] };
            let status = tonic::Status::with_details(grpc.into(), message, details.into());
            return Ok(status.into_http::<Full<Bytes>>().map(BodyExt::boxed));
        }
        Reply::Status { grpc, http, message, retry } => {
            let (kind, body) = if is_json {
                (JSON, serde_json::json!({"code": grpc, "message": message}).to_string().into_bytes())
            } else {
                (PROTOBUF, Status::new(grpc, &message, retry).encode_to_vec())
            };
            let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
            *response.status_mut() = http.try_into().unwrap();
            response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
            if let Some(wait) = retry {
                response.headers_mut().insert("retry-after", wait.as_secs().into());
            }
            return Ok(response);
        }
        Reply::Http { status, message, retry_after } => {
            let body = Status::new(0, message, None).encode_to_vec();
            let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
            *response.status_mut() = status.try_into().unwrap();
            if let Some(text) = retry_after {
                response.headers_mut().insert("retry-after", HeaderValue::from_static(text));
            }
            return Ok(response);
        }
    }
    let message = response.encode_to_vec();
    let (kind, body) = if is_grpc {
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
        let body = Full::new(Bytes::from(framed(&message))).with_trailers(std::future::ready(Some(Ok(trailers))));
        ("application/grpc", body.boxed())
    } else if is_json {
        let partial = response.partial_success.map_or(serde_json::json!({}), |partial| {
            serde_json::json!({"partialSuccess": {
                "rejectedSpans": partial.rejected_spans.to_string(), "errorMessage": partial.error_message,
            }})
        });
        (JSON, Full::new(Bytes::from(partial.to_string())).boxed())
    } else {
        (PROTOBUF, Full::new(Bytes::from(message)).boxed())
    };
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    Ok(response)
}
