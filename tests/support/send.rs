//! Senders that put any bytes on the wire, right or wrong.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::proto::Status;
use super::{PATIENCE, runtime};

pub const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub const JSON: &str = "application/json";
pub const PROTOBUF: &str = "application/x-protobuf";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub type Body = BoxBody<Bytes, std::io::Error>;

/// What a gRPC call came to.
#[derive(Debug, Clone)]
pub struct GrpcAnswer {
    pub code: tonic::Code,
    pub message: String,
    /// What stands in `grpc-status-details-bin`.
    pub details: Status,
    /// The response's message, where the call ended well.
    pub response: Option<ExportTraceServiceResponse>,
}

impl GrpcAnswer {
    #[track_caller]
    pub fn expect_ok(&self) -> &ExportTraceServiceResponse {
        assert_eq!(self.code, tonic::Code::Ok, "{}", self.message);
        self.response.as_ref().unwrap()
    }

    #[track_caller]
    pub fn expect(&self, code: tonic::Code, part: &str) {
        assert_eq!(self.code, code, "{}", self.message);
        assert!(self.message.contains(part), "`{}` does not say `{part}`", self.message);
    }
}

/// What an HTTP request came to.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl HttpAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn expect_ok(&self) -> ExportTraceServiceResponse {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some(PROTOBUF));
        ExportTraceServiceResponse::decode(self.body.clone()).unwrap()
    }

    /// The body of an answer in JSON.
    #[track_caller]
    pub fn json(&self, status: u16) -> serde_json::Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some(JSON));
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// The refusal's `google.rpc.Status`.
    #[track_caller]
    pub fn expect(&self, status: u16, part: &str) -> Status {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some(PROTOBUF));
        let found = Status::decode(self.body.clone()).expect("the body is a google.rpc.Status");
        assert!(found.message.contains(part), "`{}` does not say `{part}`", found.message);
        found
    }
}

/// A request under way. The connection is closed when this is dropped.
pub struct Pending<T>(JoinHandle<T>);

impl<T> Pending<T> {
    #[track_caller]
    pub fn answer(mut self) -> T {
        let task = &mut self.0;
        let within = async { tokio::time::timeout(PATIENCE, task).await };
        runtime().block_on(within).expect("the answer comes in time").expect("the sender does not panic")
    }

    pub fn is_answered(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The pieces of a body, sent one by one for as long as this lives; dropping it
/// ends the body, `break_off` resets it.
pub struct Pieces(tokio::sync::mpsc::UnboundedSender<std::io::Result<Frame<Bytes>>>);

impl Pieces {
    pub fn send(&self, piece: impl Into<Bytes>) {
        // The other side may have hung up, which is what some tests are about.
        let _ = self.0.send(Ok(Frame::data(piece.into())));
    }

    pub fn break_off(self) {
        let _ = self.0.send(Err(std::io::Error::other("the sender breaks off")));
    }
}

/// A body of pieces.
pub fn pieces() -> (Pieces, Body) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    (Pieces(sender), BodyExt::boxed(StreamBody::new(stream)))
}

pub fn whole(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed()
}

/// What carries a request.
#[derive(Clone)]
enum Carrier {
    Tcp,
    Tls(TlsConnector, ServerName<'static>),
    Unix(PathBuf),
}

/// A request to be sent on a connection of its own.
#[derive(Clone)]
pub struct Call {
    address: SocketAddr,
    carrier: Carrier,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
}

impl Call {
    /// A gRPC call of the trace service.
    pub fn grpc(address: SocketAddr) -> Self {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        Self::to(address, EXPORT, &headers)
    }

    /// OTLP over HTTP.
    pub fn http(address: SocketAddr) -> Self {
        Self::to(address, "/v1/traces", &[("content-type", PROTOBUF)])
    }

    pub fn get(address: SocketAddr, path: &str) -> HttpAnswer {
        Self { method: Method::GET, ..Self::to(address, path, &[]) }.post("")
    }

    fn to(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { address, carrier: Carrier::Tcp, method: Method::POST, path: path.to_owned(), headers }
    }

    /// By TLS, to a server of this name.
    pub fn tls(mut self, config: ClientConfig, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        self.carrier = Carrier::Tls(TlsConnector::from(Arc::new(config)), name);
        self
    }

    /// Through a socket of the file system.
    pub fn unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.carrier = Carrier::Unix(path.into());
        self
    }

    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Sets a header; an empty value removes it.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Sends a gRPC call's body, prefix and all.
    #[track_caller]
    pub fn call(self, framed: impl Into<Bytes>) -> GrpcAnswer {
        self.start_call(framed).answer()
    }

    pub fn start_call(self, framed: impl Into<Bytes>) -> Pending<GrpcAnswer> {
        self.start_call_of(whole(framed))
    }

    pub fn start_call_of(self, body: Body) -> Pending<GrpcAnswer> {
        Pending(runtime().spawn(async move { grpc_answer(self.http2(body).await).await }))
    }

    /// Sends an HTTP/1.1 request's body.
    #[track_caller]
    pub fn post(self, content: impl Into<Bytes>) -> HttpAnswer {
        self.start_post(content).answer()
    }

    pub fn start_post(self, content: impl Into<Bytes>) -> Pending<HttpAnswer> {
        self.start_post_of(whole(content))
    }

    pub fn start_post_of(self, body: Body) -> Pending<HttpAnswer> {
        Pending(runtime().spawn(async move { http_answer(self.http1(body).await).await }))
    }

    /// The same over HTTP/2 without TLS.
    #[track_caller]
    pub fn post_http2(self, content: impl Into<Bytes>) -> HttpAnswer {
        let body = whole(content);
        Pending(runtime().spawn(async move { http_answer(self.http2(body).await).await })).answer()
    }

    fn request(&self, body: Body) -> http::Request<Body> {
        let mut request = http::Request::builder().method(self.method.clone());
        request = request.uri(format!("http://{}{}", self.address, self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(body).unwrap()
    }

    async fn connect(&self) -> TokioIo<Box<dyn Stream>> {
        let tcp = async || TcpStream::connect(self.address).await.expect("the collector accepts connections");
        TokioIo::new(match &self.carrier {
            Carrier::Tcp => Box::new(tcp().await) as Box<dyn Stream>,
            Carrier::Tls(connector, name) => {
                Box::new(connector.connect(name.clone(), tcp().await).await.expect("the TLS handshake is made"))
            }
            Carrier::Unix(path) => Box::new(UnixStream::connect(path).await.expect("the socket is there")),
        })
    }

    async fn http2(&self, body: Body) -> Response<Incoming> {
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), self.connect().await);
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        sender.send_request(self.request(body)).await.expect("there is a response")
    }

    async fn http1(&self, body: Body) -> Response<Incoming> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(self.connect().await).await.unwrap();
        tokio::spawn(connection);
        let mut request = self.request(body);
        let host = self.address.to_string().parse().unwrap();
        request.headers_mut().insert("host", host);
        sender.send_request(request).await.expect("there is a response")
    }
}

/// An HTTP/2 connection for calls of one's own making, and its end.
pub async fn http2(address: SocketAddr) -> (SendRequest<Body>, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    (sender, runtime().spawn(connection))
}

/// The same over HTTP/1.1.
pub async fn http1(address: SocketAddr) -> http1::SendRequest<Body> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    runtime().spawn(connection);
    sender
}

/// A request to be made on such a connection.
pub fn post_call(body: Body) -> http::Request<Body> {
    let call = http::Request::post("/v1/traces").header("host", "collector.test");
    call.header("content-type", PROTOBUF).body(body).unwrap()
}

/// A call of the trace service to be made on such a connection.
pub fn export_call(body: Body) -> http::Request<Body> {
    let call = http::Request::post(format!("http://collector.test{EXPORT}"));
    call.header("content-type", "application/grpc").body(body).unwrap()
}

pub async fn http_answer(response: Response<Incoming>) -> HttpAnswer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("the response is whole").to_bytes();
    HttpAnswer { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub async fn grpc_answer(response: Response<Incoming>) -> GrpcAnswer {
    let (parts, body) = response.into_parts();
    assert_eq!(parts.status, 200, "gRPC answers with HTTP 200 always");
    assert_eq!(parts.headers.get("content-type").unwrap(), "application/grpc");
    let collected = body.collect().await.expect("the response is whole");
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let status = tonic::Status::from_header_map(&parts.headers);
    let status = status.or_else(|| tonic::Status::from_header_map(&trailers)).expect("there is a grpc-status");
    let content = collected.to_bytes();
    let response = (!content.is_empty()).then(|| {
        assert_eq!(content[0], 0, "the response is not compressed");
        ExportTraceServiceResponse::decode(&content[5..]).unwrap()
    });
    GrpcAnswer {
        code: status.code(),
        message: status.message().to_owned(),
        details: Status::decode(status.details()).unwrap(),
        response,
    }
}

/// Connects and does nothing more, for as long as the socket lives.
pub fn idle_connection(address: SocketAddr) -> std::net::TcpStream {
    let stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}
