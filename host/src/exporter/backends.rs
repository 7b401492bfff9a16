//! The clients behind a destination: one, or one for each address that its name
//! has, taken in turns (`balancer_name: round_robin`).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper_util::client::legacy::{Builder, Client};

use crate::transport::body::Ready;
use crate::transport::connect::{Connector, Target, lookup};

pub type HttpClient = Client<Connector, Ready>;

/// A name is looked up again after so long, so that new addresses get their share.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);
/// After a failed connection a name is looked up again, but not more often than so.
const LOOK_UP_PAUSE: Duration = Duration::from_secs(1);
/// An address that took no connection is left out for so long, and twice as long each time.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Of more addresses than these the rest is left out.
const MOST: usize = 256;

pub enum Backends {
    One(Box<HttpClient>),
    Each(Arc<RoundRobin>),
}

pub struct RoundRobin {
    host: String,
    port: u16,
    builder: Builder,
    connector: Connector,
    state: Mutex<State>,
    /// One look-up at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    backends: Vec<Backend>,
    next: usize,
    looked_up: Option<Instant>,
}

struct Backend {
    address: SocketAddr,
    client: HttpClient,
    failures: u32,
    rests_until: Option<Instant>,
}

impl Backends {
    pub fn each(host: String, port: u16, builder: Builder, connector: Connector) -> Self {
        let (state, looking) = (Mutex::default(), tokio::sync::Mutex::default());
        Self::Each(Arc::new(RoundRobin { host, port, builder, connector, state, looking }))
    }

    /// Whose turn it is, and under which address; `tried` are those that just failed.
    pub async fn pick(&self, tried: &[SocketAddr]) -> Result<(HttpClient, Option<SocketAddr>), String> {
        match self {
            Self::One(client) => Ok((HttpClient::clone(client), None)),
            Self::Each(all) => {
                all.refresh().await?;
                all.turn(tried).map(|(client, address)| (client, Some(address))).ok_or_else(|| "no address".to_owned())
            }
        }
    }

    /// Notes that an address took no connection; whether there is another one to try.
    pub fn failed(&self, address: Option<SocketAddr>, tried: &mut Vec<SocketAddr>) -> bool {
        let (Self::Each(all), Some(address)) = (self, address) else { return false };
        tried.push(address);
        let mut state = all.state();
        if let Some(backend) = state.backends.iter_mut().find(|backend| backend.address == address) {
            let rest = FIRST_REST.saturating_mul(1 << backend.failures.min(10)).min(LONGEST_REST);
            backend.failures = backend.failures.saturating_add(1);
            backend.rests_until = Some(Instant::now() + rest);
        }
        if state.looked_up.is_some_and(|at| at.elapsed() > LOOK_UP_PAUSE) {
            state.looked_up = None;
        }
        state.backends.iter().any(|backend| !tried.contains(&backend.address))
    }

    pub fn worked(&self, address: Option<SocketAddr>) {
        let (Self::Each(all), Some(address)) = (self, address) else { return };
        let mut state = all.state();
        if let Some(backend) = state.backends.iter_mut().find(|backend| backend.address == address) {
            (backend.failures, backend.rests_until) = (0, None);
        }
    }
}

impl RoundRobin {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due(&self) -> bool {
        self.state().looked_up.is_none_or(|at| at.elapsed() >= LOOK_UP_EVERY)
    }

    /// Looks the name up where it is time to. With addresses at hand nobody waits for it.
    async fn refresh(self: &Arc<Self>) -> Result<(), String> {
        if !self.is_due() {
            return Ok(());
        }
        if self.state().backends.is_empty() {
            let _alone = self.looking.lock().await;
            return if self.is_due() { self.look_up().await } else { Ok(()) };
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(_alone) = this.looking.try_lock()
                && this.is_due()
                && let Err(error) = this.look_up().await
            {
                tracing::warn!(host = this.host, error, "the destination's name could not be looked up again");
            }
        });
        Ok(())
    }

    async fn look_up(&self) -> Result<(), String> {
        let found = lookup(&self.host, self.port).await;
        let mut state = self.state();
        let mut found = match found {
            Ok(found) => found,
            Err(error) => {
                // With addresses that served before, the next attempt is not at once.
                if !state.backends.is_empty() {
                    state.looked_up = Some(Instant::now());
                }
                return Err(format!("`{}` cannot be looked up: {error}", self.host));
            }
        };
        found.sort_unstable();
        found.dedup();
        found.truncate(MOST);
        state.looked_up = Some(Instant::now());
        state.backends.retain(|backend| found.contains(&backend.address));
        for address in found {
            if state.backends.iter().all(|backend| backend.address != address) {
                let connector = Connector { target: Target::Address(address), ..self.connector.clone() };
                let client = self.builder.build(connector);
                state.backends.push(Backend { address, client, failures: 0, rests_until: None });
            }
        }
        Ok(())
    }

    /// The next address in turn that does not rest; if all do, the next one all the same.
    fn turn(&self, tried: &[SocketAddr]) -> Option<(HttpClient, SocketAddr)> {
        let mut state = self.state();
        let (count, from, now) = (state.backends.len(), state.next, Instant::now());
        let order = || (0..count).map(|step| (from.wrapping_add(step)) % count);
        let fresh = |at: &usize| state.backends.get(*at).is_some_and(|backend| !tried.contains(&backend.address));
        let awake =
            |at: &usize| state.backends.get(*at).is_some_and(|it| it.rests_until.is_none_or(|until| until <= now));
        let at = order().filter(fresh).find(awake).or_else(|| order().find(fresh)).or_else(|| order().next())?;
        let backend = state.backends.get(at)?;
        let chosen = (backend.client.clone(), backend.address);
        state.next = at.wrapping_add(1);
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::proxy::Proxies;
    use hyper_util::rt::TokioExecutor;

    fn three() -> (Backends, [SocketAddr; 3]) {
        let addresses = [1, 2, 3].map(|last| SocketAddr::from(([127, 0, 0, last], 4317)));
        let proxies = Arc::new(Proxies::of_environment());
        let connector = Connector { target: Target::OfRequest, tls: None, proxies, always_tunnel: true };
        let builder = Client::builder(TokioExecutor::new());
        let backends = Backends::each("tempo.test".into(), 4317, builder.clone(), connector.clone());
        if let Backends::Each(all) = &backends {
            let mut state = all.state();
            state.looked_up = Some(Instant::now());
            state.backends.extend(addresses.map(|address| {
                let client = builder.build(connector.clone());
                Backend { address, client, failures: 0, rests_until: None }
            }));
        }
        (backends, addresses)
    }

    async fn turn(backends: &Backends, tried: &[SocketAddr]) -> SocketAddr {
        backends.pick(tried).await.unwrap().1.unwrap()
    }

    #[tokio::test]
    async fn addresses_take_turns_and_one_that_is_down_rests() {
        let (backends, [one, two, three]) = three();
        for expected in [one, two, three, one] {
            assert_eq!(turn(&backends, &[]).await, expected);
        }
        let mut tried = vec![];
        assert_eq!(turn(&backends, &tried).await, two);
        assert!(backends.failed(Some(two), &mut tried), "there are others to try");
        assert_eq!(turn(&backends, &tried).await, three);
        for expected in [one, three, one] {
            assert_eq!(turn(&backends, &[]).await, expected, "the second one rests");
        }
        assert!(backends.failed(Some(one), &mut tried));
        assert!(!backends.failed(Some(three), &mut tried), "all were tried");
        // With all of them down somebody is asked all the same.
        turn(&backends, &[]).await;
        backends.worked(Some(two));
        assert_eq!(turn(&backends, &[]).await, two);
        assert_eq!(turn(&backends, &[]).await, two);
    }
}
