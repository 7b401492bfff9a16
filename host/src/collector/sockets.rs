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
        Err(error) if error.kind() == ErrorKind::AddrInUse => match in_the_way(endpoint, held).await {
            Way::Same(listener) => return Ok(Socket { listener, is_new: false }),
            Way::Beside(address, others) => Listener::bind_beside(address, &others).await,
            Way::None => Err(error),
        },
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

/// Which of our own sockets keep one from being bound.
enum Way<'a> {
    None,
    /// It is the same place in other words.
    Same(Arc<Listener>),
    /// The places overlap.
    Beside(&'a str, Vec<Arc<Listener>>),
}

async fn in_the_way<'a>(endpoint: &'a Endpoint, held: &[Held]) -> Way<'a> {
    let Endpoint::Tcp(address) = endpoint else { return Way::None };
    let Some(Ok(port)) = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>()) else { return Way::None };
    let listeners = held.iter().map(|held| &held.listener);
    let others: Vec<_> = listeners.filter(|it| it.tcp().is_some_and(|at| at.port() == port)).cloned().collect();
    if others.is_empty() {
        return Way::None;
    }
    // The first address of a name is where it would have been bound.
    let first = match tokio::net::lookup_host(address).await {
        Ok(mut addresses) => addresses.next(),
        Err(_) => None,
    };
    match others.iter().find(|it| first.is_some() && it.tcp() == first) {
        Some(same) => Way::Same(Arc::clone(same)),
        None => Way::Beside(address, others),
    }
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
