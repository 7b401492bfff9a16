//! Sends the load over raw HTTP, so that the sender's own work is small
//! beside the collector's, and counts what was acknowledged.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::Instant;

use vespid::transport::compress::Codec;

use crate::wire::Wire;
use crate::{CONNECTION_WINDOW, EXPORT, STREAM_WINDOW, batches};

const CONNECTIONS: usize = 2;
/// What an answer may take; a collector that holds one longer has failed it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// What a refused sender waits, as a polite SDK would, before it tries again.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone, Copy)]
pub struct Load {
    pub streams: usize,
    /// In spans a second; without one each stream sends as fast as answers come.
    pub rate: Option<f64>,
    /// The longest DATA frame sent; without one it is what the receiver allows.
    pub frame: Option<usize>,
    pub wire: Wire,
}

/// What became of what was sent, in spans.
#[derive(Default)]
pub struct Outcome {
    pub acknowledged: AtomicU64,
    pub failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
}

impl Outcome {
    pub fn first_failure(&self) -> Option<String> {
        self.first_failure.lock().ok()?.clone()
    }

    fn fail(&self, spans: u64, error: &anyhow::Error) {
        self.failed.fetch_add(spans, Ordering::Relaxed);
        if let Ok(mut first) = self.first_failure.lock() {
            first.get_or_insert_with(|| format!("{error:#}"));
        }
    }
}

/// A load in progress, on a thread of its own.
pub struct Loader {
    pub outcome: Arc<Outcome>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Loader {
    pub fn start(to: SocketAddr, load: Load, batches: Arc<Vec<Bytes>>) -> Result<Self> {
        let (outcome, stop) = (Arc::new(Outcome::default()), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::Builder::new().name("loader".into()).spawn({
            let (outcome, stop) = (outcome.clone(), stop.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(send_all(to, load, batches, outcome, stop))
            }
        })?;
        Ok(Self { outcome, stop, thread })
    }

    /// Sends no more, and returns when what is under way has been answered.
    pub fn finish(self) -> Result<Arc<Outcome>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the loader panicked"))??;
        Ok(self.outcome)
    }
}

async fn send_all(
    to: SocketAddr,
    load: Load,
    batches: Arc<Vec<Bytes>>,
    outcome: Arc<Outcome>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let mut connections = Vec::new();
    // HTTP/1.1 carries one request at a time.
    let count = if load.wire.is_grpc() { CONNECTIONS.min(load.streams) } else { load.streams };
    for _ in 0..count {
        connections.push(Connection::open(to, load.wire).await?);
    }
    let interval = load.rate.map(|rate| Duration::from_secs_f64(load.streams as f64 * batches::SPANS as f64 / rate));
    let mut streams = Vec::new();
    for number in 0..load.streams {
        let stream = Stream {
            connection: connections[number % connections.len()].share(to, load.wire).await?,
            to,
            wire: load.wire,
            frame: load.frame.unwrap_or(usize::MAX),
            due: interval
                .map(|interval| (Instant::now() + interval.mul_f64(number as f64 / load.streams as f64), interval)),
            // Apart, so that no two streams send the same batch at a time.
            next: number * batches.len() / load.streams,
            batches: batches.clone(),
        };
        streams.push(tokio::spawn(stream.run(outcome.clone(), stop.clone())));
    }
    for stream in streams {
        stream.await?;
    }
    Ok(())
}

struct Stream {
    connection: Connection,
    to: SocketAddr,
    wire: Wire,
    frame: usize,
    due: Option<(Instant, Duration)>,
    next: usize,
    batches: Arc<Vec<Bytes>>,
}

impl Stream {
    async fn run(mut self, outcome: Arc<Outcome>, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            if let Some((due, interval)) = &mut self.due {
                tokio::time::sleep_until(*due).await;
                *due += *interval;
            }
            let batch = self.batches[self.next % self.batches.len()].clone();
            self.next += 1;
            match export(&mut self.connection, self.to, self.wire, batch, self.frame).await {
                Ok(rejected) => {
                    outcome.acknowledged.fetch_add(batches::SPANS.saturating_sub(rejected), Ordering::Relaxed);
                    if rejected > 0 {
                        outcome.fail(rejected, &anyhow!("a partial success rejected spans"));
                    }
                }
                Err(error) => {
                    outcome.fail(batches::SPANS, &error);
                    // The row is lost with its connection; its figures will say so.
                    if self.connection.is_closed() {
                        return;
                    }
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }
}

/// Connects and sends a request without spans: what a start is measured by.
pub async fn first_answer(to: SocketAddr, wire: Wire) -> Result<()> {
    let mut connection = Connection::open(to, wire).await?;
    let empty: &[u8] = match wire {
        Wire::Grpc(_) => &[0; 5],
        Wire::Http => &[],
        Wire::Json => b"{}",
    };
    export(&mut connection, to, wire, Bytes::from_static(empty), usize::MAX).await?;
    Ok(())
}

enum Connection {
    Http1(http1::SendRequest<Framed>),
    Http2(http2::SendRequest<Framed>),
}

impl Connection {
    async fn open(to: SocketAddr, wire: Wire) -> Result<Self> {
        let stream = TcpStream::connect(to).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        // A connection's end shows in the requests that fail.
        if !wire.is_grpc() {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            return Ok(Self::Http1(sender));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        Ok(Self::Http2(sender))
    }

    /// For one more stream: the same connection where it carries several.
    async fn share(&self, to: SocketAddr, wire: Wire) -> Result<Self> {
        match self {
            Self::Http2(sender) => Ok(Self::Http2(sender.clone())),
            Self::Http1(_) => Self::open(to, wire).await,
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    async fn send(&mut self, request: http::Request<Framed>) -> Result<http::Response<Incoming>> {
        Ok(match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }
}

/// Returns how many spans a partial success rejected.
async fn export(connection: &mut Connection, to: SocketAddr, wire: Wire, body: Bytes, frame: usize) -> Result<u64> {
    let (path, kind) = match wire {
        Wire::Grpc(_) => (EXPORT, "application/grpc"),
        Wire::Http => ("/v1/traces", "application/x-protobuf"),
        Wire::Json => ("/v1/traces", "application/json"),
    };
    let mut request = http::Request::post(format!("http://{to}{path}")).header(http::header::CONTENT_TYPE, kind);
    if let Wire::Grpc(codec) = wire {
        request = request.header(http::header::TE, "trailers");
        if let Some(codec) = codec {
            request = request.header("grpc-encoding", codec.grpc_name());
        }
    } else {
        request = request.header(http::header::HOST, to.to_string());
    }
    let request = request.body(Framed { rest: body, frame, is_sized: !wire.is_grpc() })?;
    let answer = async {
        let response = connection.send(request).await?;
        if wire.is_grpc() { read(response).await } else { read_http(response).await }
    };
    tokio::time::timeout(ANSWER_DEADLINE, answer).await.context("no answer")?
}

/// An answer without a partial success: the sink refuses nothing.
async fn read_http(response: http::Response<Incoming>) -> Result<u64> {
    ensure!(response.status().is_success(), "HTTP status {}", response.status());
    let mut body = response.into_body();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        frame?;
    }
    Ok(0)
}

async fn read(response: http::Response<Incoming>) -> Result<u64> {
    ensure!(response.status().is_success(), "HTTP status {}", response.status());
    let (head, mut body) = response.into_parts();
    let head = head.headers;
    let (mut message, mut trailers) = (Vec::new(), head.clone());
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        match frame?.into_data() {
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().into_iter().flatten()),
        }
    }
    match trailers.get("grpc-status").map(|status| status.as_bytes()) {
        Some(b"0") => {}
        status => {
            let text = trailers.get("grpc-message").map(|text| String::from_utf8_lossy(text.as_bytes()));
            let status = String::from_utf8_lossy(status.unwrap_or(b"missing"));
            bail!("gRPC status {status}: {}", text.unwrap_or_default());
        }
    }
    let mut answer = message.get(5..).context("no message in the answer")?.to_vec();
    // grpc-go answers in the compression that it was asked in, whatever it was offered.
    if message.first() == Some(&1) {
        let codec = head.get("grpc-encoding").and_then(|name| Codec::of_grpc(name.to_str().ok()?));
        let packed = std::mem::take(&mut answer);
        codec.context("an answer packed in no known way")?.decompress(&packed, &mut answer, 4 << 20, &mut |_| true)?;
    }
    let answer = ExportTraceServiceResponse::decode(answer.as_slice())?;
    Ok(answer.partial_success.map_or(0, |partial| partial.rejected_spans.max(0) as u64))
}

/// A body in frames of a length. As from every gRPC library, no
/// `content-length` goes before a gRPC message.
struct Framed {
    rest: Bytes,
    frame: usize,
    is_sized: bool,
}

impl Body for Framed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(self.frame);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_sized { SizeHint::with_exact(self.rest.len() as u64) } else { SizeHint::default() }
    }
}
