//! A proxy: `CONNECT` and requests in absolute form, all of which it leads to one
//! address, whatever name they are for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::runtime;

pub struct Proxy {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    frozen: watch::Sender<bool>,
    task: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub fn start(to: SocketAddr) -> Self {
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::default();
        let frozen = watch::Sender::new(false);
        let task = runtime().spawn(serve(listener, to, Arc::clone(&heads), frozen.subscribe())).abort_handle();
        Self { address, heads, frozen, task }
    }

    /// Carries nothing any more, and closes nothing: as a network that broke.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    /// First lines and headers of what was asked of it.
    pub fn asked(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(listener: TcpListener, to: SocketAddr, heads: Arc<Mutex<Vec<String>>>, frozen: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(carry(stream, to, Arc::clone(&heads), frozen.clone()));
    }
}

async fn carry(
    mut stream: TcpStream,
    to: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    mut frozen: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let is_tunnel = text.starts_with("CONNECT ");
    heads.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    let mut other = TcpStream::connect(to).await?;
    if is_tunnel {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    } else {
        other.write_all(&head).await?;
    }
    tokio::select! {
        carried = tokio::io::copy_bidirectional(&mut stream, &mut other) => carried.map(drop),
        () = async { drop(frozen.wait_for(|frozen| *frozen).await) } => std::future::pending().await,
    }
}
