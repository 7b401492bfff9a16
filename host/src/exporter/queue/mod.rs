//! A queue that need not wait for the destination: with a storage it answers when the
//! request is synced to the disk, if it is not delivered before; without one at once,
//! where `wait_for_result: false` asks for that. Behind it stands the exporter with its
//! batches and retries.

mod pending;
mod record;
mod shelf;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::sending::{Drain, Sizer, why};
use crate::component::{BoxFuture, ConsumeError, Delivery, Exporter, Id, OpenError, Outcome, Room, StoragePlace};
use crate::storage::{Log, LogSettings, StorageError};
use crate::telemetry::{ExporterMetrics, Held, QueueMetrics, reason};
use crate::traces::Parcel;

use shelf::{Key, Shelf, Taken, User};

type Answer = Result<Outcome, ConsumeError>;

/// What a queue takes, or hands on at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub sizer: Sizer,
    pub size: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct QueuedSettings {
    /// What the queue takes.
    pub(super) limit: Limit,
    /// Whether a sender waits where there is no room.
    pub(super) waits: bool,
    /// What is handed to the exporter at once.
    pub(super) window: Limit,
}

/// So many requests are handed on at once, whatever the window: below the number of
/// batches that may be open.
const MOST_AT_ONCE: usize = 4096;
/// What cannot be read or handed on is tried again after this time.
const PAUSE: Duration = Duration::from_secs(1);
/// A segment is removed when all of it is settled, so it is not to be too large.
const SEGMENT_BYTES: u64 = 16 << 20;

/// An exporter with a queue before it.
pub struct Queued {
    id: Id,
    settings: QueuedSettings,
    storage: Option<StoragePlace>,
    metrics: ExporterMetrics,
    queue_metrics: QueueMetrics,
    courier: Courier,
    shelf: OnceLock<Arc<Shelf>>,
    running: OnceLock<Running>,
    is_closed: AtomicBool,
}

/// What there is from `begin` on.
struct Running {
    user: Arc<User>,
    /// Told when nothing more comes.
    ending: watch::Sender<bool>,
    dispatcher: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(dispatcher) = self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner).take() {
            dispatcher.abort();
        }
    }
}

impl Queued {
    pub fn new(
        id: Id,
        settings: QueuedSettings,
        storage: Option<StoragePlace>,
        inner: Arc<dyn Exporter>,
        metrics: ExporterMetrics,
        queue_metrics: QueueMetrics,
        drain: Drain,
    ) -> Self {
        let courier = Courier { id: id.clone(), inner, metrics: metrics.clone(), disk: queue_metrics.clone(), drain };
        let (shelf, running, is_closed) = (OnceLock::new(), OnceLock::new(), AtomicBool::new(false));
        Self { id, settings, storage, metrics, queue_metrics, courier, shelf, running, is_closed }
    }

    async fn enter(&self, mut parcel: Parcel) -> Answer {
        let spans = parcel.spans;
        parcel.held.at(&self.metrics.clerk);
        self.try_enter(&mut parcel).await.unwrap_or_else(|(error, why)| {
            parcel.held.all_rejected(&self.metrics.clerk, why);
            let exporter = &self.id;
            self.metrics.enqueue_failed.inc_by(spans as u64);
            tracing::error!(%exporter, %error, rejected_items = spans, "Exporting failed. Rejecting data.");
            Err(error)
        })
    }

    /// Puts a request in, or says why not: to its sender, and to the account.
    async fn try_enter(&self, parcel: &mut Parcel) -> Result<Answer, (ConsumeError, &'static str)> {
        let is_open = !self.is_closed.load(Ordering::Relaxed);
        let Some(running) = self.running.get().filter(|_| is_open) else {
            return Err((ConsumeError::retryable("the collector is shutting down"), reason::CANCELED));
        };
        let Limit { sizer, size } = self.settings.limit;
        if shelf::size_by(parcel, sizer) > size {
            let message = format!("the request is larger than the queue of exporter `{}`", self.id);
            return Err((ConsumeError::permanent(message), reason::TOO_LARGE));
        }
        let room = running.user.shelf.reserve(parcel, self.settings.limit, self.settings.waits).await;
        let room = room.ok_or_else(|| (ConsumeError::retryable("sending queue is full"), reason::QUEUE_FULL))?;
        let Some(log) = &running.user.shelf.log else {
            room.fill(parcel, None);
            return Ok(Ok(Outcome::default()));
        };
        match pending::answer(room, parcel, log, &self.metrics).await {
            Ok(answer) => Ok(answer),
            Err(error @ StorageError::TooLarge(_)) => {
                Err((ConsumeError::permanent(error.to_string()), reason::TOO_LARGE))
            }
            Err(error) => {
                let message = format!("the request cannot be stored: {error}");
                Err((ConsumeError::retryable(message), reason::NOT_STORED))
            }
        }
    }

    async fn prepare(&self) -> Result<(), OpenError> {
        if self.shelf.get().is_some() {
            return Ok(());
        }
        let (id, storage) = (self.id.clone(), self.storage.clone());
        let (disk, clerk) = (self.queue_metrics.disk.clone(), self.metrics.clerk.clone());
        let find = move || match &storage {
            None => Shelf::find(Key::Memory(id.to_string()), &clerk, || Ok((None, vec![]))),
            Some(place) => {
                let folder = folder_of(&place.directory, &id);
                Shelf::find(Key::Folder(folder.clone()), &clerk, || {
                    let opened = Log::open(log_settings(place, folder))?;
                    for damage in &opened.damages {
                        tell_damage(&id, damage);
                        if let (Some(disk), false) = (&disk, damage.is_torn) {
                            disk.damaged.inc();
                        }
                    }
                    Ok((Some(opened.log), opened.stored))
                })
            }
        };
        let found = tokio::task::spawn_blocking(find).await;
        let found = found.map_err(|error| OpenError { message: error.to_string() })?;
        let shelf = found.map_err(|error| OpenError { message: self.open_failed(&error) })?;
        // Asked twice at a time, the first one counts, and both found the same.
        drop(self.shelf.set(shelf));
        Ok(())
    }

    fn run(&self) {
        let Some(shelf) = self.shelf.get().filter(|_| self.running.get().is_none()) else { return };
        let exporter = &self.id;
        let (requests, spans) = shelf.held();
        match shelf.folder().map(Path::display) {
            Some(folder) => tracing::info!(%exporter, %folder, requests, spans, "the queue is kept on the disk"),
            None => tracing::info!(%exporter, "early OK: senders are answered before the destination has their spans"),
        }
        let (ending, told) = watch::channel(false);
        let user = shelf.join(self.queue_metrics.clone(), self.settings.limit);
        let dispatch = dispatch(self.courier.clone(), user.clone(), self.settings.window, told);
        let dispatcher = Mutex::new(Some(tokio::spawn(dispatch)));
        drop(self.running.set(Running { user, ending, dispatcher }));
    }

    fn open_failed(&self, error: &StorageError) -> String {
        let id = self.storage.as_ref().map_or("", |place| &place.id);
        let hint = match error {
            StorageError::Locked { .. } => "two collectors cannot share a queue: give each a `directory` of its own",
            _ => "the collector must be able to read and write in `directory`",
        };
        format!("the queue cannot be kept in {id}: {error} (hint: {hint})")
    }

    async fn finish(&self) {
        let Some(running) = self.running.get() else { return };
        running.ending.send_replace(true);
        let dispatcher = running.dispatcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(dispatcher) = dispatcher else { return };
        // Given up on, it goes on until `close`.
        let guard = Unfinished { running, dispatcher: Some(dispatcher) };
        guard.await_end().await;
    }

    async fn end(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        let Some(running) = self.running.get() else { return };
        let dispatcher = running.dispatcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(dispatcher) = dispatcher {
            dispatcher.abort();
            // It was ended, or has ended: both are fine.
            drop(dispatcher.await);
        }
        let shelf = &running.user.shelf;
        shelf.flush().await;
        let (exporter, (requests, spans)) = (&self.id, shelf.held());
        if requests == 0 || running.user.is_superseded() {
            return;
        }
        if let Some(folder) = shelf.folder().map(Path::display) {
            tracing::info!(%exporter, %folder, requests, spans, "these wait on the disk for the next start");
        } else {
            let error = "the collector was shut down";
            tracing::error!(%exporter, %error, dropped_items = spans, "Exporting failed. Dropping data.");
            self.metrics.send_failed(spans as u64, "Canceled", false);
            while let Some(mut taken) = shelf.take() {
                if let Some(held) = taken.held() {
                    held.all_rejected(&self.metrics.clerk, reason::CANCELED);
                }
                taken.settle(Ok(Outcome::default()));
            }
        }
    }
}

/// Puts the dispatcher back if nobody waits for its end any more.
struct Unfinished<'a> {
    running: &'a Running,
    dispatcher: Option<JoinHandle<()>>,
}

impl Unfinished<'_> {
    async fn await_end(mut self) {
        if let Some(dispatcher) = &mut self.dispatcher {
            drop(dispatcher.await);
        }
        self.dispatcher = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(dispatcher) = self.dispatcher.take() {
            *self.running.dispatcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(dispatcher);
        }
    }
}

impl Exporter for Queued {
    fn export(&self, parcel: Parcel) -> BoxFuture<'_, Result<Outcome, ConsumeError>> {
        Box::pin(self.enter(parcel))
    }

    fn room(&self) -> Room {
        let Limit { sizer, size } = self.settings.limit;
        let room = Room { at_once: 1, ..Room::default() };
        match sizer {
            Sizer::Requests => Room { at_once: size.min(10), ..room },
            Sizer::Items => Room { spans: size, ..room },
            Sizer::Bytes => Room { bytes: size, ..room },
        }
    }

    fn delivery(&self) -> Delivery {
        self.storage.as_ref().map_or(Delivery::Early, |place| Delivery::Synced(place.id.clone()))
    }

    fn open(&self) -> BoxFuture<'_, Result<(), OpenError>> {
        Box::pin(self.prepare())
    }

    fn begin(&self) {
        self.run();
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.finish())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

fn log_settings(place: &StoragePlace, folder: PathBuf) -> LogSettings {
    LogSettings {
        folder,
        parents: place.create,
        patience: place.patience,
        segment_bytes: SEGMENT_BYTES.min(place.max_bytes / 4),
        max_bytes: place.max_bytes,
    }
}

fn tell_damage(exporter: &Id, damage: &crate::storage::Damage) {
    let (file, bytes) = (damage.file.display(), damage.bytes);
    if damage.is_torn {
        tracing::warn!(%exporter, %file, bytes, "the last write to the queue was cut short: its sender heard no OK");
    } else {
        tracing::error!(
            %exporter, %file, bytes,
            "the queue is damaged: these bytes are no record; the file is set aside when the rest of it is sent"
        );
    }
}

/// A queue's folder by its exporter's id. Every byte that is not plain in a file's
/// name is written in hexadecimal digits behind a `~`, so that no two ids meet.
fn folder_of(directory: &Path, id: &str) -> PathBuf {
    let mut name = String::from("exporter_");
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            name.push(byte.into());
        } else {
            name.push_str(&format!("~{byte:02x}"));
        }
    }
    // Longer names than file systems have.
    if name.len() > 200 {
        use sha2::Digest as _;
        let digest: String = sha2::Sha256::digest(id).iter().map(|byte| format!("{byte:02x}")).collect();
        name.truncate(100);
        name.push_str("~~");
        name.push_str(&digest);
    }
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    directory.join(name)
}

/// Queues in a folder that belong to none of these exporters and are not empty. They
/// stay, for the day when their exporter comes back.
pub fn abandoned<'a>(directory: &Path, exporters: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
    let known: Vec<PathBuf> = exporters.map(|id| folder_of(directory, id)).collect();
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let Ok(entries) = std::fs::read_dir(directory) else { return vec![] };
    let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    let holds_something = |folder: &PathBuf| {
        std::fs::read_dir(folder).is_ok_and(|mut files| files.any(|file| file.is_ok_and(|it| is_log(&it.path()))))
    };
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_queue = |folder: &PathBuf| {
        folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("exporter_"))
    };
    folders.filter(|folder| is_queue(folder) && !known.contains(folder) && holds_something(folder)).collect()
}

/// Hands requests to the exporter.
#[derive(Clone)]
struct Courier {
    id: Id,
    inner: Arc<dyn Exporter>,
    metrics: ExporterMetrics,
    disk: QueueMetrics,
    drain: Drain,
}

/// Takes what waits, in order, and hands it on, as much at once as the window lets.
/// It stops where a shutdown finds the destination unwell, or another exporter that
/// goes on with the same queue.
async fn dispatch(courier: Courier, user: Arc<User>, window: Limit, mut ending: watch::Receiver<bool>) {
    let (shelf, mut tasks, mut sizes) = (&user.shelf, JoinSet::new(), HashMap::new());
    let (mut used, mut stops, mut is_ending) = (0, false, false);
    loop {
        if !stops && user.is_superseded() {
            stops = true;
            // What this one was woken for is the other one's.
            shelf.wake();
        }
        while !stops && used < window.size && tasks.len() < MOST_AT_ONCE {
            let Some(taken) = shelf.take() else { break };
            let size = taken.size(window.sizer).max(1);
            used += size;
            let courier = courier.clone();
            let task = tasks.spawn(async move { courier.deliver(taken).await });
            sizes.insert(task.id(), size);
        }
        if is_ending && tasks.is_empty() && (stops || shelf.is_empty()) {
            return;
        }
        let takes = !stops && used < window.size && tasks.len() < MOST_AT_ONCE;
        tokio::select! {
            Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                let task = ended.as_ref().map_or_else(|error| error.id(), |(task, _)| *task);
                used -= sizes.remove(&task).unwrap_or_default();
                match ended {
                    Ok((_, goes_on)) => stops |= !goes_on,
                    // A panic: the request waits again, and is not to keep a worker busy.
                    Err(_) => stops |= !courier.pause().await,
                }
            }
            () = shelf.arrival(), if takes => {}
            changed = ending.changed(), if !is_ending => is_ending = changed.is_err() || *ending.borrow(),
        }
    }
}

impl Courier {
    /// Sends a request, or leaves it where it was; `false` where it is better to stop.
    async fn deliver(&self, mut taken: Taken) -> bool {
        let exporter = &self.id;
        let parcel = match taken.parcel().await {
            Ok(parcel) => parcel,
            Err(error @ StorageError::Damaged { .. }) => {
                let dropped_items = taken.spans();
                tracing::error!(%exporter, %error, dropped_items, "a request of the queue is lost, and its file set aside");
                if let Some(disk) = &self.disk.disk {
                    disk.damaged.inc();
                }
                self.metrics.send_failed(dropped_items as u64, "DataLoss", true);
                if let Some(held) = taken.held() {
                    held.all_rejected(&self.metrics.clerk, reason::DAMAGED);
                }
                taken.set_aside();
                return true;
            }
            Err(error) => {
                tracing::warn!(%exporter, %error, "the queue cannot be read now, and is tried again");
                return self.pause().await;
            }
        };
        let began = Instant::now();
        let sent = tokio::select! {
            biased;
            sent = self.inner.export(parcel.clone()) => sent,
            why = taken.withdrawn() => {
                self.withdraw(taken, why);
                return true;
            }
        };
        if sent.is_ok() {
            taken.pace().delivered(began.elapsed());
        }
        if sent.as_ref().is_err_and(|error| error.is_undecided) {
            return self.pause().await;
        }
        if let Some(held) = taken.held() {
            self.account(held, &parcel, &sent);
        }
        taken.settle(sent);
        true
    }

    /// A request whose sender has it still, and hears no OK.
    fn withdraw(&self, mut taken: Taken, why: &'static str) {
        if why == reason::CANCELED {
            self.metrics.send_failed(taken.spans() as u64, "Canceled", false);
        }
        if let Some(held) = taken.held() {
            held.all_rejected(&self.metrics.clerk, why);
        }
    }

    /// What became of a request's spans. The exporter has counted and told it, but for
    /// the account: there they are the queue's until they are decided upon.
    fn account(&self, held: &mut Held, parcel: &Parcel, sent: &Result<Outcome, ConsumeError>) {
        let clerk = &self.metrics.clerk;
        match sent {
            Ok(outcome) => {
                let rejected = outcome.rejected.min(parcel.spans);
                held.sent(clerk, parcel.spans - rejected);
                held.rejected(clerk, reason::PARTIAL_SUCCESS, rejected);
            }
            Err(error) => held.each_rejected(clerk, &why(error), &parcel.span_ids()),
        }
    }

    async fn pause(&self) -> bool {
        tokio::select! {
            biased;
            () = self.drain.begun() => false,
            () = tokio::time::sleep(PAUSE) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exporter_has_a_folder_of_its_own() {
        let name = |id: &str| folder_of(Path::new("/data"), id).display().to_string();
        assert_eq!(name("otlp"), "/data/exporter_otlp");
        assert_eq!(name("otlp/b"), "/data/exporter_otlp~2fb");
        assert_eq!(name("otlp/../x"), "/data/exporter_otlp~2f~2e~2e~2fx");
        assert_eq!(name("otlp/~2f"), "/data/exporter_otlp~2f~7e2f");
        let long = |last: &str| name(&format!("otlp/{}{last}", "ä".repeat(1000)));
        assert!(long("a") != long("b") && long("a").len() < 255);
    }
}
