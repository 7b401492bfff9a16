//! The sockets of a graph: those that are open already are taken over, so that a
//! reload closes none that it still needs, and the others are opened before
//! anything is changed.

use std::io::{Error, ErrorKind};
use std::sync::Arc;

use super::listeners::Claim;
use super::running::StartError;
use crate::receiver::otlp::Endpoint;
use crate::transport::listen::Listener;

/// A socket that listens, and for whom.
pub(super) struct Held {
    pub owner: String,
    pub endpoint: Endpoint,
    pub listener: Arc<Listener>,
}

/// A socket for its new owner.
pub(super) struct Socket {
    pub listener: Arc<Listener>,
    pub is_new: bool,
}

/// The owner's own socket, or whosever it was that listens at this place.
pub(super) async fn open(
    held: &[Held],
    owner: &str,
    endpoint: &Endpoint,
    claims: &[Claim],
) -> Result<Socket, StartError> {
    let here = || held.iter().filter(|held| held.endpoint == *endpoint);
    let own = here().find(|held| held.owner == owner);
    if let Some(held) = own.or_else(|| here().find(|_| is_one_place(endpoint))) {
        return Ok(Socket { listener: Arc::clone(&held.listener), is_new: false });
    }
    let bound = match bind(endpoint).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse => bind_beside(endpoint, held).await.unwrap_or(Err(error)),
        bound => bound,
    };
    match bound {
        Ok(listener) => Ok(Socket { listener: Arc::new(listener), is_new: true }),
        Err(error) => Err(failed(endpoint, &error, claims)),
    }
}

async fn bind(endpoint: &Endpoint) -> Result<Listener, Error> {
    match endpoint {
        Endpoint::Tcp(address) => Listener::bind(address).await,
        Endpoint::Unix(path) => Listener::bind_unix(path).await,
    }
}

/// One of our own may be what stands in the way: `None` if it is not.
async fn bind_beside(endpoint: &Endpoint, held: &[Held]) -> Option<Result<Listener, Error>> {
    let Endpoint::Tcp(address) = endpoint else { return None };
    let port: u16 = address.rsplit_once(':')?.1.parse().ok()?;
    let others = held.iter().map(|held| &held.listener).filter(|listener| listener.port() == Some(port));
    let others: Vec<_> = others.cloned().collect();
    if others.is_empty() { None } else { Some(Listener::bind_beside(address, &others).await) }
}

/// Whether everybody who writes this means the same: port 0 is any that is free.
fn is_one_place(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Tcp(address) => !address.ends_with(":0"),
        Endpoint::Unix(_) => true,
    }
}

/// Told at the setting.
fn failed(endpoint: &Endpoint, error: &Error, claims: &[Claim]) -> StartError {
    let message = format!("`{endpoint}` cannot be listened on: {error}");
    let hint = match error.kind() {
        ErrorKind::AddrInUse => "choose another port, or stop what listens there",
        ErrorKind::PermissionDenied => "choose a port above 1023, or a place that this user may write to",
        _ => "",
    };
    match claims.iter().find(|claim| claim.endpoint == *endpoint) {
        Some(claim) => StartError::Bind(Box::new(claim.problem(message, hint))),
        None => StartError::Bind(Box::new(crate::config::Problem::new("", message).hint(hint))),
    }
}
