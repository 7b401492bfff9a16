//! One connection of a server: HTTP on it, and when it ends.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::body::Ready;
use super::listen::{Asked, asked};
use super::stream::{Heard, Peer, Stream};

/// Which versions of HTTP a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/2 without an upgrade, as gRPC has it.
    Http2,
    Any,
}

/// What a connection may do, and for how long.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    pub versions: Versions,
    /// Streams that a client may have open at once.
    pub streams: u32,
    /// A peer that is silent for so long is asked whether it is still there.
    pub ping_after: Duration,
    /// So long it may take to say so.
    pub ping_timeout: Duration,
    /// A connection without a request for so long is closed.
    pub max_idle: Option<Duration>,
    /// A connection is told to end after so long, a tenth more or less, so that
    /// clients spread over new servers.
    pub max_age: Option<Duration>,
    /// Its requests under way may take so long then.
    pub max_age_grace: Option<Duration>,
    /// The head of a request may take so long.
    pub header_timeout: Duration,
    /// Whether HTTP/1.1 connections serve more than one request.
    pub keep_alive: bool,
}

impl ConnectionSettings {
    pub fn new(versions: Versions) -> Self {
        Self {
            versions,
            streams: 1024,
            ping_after: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(20),
            max_idle: None,
            max_age: None,
            max_age_grace: None,
            header_timeout: HEADER_TIMEOUT,
            keep_alive: true,
        }
    }
}

/// A client may send so much before it has to wait.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A whole batch in one frame saves most of HTTP/2's cost, where the client goes along.
const FRAME: u32 = 256 << 10;
const HEADER_LIST: u32 = 64 << 10;
/// What a connection of HTTP/1.1 reads ahead, a request's head included: nobody has asked
/// the budget for it yet.
const HTTP1_BUFFER: usize = 32 << 10;
/// Streams that a client has opened and reset without waiting, at most.
const PENDING_RESETS: usize = 64;
/// hyper counts the wait for the next request on a kept connection too, so it is
/// longer than clients leave between two batches.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// Who connects and says nothing is not waited for any longer.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// What a connection is doing.
#[derive(Default)]
struct Activity {
    heard: Arc<AtomicBool>,
    begun: AtomicUsize,
    under_way: AtomicUsize,
    ended: Notify,
    is_http2: AtomicBool,
    /// Whether the server wants the connection to go.
    leaving: AtomicBool,
}

impl Activity {
    /// Tells the client of HTTP/1.1 that it is the last answer here, where it is.
    fn part(&self, version: Version, answer: &mut Response<Ready>) {
        if self.leaving.load(Ordering::Relaxed) && version < Version::HTTP_2 {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// A request under way; it counts itself out.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.notify_one();
    }
}

/// Serves a connection to its end; `end` asks it to end in order.
pub(super) async fn serve<H, F>(
    stream: Stream,
    settings: Arc<ConnectionSettings>,
    handle: H,
    mut end: watch::Receiver<Asked>,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Ready>> + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let counted = Arc::clone(&activity);
    let peer = stream.peer().map(Peer);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let (under_way, version) = (UnderWay::new(&counted), request.version());
        counted.is_http2.store(version == Version::HTTP_2, Ordering::Relaxed);
        let answer = handle(request);
        async move {
            let mut answer = answer.await;
            under_way.0.part(version, &mut answer);
            drop(under_way);
            Ok::<_, Infallible>(answer)
        }
    });
    let builder = builder(&settings);
    let io = TokioIo::new(Heard { stream, heard: Arc::clone(&activity.heard) });
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut ends = Ends::new(&settings);
    let (mut leave, mut leaving) = (end.clone(), false);
    loop {
        tokio::select! {
            biased;
            served = connection.as_mut() => {
                if let Err(error) = served {
                    tracing::debug!(error, "a connection ended");
                }
                return;
            }
            // Who has asked nothing yet has nothing under way, and a drain does not wait for it.
            () = asked(&mut end, Asked::End), if !ends.asked => {
                if activity.begun.load(Ordering::Relaxed) == 0 {
                    return;
                }
                ends.ask(None);
                connection.as_mut().graceful_shutdown();
            }
            () = asked(&mut leave, Asked::Leave), if !leaving => {
                leaving = true;
                activity.leaving.store(true, Ordering::Relaxed);
                // A client of HTTP/2 finds out by itself what was not begun. Of one that has
                // asked nothing yet it is not known what it speaks.
                if activity.is_http2.load(Ordering::Relaxed) && !ends.asked {
                    ends.ask(None);
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = tokio::time::sleep_until(ends.next()) => match ends.look(&activity) {
                Verdict::Stay => {}
                Verdict::Ask => connection.as_mut().graceful_shutdown(),
                Verdict::Leave => return,
            },
            () = activity.ended.notified(), if ends.max_idle.is_some() || (leaving && !ends.asked) => {
                ends.idle_since = Instant::now();
                if leaving && !ends.asked && activity.is_http2.load(Ordering::Relaxed) {
                    ends.ask(None);
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn builder(settings: &ConnectionSettings) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    if settings.versions == Versions::Http2 {
        builder = builder.http2_only();
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(HTTP1_BUFFER)
        .header_read_timeout(settings.header_timeout)
        .keep_alive(settings.keep_alive);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADER_LIST)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .keep_alive_interval(settings.ping_after)
        .keep_alive_timeout(settings.ping_timeout);
    builder
}

enum Verdict {
    Stay,
    /// Let what is under way end, and take no more.
    Ask,
    Leave,
}

/// When a connection ends by the clock.
struct Ends {
    started: Instant,
    idle_since: Instant,
    max_idle: Option<Duration>,
    old_at: Option<Instant>,
    grace: Option<Duration>,
    /// Whether it was asked to end, and by when it has to.
    asked: bool,
    leave_at: Option<Instant>,
    silence_over: bool,
}

/// No clock runs longer than this, about thirty years.
const NEVER: Duration = Duration::from_secs(1 << 30);

impl Ends {
    fn new(settings: &ConnectionSettings) -> Self {
        let now = Instant::now();
        // A tenth more or less, so that a fleet does not reconnect in one moment.
        let age = settings.max_age.map(|age| age.min(NEVER).mul_f64(0.9 + 0.2 * fastrand::f64()));
        Self {
            started: now,
            idle_since: now,
            max_idle: settings.max_idle.map(|idle| idle.min(NEVER)),
            old_at: age.map(|age| now + age),
            grace: settings.max_age_grace.map(|grace| grace.min(NEVER)),
            asked: false,
            leave_at: None,
            silence_over: false,
        }
    }

    fn next(&self) -> Instant {
        let silence = (!self.silence_over).then(|| self.started + SILENCE);
        let idle = self.max_idle.filter(|_| !self.asked).map(|idle| self.idle_since + idle);
        let old = self.old_at.filter(|_| !self.asked);
        let times = [silence, idle, old, self.leave_at];
        times.into_iter().flatten().min().unwrap_or(self.started + NEVER)
    }

    fn ask(&mut self, grace: Option<Duration>) {
        self.asked = true;
        self.leave_at = grace.map(|grace| Instant::now() + grace);
    }

    fn look(&mut self, activity: &Activity) -> Verdict {
        let now = Instant::now();
        if self.leave_at.is_some_and(|at| at <= now) {
            return Verdict::Leave;
        }
        if !self.silence_over && self.started + SILENCE <= now {
            self.silence_over = true;
            if !activity.heard.load(Ordering::Relaxed) {
                return Verdict::Leave;
            }
        }
        if self.asked {
            return Verdict::Stay;
        }
        if self.old_at.is_some_and(|at| at <= now) {
            self.ask(self.grace);
            return Verdict::Ask;
        }
        if self.max_idle.is_some_and(|idle| self.idle_since + idle <= now) {
            if activity.under_way.load(Ordering::Relaxed) == 0 {
                self.ask(None);
                return Verdict::Ask;
            }
            self.idle_since = now;
        }
        Verdict::Stay
    }
}
