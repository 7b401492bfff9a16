//! Listeners: bind, accept for ever whatever a single connection does, serve,
//! and on shutdown let what is under way come to its end.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::body::Ready;
use super::connection::{self, SILENCE};
use super::stream::Stream;
use super::tls::ServerTls;

pub use super::connection::{ConnectionSettings, Versions};

/// A pause after a failed `accept`, as when no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that wait to be accepted, as many as tokio lets wait.
const BACKLOG: u32 = 1024;

/// A bound socket.
pub struct Listener {
    socket: Socket,
    pub address: Address,
}

enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _unlink: Unlink },
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Removes a socket's file at the end, as Go does.
struct Unlink(PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a server asks of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    Nothing,
    /// To go without breaking anything: HTTP/2 is told GOAWAY, and HTTP/1.1
    /// `connection: close` with its next answer, since a client may have begun to
    /// send what is not here yet.
    Leave,
    /// To answer what is under way, and go.
    End,
}

/// Waits until so much is asked; a server that is dropped asks for all.
pub(super) async fn asked(of: &mut watch::Receiver<Asked>, least: Asked) {
    let _ = of.wait_for(|asked| *asked >= least).await;
}

/// What new connections are greeted with; it can be renewed.
type TlsSlot = Arc<RwLock<Option<Arc<ServerTls>>>>;

/// A listener that is being served.
pub struct Server {
    asked: watch::Sender<Asked>,
    task: JoinHandle<()>,
    listener: Arc<Listener>,
    tls: TlsSlot,
}

impl Server {
    /// Accepts no more and waits until all requests under way are answered.
    pub async fn drain(self) {
        self.end();
        self.gone().await;
    }

    /// Accepts no more, and lets each connection go once its client knows.
    pub fn leave(&self) {
        self.asked.send_if_modified(|asked| {
            *asked < Asked::Leave && {
                *asked = Asked::Leave;
                true
            }
        });
    }

    /// Accepts no more, and lets each connection go when it is answered.
    pub fn end(&self) {
        self.asked.send_replace(Asked::End);
    }

    /// Waits for the end of all connections; its part in the socket goes at once.
    pub async fn gone(self) {
        let Self { asked, task, listener, .. } = self;
        drop(listener);
        let _ = task.await;
        drop(asked);
    }

    /// As `gone`; when `hurry` comes first, what is under way is all that is waited for.
    pub async fn gone_or_hurried(self, hurry: impl Future<Output = ()>) {
        let Self { asked, mut task, listener, .. } = self;
        drop(listener);
        tokio::select! {
            _ = &mut task => {}
            () = hurry => {
                asked.send_replace(Asked::End);
                let _ = task.await;
            }
        }
    }

    /// The socket, for another server that takes it over.
    pub fn listener(&self) -> Arc<Listener> {
        Arc::clone(&self.listener)
    }

    /// Greets new connections with these certificates. It goes by the settings that
    /// it was made with whether there is TLS at all.
    pub fn renew(&self, tls: Option<ServerTls>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls.map(Arc::new);
    }
}

impl Listener {
    /// Binds `host:port`; a name is looked up, and the first address that works is taken.
    pub async fn bind(endpoint: &str) -> std::io::Result<Self> {
        // Go writes "all addresses" as an empty host.
        let endpoint = if endpoint.starts_with(':') { format!("[::]{endpoint}") } else { endpoint.to_owned() };
        let listener = TcpListener::bind(&endpoint).await?;
        let address = Address::Tcp(listener.local_addr()?);
        Ok(Self { socket: Socket::Tcp(listener), address })
    }

    /// Binds where these stand in the way at present, as one of `localhost` does to all
    /// addresses. The kernel lets sockets of one port live beside each other if all of
    /// them agree to it, which they do for this moment.
    pub async fn bind_beside(endpoint: &str, others: &[Arc<Self>]) -> std::io::Result<Self> {
        let share = |shared: bool| others.iter().try_for_each(|other| other.share(shared));
        share(true)?;
        let bound = Self::bind_shared(endpoint).await;
        let unshared = share(false);
        let bound = bound?;
        unshared.and_then(|()| bound.share(false))?;
        Ok(bound)
    }

    async fn bind_shared(endpoint: &str) -> std::io::Result<Self> {
        let endpoint = if endpoint.starts_with(':') { format!("[::]{endpoint}") } else { endpoint.to_owned() };
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in tokio::net::lookup_host(endpoint).await? {
            let bind = || {
                let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                socket.set_reuseaddr(true)?;
                socket.set_reuseport(true)?;
                socket.bind(address)?;
                socket.listen(BACKLOG)
            };
            match bind() {
                Ok(listener) => {
                    let address = Address::Tcp(listener.local_addr()?);
                    return Ok(Self { socket: Socket::Tcp(listener), address });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn share(&self, shared: bool) -> std::io::Result<()> {
        match &self.socket {
            Socket::Tcp(listener) => Ok(rustix::net::sockopt::set_socket_reuseport(listener, shared)?),
            Socket::Unix { .. } => Ok(()),
        }
    }

    /// The address, where it is one of the network.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match &self.address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// Binds a path. A socket that a collector before has left is no obstacle.
    pub async fn bind_unix(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::FileTypeExt as _;
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if is_socket
            && let Err(error) = tokio::net::UnixStream::connect(path).await
            && error.kind() == std::io::ErrorKind::ConnectionRefused
        {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        let socket = Socket::Unix { listener, _unlink: Unlink(path.to_owned()) };
        Ok(Self { socket, address: Address::Unix(path.to_owned()) })
    }

    /// Serves until `drain`, without TLS and with the usual limits.
    pub fn serve<H, F>(self: Arc<Self>, versions: Versions, handle: H) -> Server
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Ready>> + Send + 'static,
    {
        self.serve_with(ConnectionSettings::new(versions), None, handle)
    }

    /// Serves until `drain`.
    pub fn serve_with<H, F>(self: Arc<Self>, settings: ConnectionSettings, tls: Option<ServerTls>, handle: H) -> Server
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Ready>> + Send + 'static,
    {
        let (sender, mut end) = watch::channel(Asked::Nothing);
        let (settings, tls) = (Arc::new(settings), TlsSlot::new(RwLock::new(tls.map(Arc::new))));
        let (listener, greeting) = (Arc::clone(&self), Arc::clone(&tls));
        let connections = end.clone();
        let task = tokio::spawn(async move {
            // Each connection holds one end; when the last is gone, nothing is under way.
            let (alive, mut all_gone) = mpsc::channel::<()>(1);
            let serve = move |stream| {
                let tls = greeting.read().unwrap_or_else(PoisonError::into_inner).clone();
                let (settings, handle) = (Arc::clone(&settings), handle.clone());
                let (end, alive) = (connections.clone(), alive.clone());
                tokio::spawn(async move {
                    if let Some(stream) = secured(stream, tls, end.clone()).await {
                        connection::serve(stream, settings, handle, end).await;
                    }
                    drop(alive);
                });
            };
            loop {
                tokio::select! {
                    biased;
                    () = asked(&mut end, Asked::Leave) => break,
                    accepted = self.accept() => match accepted {
                        Ok(stream) => serve(stream),
                        Err(error) => {
                            tracing::warn!(%error, "a connection could not be accepted");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    },
                }
            }
            // Who has connected before that would be reset with the socket.
            while let Some(Ok(stream)) = self.accept().now_or_never() {
                serve(stream);
            }
            drop((self, serve));
            all_gone.recv().await;
        });
        Server { asked: sender, task, listener, tls }
    }

    async fn accept(&self) -> std::io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
            Socket::Unix { listener, .. } => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// The stream behind its TLS handshake, where there is one; `None` if that failed.
async fn secured(stream: Stream, tls: Option<Arc<ServerTls>>, mut end: watch::Receiver<Asked>) -> Option<Stream> {
    let Some(tls) = tls else { return Some(stream) };
    tokio::select! {
        shaken = tokio::time::timeout(SILENCE, tls.acceptor().accept(stream)) => match shaken {
            Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => None,
        },
        () = asked(&mut end, Asked::End) => None,
    }
}
