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
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

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
    /// Requests that it could not read to their end, or that were compressed.
    pub unreadable: AtomicU64,
}

impl Sink {
    /// Takes at most `rate` spans a second, if one is given: it answers late.
    pub fn start(rate: Option<f64>) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let pace = Arc::new(Pace { rate, free_at: Mutex::new(None) });
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
            let Some(spans) = count(request.into_body()).await else {
                counts.unreadable.fetch_add(1, Ordering::Relaxed);
                return Ok(answer("13"));
            };
            pace.wait(spans).await;
            counts.spans.fetch_add(spans, Ordering::Relaxed);
            Ok::<_, Infallible>(answer("0"))
        }
    });
    // A killed collector tears its connection; that is the end of the row.
    let _ = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// How many spans the request holds; `None` if it is cut short or compressed.
async fn count(mut body: Incoming) -> Option<u64> {
    let mut counter = SpanCounter::default();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            counter.feed(&data);
        }
    }
    counter.finish()
}

/// Spreads spans over time.
struct Pace {
    rate: Option<f64>,
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    async fn wait(&self, spans: u64) {
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

fn answer(grpc_status: &'static str) -> http::Response<Answer> {
    let mut response = http::Response::new(Answer { grpc_status, sent: 0 });
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// An empty message, then the status.
struct Answer {
    grpc_status: &'static str,
    sent: u8,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent += 1;
        Poll::Ready(match self.sent {
            1 => Some(Ok(Frame::data(Bytes::from_static(&[0; 5])))),
            2 => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static(self.grpc_status));
                Some(Ok(Frame::trailers(trailers)))
            }
            _ => None,
        })
    }
}

/// Bytes of flags and length before a gRPC message.
const PREFIX: u64 = 5;
/// In which field of each message the next inner one stands, down to the span:
/// request, resource spans, scope spans.
const PATH: [u64; 3] = [1, 2, 2];

/// Counts the spans of one gRPC message in the pieces that it arrives in. It
/// jumps from span to span, so that the count costs less than receiving them.
#[derive(Default)]
pub struct SpanCounter {
    spans: u64,
    compressed: bool,
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
    pub fn feed(&mut self, mut data: &[u8]) {
        if self.position == 0 && !data.is_empty() {
            self.compressed = data[0] != 0;
            self.skip_to = PREFIX;
        }
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

    /// `None` if the message is cut short or compressed.
    pub fn finish(&self) -> Option<u64> {
        let whole = self.position >= PREFIX && self.position >= self.skip_to && self.tag.is_none() && self.shift == 0;
        (whole && !self.compressed).then_some(self.spans)
    }
}
