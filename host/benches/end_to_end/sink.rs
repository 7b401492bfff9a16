//! The destination: takes every export, counts its spans, and answers OK.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use vespid::transport::compress::Codec;

use crate::{CONNECTION_WINDOW, STREAM_WINDOW};

/// A sink that runs until the process ends.
pub struct Sink {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
}

/// What arrived, since the start.
#[derive(Default)]
pub struct Counts {
    pub spans: AtomicU64,
    /// Bytes of bodies on the wire, compressed where they were.
    pub bytes: AtomicU64,
    /// Requests that it could not read to their end.
    pub unreadable: AtomicU64,
}

impl Sink {
    /// Takes at most `rate` spans a second, if one is given, by answering late; and answers
    /// after `delay` at the earliest.
    pub fn start(rate: Option<f64>, delay: Duration) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let pace = Arc::new(Pace { rate, delay, free_at: Mutex::new(None) });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("sink".into()).spawn({
            let counts = counts.clone();
            move || runtime.block_on(accept(listener, counts, pace))
        })?;
        Ok(Self { address, counts })
    }
}

async fn accept(listener: std::net::TcpListener, counts: Arc<Counts>, pace: Arc<Pace>) {
    let listener = TcpListener::from_std(listener).expect("the sink cannot listen");
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, counts.clone(), pace.clone()));
        }
    }
}

async fn serve(stream: TcpStream, counts: Arc<Counts>, pace: Arc<Pace>) {
    // Without it only the last answers come late.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (counts, pace) = (counts.clone(), pace.clone());
        async move {
            let (head, body) = request.into_parts();
            let is_grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC));
            let Some((spans, bytes)) = count(&head.headers, body, is_grpc).await else {
                counts.unreadable.fetch_add(1, Ordering::Relaxed);
                return Ok(answer(is_grpc, false));
            };
            pace.wait(spans).await;
            counts.spans.fetch_add(spans, Ordering::Relaxed);
            counts.bytes.fetch_add(bytes, Ordering::Relaxed);
            Ok::<_, Infallible>(answer(is_grpc, true))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        // As many requests as a collector has consumers.
        .max_concurrent_streams(None)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    // A killed collector tears its connection; that is the end of the row.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

const GRPC: &[u8] = b"application/grpc";

/// How many spans the request holds, and how many bytes came; `None` if it is cut short.
async fn count(headers: &HeaderMap, mut body: Incoming, is_grpc: bool) -> Option<(u64, u64)> {
    let codec = headers.get(if is_grpc { "grpc-encoding" } else { "content-encoding" });
    let codec = codec.and_then(|name| Codec::of_http(name.to_str().ok()?));
    let mut counter = if is_grpc { SpanCounter::of_grpc() } else { SpanCounter::default() };
    let (mut packed, mut bytes) = (vec![], 0);
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes += data.len() as u64;
            match codec {
                Some(_) => packed.extend_from_slice(&data),
                None => counter.feed(&data),
            }
        }
    }
    let Some(codec) = codec else { return Some((counter.finish()?, bytes)) };
    let packed = packed.get(if is_grpc { PREFIX as usize } else { 0 }..)?;
    let mut message = vec![];
    codec.decompress(packed, &mut message, 1 << 30, &mut |_| true).ok()?;
    counter = SpanCounter::default();
    counter.feed(&message);
    Some((counter.finish()?, bytes))
}

/// Spreads spans over time.
struct Pace {
    rate: Option<f64>,
    delay: Duration,
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    async fn wait(&self, spans: u64) {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let Some(rate) = self.rate else { return };
        let until = {
            let mut free_at = self.free_at.lock().expect("no holder panics");
            let now = Instant::now();
            let until = free_at.map_or(now, |at| at.max(now)) + Duration::from_secs_f64(spans as f64 / rate);
            *free_at = Some(until);
            until
        };
        tokio::time::sleep_until(until).await;
    }
}

fn answer(is_grpc: bool, ok: bool) -> http::Response<Answer> {
    let grpc_status = is_grpc.then_some(if ok { "0" } else { "13" });
    let mut response = http::Response::new(Answer { grpc_status, sent: 0 });
    let kind = if is_grpc { "application/grpc" } else { "application/x-protobuf" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if !is_grpc && !ok {
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
    }
    response
}

/// An empty message, then the status; over HTTP nothing.
struct Answer {
    grpc_status: Option<&'static str>,
    sent: u8,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(grpc_status) = self.grpc_status else { return Poll::Ready(None) };
        self.sent += 1;
        Poll::Ready(match self.sent {
            1 => Some(Ok(Frame::data(Bytes::from_static(&[0; 5])))),
            2 => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static(grpc_status));
                Some(Ok(Frame::trailers(trailers)))
            }
            _ => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.grpc_status.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.grpc_status.is_none() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// Bytes of flags and length before a gRPC message.
const PREFIX: u64 = 5;
/// In which field of each message the next inner one stands, down to the span:
/// request, resource spans, scope spans.
const PATH: [u64; 3] = [1, 2, 2];

/// Counts the spans of one message, with gRPC's prefix or without, in the pieces that it arrives in. It
/// jumps from span to span, so that the count costs less than receiving them.
#[derive(Default)]
pub struct SpanCounter {
    spans: u64,
    position: u64,
    /// Everything before it is of no interest.
    skip_to: u64,
    /// Where the entered messages end, outermost first.
    ends: [u64; PATH.len() - 1],
    depth: usize,
    /// The varint being read.
    value: u64,
    shift: u32,
    tag: Option<u64>,
}

impl SpanCounter {
    /// For a message that comes behind gRPC's prefix.
    pub fn of_grpc() -> Self {
        Self { skip_to: PREFIX, ..Self::default() }
    }

    pub fn feed(&mut self, mut data: &[u8]) {
        while let Some((&byte, rest)) = data.split_first() {
            if self.skip_to > self.position {
                let skipped = data.len().min((self.skip_to - self.position) as usize);
                self.position += skipped as u64;
                data = &data[skipped..];
                continue;
            }
            while self.depth > 0 && self.position >= self.ends[self.depth - 1] {
                self.depth -= 1;
            }
            self.position += 1;
            data = rest;
            self.value |= u64::from(byte & 0x7f).checked_shl(self.shift).unwrap_or(0);
            self.shift += 7;
            if byte < 0x80 {
                self.take_varint();
            }
        }
    }

    fn take_varint(&mut self) {
        let value = std::mem::take(&mut self.value);
        self.shift = 0;
        let Some(tag) = self.tag.take() else {
            match value & 7 {
                1 => self.skip_to = self.position + 8,
                5 => self.skip_to = self.position + 4,
                // A varint or a length follows.
                _ => self.tag = Some(value),
            }
            return;
        };
        if tag & 7 != 2 {
            return;
        }
        let end = self.position.saturating_add(value);
        if tag >> 3 != PATH[self.depth] {
            self.skip_to = end;
        } else if self.depth + 1 < PATH.len() {
            self.ends[self.depth] = end;
            self.depth += 1;
        } else {
            self.spans += 1;
            self.skip_to = end;
        }
    }

    /// `None` if the message is cut short.
    pub fn finish(&self) -> Option<u64> {
        let whole = self.position >= self.skip_to && self.tag.is_none() && self.shift == 0;
        whole.then_some(self.spans)
    }
}
