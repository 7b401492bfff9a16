//! How an exporter's connections are made: TCP or a Unix socket, perhaps through a
//! proxy, perhaps with TLS.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

use super::proxy::Proxies;
use crate::transport::tls::ClientTls;

/// Whereto connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Each request's own host and port.
    OfRequest,
    /// The address that this name has: `host:port`.
    Name(String),
    Address(SocketAddr),
    Unix(PathBuf),
}

/// Makes connections for hyper's client.
#[derive(Clone)]
pub struct Connector {
    pub target: Target,
    /// `None` speaks plain text.
    pub tls: Option<Arc<ClientTls>>,
    pub proxies: Arc<Proxies>,
    /// Whether plain HTTP goes through a proxy's tunnel too, as gRPC needs it.
    pub always_tunnel: bool,
}

/// A connection attempt may take no longer, whatever the request's own timeout is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, whatever carries it.
pub struct Conduit {
    io: TokioIo<Box<dyn Io>>,
    speaks_http2: bool,
    is_proxied: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("there is no address for `{0}`")]
    NoAddress(String),
    #[error("the URL has no host")]
    NoHost,
    #[error("no connection within {CONNECT_TIMEOUT:?}")]
    Slow,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the proxy `{0}` does not let us through: {1}")]
    Proxy(String, String),
    #[error("a proxy of this kind is not known: `{0}`")]
    ProxyScheme(String),
    #[error(transparent)]
    Tls(#[from] crate::transport::tls::TlsError),
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<Conduit, ConnectError> {
        let connecting = self.connect_in_any_time(&uri);
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or(Err(ConnectError::Slow))
    }

    async fn connect_in_any_time(&self, uri: &Uri) -> Result<Conduit, ConnectError> {
        let tls = self.tls.as_ref().filter(|_| uri.scheme_str() == Some("https"));
        let mut is_proxied = false;
        let io: Box<dyn Io> = match &self.target {
            Target::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Target::Address(address) => Box::new(tcp(std::slice::from_ref(address)).await?),
            Target::OfRequest | Target::Name(_) => {
                let (host, port) = self.host_and_port(uri)?;
                match self.proxies.of(uri.scheme_str(), &host, port) {
                    None => Box::new(tcp(&lookup(&host, port).await?).await?),
                    Some(proxy) if tls.is_some() || self.always_tunnel => through(&proxy, &host, port).await?,
                    Some(proxy) if proxy.uri().scheme_str().is_some_and(|scheme| scheme.starts_with("socks5")) => {
                        through(&proxy, &host, port).await?
                    }
                    Some(proxy) => {
                        is_proxied = true;
                        to_proxy(proxy.uri()).await?
                    }
                }
            }
        };
        let Some(tls) = tls else {
            return Ok(Conduit { io: TokioIo::new(io), speaks_http2: false, is_proxied });
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = tls.connect(host, io).await?;
        let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Conduit { io: TokioIo::new(Box::new(stream)), speaks_http2, is_proxied })
    }

    fn host_and_port(&self, uri: &Uri) -> Result<(String, u16), ConnectError> {
        if let Target::Name(name) = &self.target {
            let (host, port) = name.rsplit_once(':').ok_or(ConnectError::NoHost)?;
            let port = port.parse().map_err(|_| ConnectError::NoHost)?;
            return Ok((host.trim_matches(['[', ']']).to_owned(), port));
        }
        let host = uri.host().ok_or(ConnectError::NoHost)?.trim_matches(['[', ']']).to_owned();
        Ok((host, uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 })))
    }
}

/// All addresses of a name.
pub async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    if found.is_empty() { Err(ConnectError::NoAddress(host.to_owned())) } else { Ok(found) }
}

/// The first address that takes the connection.
async fn tcp(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let mut failed = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.map_or(ConnectError::NoHost, ConnectError::Io))
}

/// A connection to the proxy itself.
async fn to_proxy(proxy: &Uri) -> Result<Box<dyn Io>, ConnectError> {
    let host = proxy.host().ok_or(ConnectError::NoHost)?.trim_matches(['[', ']']);
    let (port, is_tls) = match proxy.scheme_str() {
        Some("https") => (443, true),
        Some("socks5" | "socks5h") => (1080, false),
        _ => (80, false),
    };
    let stream = tcp(&lookup(host, proxy.port_u16().unwrap_or(port)).await?).await?;
    if !is_tls {
        return Ok(Box::new(stream));
    }
    let stream = ClientTls::of_system()?.connect(host, Box::new(stream)).await?;
    Ok(Box::new(stream))
}

/// A connection through the proxy to its other side.
async fn through(proxy: &Intercept, host: &str, port: u16) -> Result<Box<dyn Io>, ConnectError> {
    let uri = proxy.uri().clone();
    let shown = uri.authority().map_or("", |authority| authority.as_str().rsplit('@').next().unwrap_or_default());
    let failed = |error: &dyn std::fmt::Display| ConnectError::Proxy(shown.to_owned(), error.to_string());
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let to: Uri = format!("https://{bracketed}:{port}").parse().map_err(|_| ConnectError::NoHost)?;
    let stream = match uri.scheme_str() {
        Some("socks5" | "socks5h") => {
            let mut socks = SocksV5::new(uri.clone(), ToProxy);
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            socks.call(to).await.map_err(|error| failed(&error))?
        }
        Some("http" | "https") => {
            let mut tunnel = Tunnel::new(uri.clone(), ToProxy);
            if let Some(auth) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(auth.clone());
            }
            tunnel.call(to).await.map_err(|error| failed(&error))?
        }
        _ => return Err(ConnectError::ProxyScheme(shown.to_owned())),
    };
    Ok(stream.into_inner())
}

/// `to_proxy`, as hyper-util's tunnels want it.
struct ToProxy;

impl Service<Uri> for ToProxy {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move { to_proxy(&uri).await.map(TokioIo::new) })
    }
}

impl Service<Uri> for Connector {
    type Response = Conduit;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Conduit, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

impl Connection for Conduit {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.is_proxied);
        if self.speaks_http2 { connected.negotiated_h2() } else { connected }
    }
}

impl hyper::rt::Read for Conduit {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(context, into)
    }
}

impl hyper::rt::Write for Conduit {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, from)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(context, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
