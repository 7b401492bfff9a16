//! Senders that know each of their spans, and repeat what is refused for now as an SDK
//! does.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use http_body_util::BodyExt as _;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::proto::{Status, framed};
use crate::support::send::{Body, export_call, post_call, whole};
use crate::support::spans::{Span, span, text};
use crate::support::{request, runtime};

use super::plan::{Plan, Wire};

/// What the senders know.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    /// Spans that a sender got an OK for.
    pub acknowledged: HashSet<u64>,
    /// Spans of requests of which a sender does not know whether they were taken.
    pub ambiguous: HashSet<u64>,
    /// Spans of requests that were refused for now, and sent again.
    pub repeated: HashSet<u64>,
    /// Spans that were refused for good, or too often.
    pub refused: HashSet<u64>,
    /// Requests that were acknowledged.
    pub requests: usize,
}

/// Where the collector listens; nowhere while there is none.
type Address = watch::Sender<Option<SocketAddr>>;

pub struct Loader {
    ledger: Arc<Mutex<Ledger>>,
    address: Address,
    senders: JoinSet<()>,
}

/// How long a sender repeats one request, and waits for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Loader {
    pub fn start(plan: &Plan) -> Self {
        let (ledger, address) = (Arc::default(), Address::new(None));
        let mut senders = JoinSet::new();
        let _inside = runtime().enter();
        for number in 0..plan.senders {
            let sender = Sender {
                wire: plan.incoming,
                seed: plan.seed,
                number: number as u64,
                rng: Rng::with_seed(plan.seed ^ (number as u64 + 1)),
                address: address.subscribe(),
                ledger: Arc::clone(&ledger),
                connection: None,
            };
            senders.spawn(sender.run(plan.requests, plan.spans, plan.filler));
        }
        Self { ledger, address, senders }
    }

    /// Tells where the collector listens, or that there is none to connect to.
    pub fn send_to(&self, address: Option<SocketAddr>) {
        self.address.send_replace(address);
    }

    pub fn ledger(&self) -> Ledger {
        lock(&self.ledger).clone()
    }

    pub fn acknowledged(&self) -> usize {
        lock(&self.ledger).requests
    }

    pub fn is_done(&mut self) -> bool {
        while let Some(ended) = self.senders.try_join_next() {
            ended.expect("a sender does not panic");
        }
        self.senders.is_empty()
    }
}

/// A span's number, if it is one of this run's.
pub fn number_of(span: &Span, seed: u64) -> Option<u64> {
    let number = span.trace_id.strip_prefix(&seed.to_be_bytes())?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

enum Connection {
    Grpc(http2::SendRequest<Body>),
    Http(http1::SendRequest<Body>),
}

/// What one attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Ok,
    Later,
    Never,
    /// None: it was taken or not.
    Broken,
}

struct Sender {
    wire: Wire,
    seed: u64,
    number: u64,
    rng: Rng,
    address: watch::Receiver<Option<SocketAddr>>,
    ledger: Arc<Mutex<Ledger>>,
    connection: Option<Connection>,
}

impl Sender {
    async fn run(mut self, requests: usize, most_spans: usize, most_filler: usize) {
        for request in 0..requests as u64 {
            let count = self.rng.u64(1..=most_spans as u64);
            let first = (self.number << 40) + (request << 16) + 1;
            let numbers: Vec<u64> = (first..first + count).collect();
            self.deliver(&numbers, most_filler).await;
            tokio::time::sleep(Duration::from_millis(self.rng.u64(..12))).await;
        }
    }

    async fn deliver(&mut self, numbers: &[u64], most_filler: usize) {
        let spans = numbers.iter().map(|&number| {
            let mut span = span("known");
            span.trace_id = [self.seed.to_be_bytes(), number.to_be_bytes()].concat();
            span.span_id = number.to_be_bytes().to_vec();
            let filler: String = (0..self.rng.usize(..=most_filler)).map(|_| self.rng.alphanumeric()).collect();
            span.attributes = vec![text("filler", &filler)];
            span
        });
        let body = request(spans.collect()).encode_to_vec();
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let Some(answer) = self.attempt(&body).await else { continue };
            if self.note(answer, numbers) {
                return;
            }
            if answer == Answer::Never {
                break;
            }
            tokio::time::sleep(Duration::from_millis(self.rng.u64(10..50))).await;
        }
        lock(&self.ledger).refused.extend(numbers);
    }

    /// Writes down what an attempt came to; whether the request is acknowledged.
    fn note(&self, answer: Answer, numbers: &[u64]) -> bool {
        let mut ledger = lock(&self.ledger);
        match answer {
            Answer::Ok => {
                ledger.acknowledged.extend(numbers);
                ledger.requests += 1;
            }
            Answer::Later => ledger.repeated.extend(numbers),
            Answer::Broken => ledger.ambiguous.extend(numbers),
            Answer::Never => {}
        }
        answer == Answer::Ok
    }

    /// `None` where nothing was sent.
    async fn attempt(&mut self, body: &[u8]) -> Option<Answer> {
        if self.connection.is_none() {
            let named = self.address.wait_for(Option::is_some);
            let address = tokio::time::timeout(PATIENCE, named).await.ok()?.ok().and_then(|named| *named)?;
            self.connection = connect(self.wire, address).await;
            if self.connection.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                return None;
            }
        }
        let connection = self.connection.as_mut()?;
        let is_ready = match connection {
            Connection::Grpc(sender) => sender.ready().await.is_ok(),
            Connection::Http(sender) => sender.ready().await.is_ok(),
        };
        if !is_ready {
            self.connection = None;
            return None;
        }
        let answer = tokio::time::timeout(PATIENCE, send(connection, body)).await.ok().flatten();
        if answer.is_none() {
            self.connection = None;
        }
        Some(answer.unwrap_or(Answer::Broken))
    }
}

async fn connect(wire: Wire, address: SocketAddr) -> Option<Connection> {
    let stream = TokioIo::new(TcpStream::connect(address).await.ok()?);
    Some(match wire {
        Wire::Grpc => {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.ok()?;
            tokio::spawn(connection);
            Connection::Grpc(sender)
        }
        Wire::Http => {
            let (sender, connection) = http1::handshake(stream).await.ok()?;
            tokio::spawn(connection);
            Connection::Http(sender)
        }
    })
}

/// `None` where the connection broke.
async fn send(connection: &mut Connection, body: &[u8]) -> Option<Answer> {
    match connection {
        Connection::Grpc(sender) => {
            let response = sender.send_request(export_call(whole(framed(body)))).await.ok()?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.ok()?;
            let status = tonic::Status::from_header_map(&parts.headers);
            let status = status.or_else(|| tonic::Status::from_header_map(body.trailers()?))?;
            Some(of_grpc(&status))
        }
        Connection::Http(sender) => {
            let response = sender.send_request(post_call(whole(body.to_vec()))).await.ok()?;
            let (parts, body) = response.into_parts();
            body.collect().await.ok()?;
            Some(match parts.status.as_u16() {
                200 => Answer::Ok,
                429 | 502 | 503 | 504 => Answer::Later,
                _ => Answer::Never,
            })
        }
    }
}

/// The specification's table.
fn of_grpc(status: &tonic::Status) -> Answer {
    match status.code() {
        Code::Ok => Answer::Ok,
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Answer::Later,
        Code::ResourceExhausted => {
            let details = Status::decode(status.details()).unwrap_or_default();
            if details.retry_info().is_some() { Answer::Later } else { Answer::Never }
        }
        _ => Answer::Never,
    }
}
