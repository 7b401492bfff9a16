//! Signals, on a thread of their own: whatever hangs elsewhere, they are heard, and
//! the process ends when its time is over.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Beyond the grace period this is left for the last log lines and the last metrics.
const MARGIN: Duration = Duration::from_secs(2);

/// SIGTERM, SIGINT and SIGHUP. They are asked for before anything starts: until then
/// they kill without a drain, or, for a process 1, are not heard at all.
pub(super) struct Signals {
    stops: mpsc::UnboundedReceiver<()>,
    hangups: mpsc::Receiver<()>,
}

impl Signals {
    /// Listens from now on. The first signal to stop also starts a clock: the process
    /// is gone when `grace` is over, in whatever state.
    pub(super) fn listen(grace: Duration) -> anyhow::Result<Self> {
        let (stop, stops) = mpsc::unbounded_channel();
        // Any number of SIGHUPs that were not looked at yet is one.
        let (hangup, hangups) = mpsc::channel(1);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let listen = move || {
            let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
            let listening = Builder::new_current_thread().enable_io().enable_time().build().and_then(|runtime| {
                let signals = runtime.block_on(async { kinds.map(signal).into_iter().collect::<Result<Vec<_>, _>>() });
                signals.map(|signals| (runtime, signals))
            });
            match listening {
                Err(error) => drop(ready.send(Err(error))),
                Ok((runtime, signals)) => {
                    drop(ready.send(Ok(())));
                    runtime.block_on(forward(signals, &stop, &hangup, grace));
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(listen)?;
        is_ready.recv().context("the signals cannot be listened to")??;
        Ok(Self { stops, hangups })
    }

    /// A signal to stop.
    pub(super) async fn stop(&mut self) {
        if self.stops.recv().await.is_none() {
            std::future::pending().await
        }
    }

    /// A signal to stop or, with `true`, to reload.
    pub(super) async fn next(&mut self) -> bool {
        tokio::select! {
            biased;
            Some(()) = self.stops.recv() => false,
            Some(()) = self.hangups.recv() => true,
            else => std::future::pending().await,
        }
    }
}

async fn forward(
    mut signals: Vec<Signal>,
    stop: &mpsc::UnboundedSender<()>,
    hangup: &mpsc::Sender<()>,
    grace: Duration,
) {
    let [terminate, interrupt, reload] = signals.as_mut_slice() else { return };
    let mut end: Option<Instant> = None;
    loop {
        let over = async {
            match end {
                Some(end) => tokio::time::sleep_until(end.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = reload.recv() => {
                let _ = hangup.try_send(());
                continue;
            }
            () = over => leave(),
        }
        let _ = stop.send(());
        // The second one does not wait for anything.
        let wait = if end.is_none() { grace.saturating_add(MARGIN) } else { MARGIN };
        end = Instant::now().checked_add(wait);
    }
}

/// Something does not come to its end; nothing waits for it any longer.
fn leave() -> ! {
    // The log may be what hangs.
    let (said, is_said) = std::sync::mpsc::channel();
    let say = move || {
        tracing::error!("the grace period is over, and something does not end: the process ends without it");
        let _ = said.send(());
    };
    let _ = std::thread::Builder::new().spawn(say);
    let _ = is_said.recv_timeout(MARGIN / 4);
    std::process::exit(1);
}
