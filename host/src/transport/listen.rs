//! Listeners: bind, accept for ever whatever a single connection does, serve,
//! and on shutdown let what is under way come to its end.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::body::Ready;

/// Which versions of HTTP a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/2 without an upgrade, as gRPC has it.
    Http2,
    Any,
}

/// Limits of one connection. A gRPC client may open so many streams at once and
/// send so much before it has to wait.
const STREAMS: u32 = 1024;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A whole batch in one frame saves most of HTTP/2's cost, where the client goes along.
const FRAME: u32 = 256 << 10;
const HEADER_LIST: u32 = 64 << 10;
/// Streams that a client has opened and reset without waiting, at most.
const PENDING_RESETS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE: Duration = Duration::from_secs(60);
/// A pause after a failed `accept`, as when no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket.
pub struct Listener {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// A listener that is being served.
pub struct Server {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Accepts no more and waits until all requests under way are answered.
    pub async fn drain(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

impl Listener {
    /// Binds `host:port`; a name is looked up, and the first address that works is taken.
    pub async fn bind(endpoint: &str) -> std::io::Result<Self> {
        // Go writes "all addresses" as an empty host.
        let endpoint = if endpoint.starts_with(':') { format!("[::]{endpoint}") } else { endpoint.to_owned() };
        let listener = TcpListener::bind(&endpoint).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Serves until `drain`.
    pub fn serve<H, F>(self, versions: Versions, handle: H) -> Server
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Ready>> + Send + 'static,
    {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let graceful = GracefulShutdown::new();
            loop {
                let accepted = tokio::select! {
                    accepted = self.listener.accept() => accepted,
                    _ = stopped.changed() => break,
                };
                match accepted {
                    Ok((stream, _)) => {
                        connection(stream, versions, handle.clone(), graceful.watcher(), stopped.clone());
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
            drop(self.listener);
            graceful.shutdown().await;
        });
        Server { stop, task }
    }
}

fn connection<H, F>(
    stream: TcpStream,
    versions: Versions,
    handle: H,
    watcher: Watcher,
    mut stopped: watch::Receiver<bool>,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Ready>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    if versions == Versions::Http2 {
        builder = builder.http2_only();
    }
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADER_LIST)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .keep_alive_interval(KEEPALIVE);
    let service = hyper::service::service_fn(move |request| {
        let answer = handle(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    tokio::spawn(async move {
        // Who has said nothing yet has nothing under way, and a drain does not wait for it.
        let mut first = [0];
        tokio::select! {
            spoke = tokio::time::timeout(HEADER_TIMEOUT, stream.peek(&mut first)) => {
                if spoke.is_err() {
                    return;
                }
            }
            _ = stopped.changed() => return,
        }
        let served = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(served).await {
            tracing::debug!(error, "a connection ended");
        }
    });
}
