//! The log and its writer: a thread of its own that takes all that waits to be
//! written, writes it at once, syncs once, and answers everyone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::StorageError;
use super::format::{self, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SETTLED_ENTRY};
use super::segment::{self, Damage, Stored};

#[derive(Debug, Clone)]
pub struct LogSettings {
    pub folder: PathBuf,
    /// The mode of the folders above it that are made where they are missing; without
    /// it they must be there.
    pub parents: Option<u32>,
    /// How long another process may keep the folder.
    pub patience: Duration,
    /// From this size on a new segment is begun.
    pub segment_bytes: u64,
    /// All files together take no more.
    pub max_bytes: u64,
}

/// So much is written before those who wait for it are answered.
const GROUP_BYTES: usize = 32 << 20;
const GROUP_RECORDS: usize = 1024;
/// What is settled is on the disk after this time at the latest.
const SETTLED_SYNC: Duration = Duration::from_secs(1);
/// Files of settled records that are kept open.
const SETTLED_FILES: usize = 8;
/// So many files are kept that something was wrong with.
const DAMAGED_FILES: usize = 8;

enum Command {
    Append(Append),
    Settle(Stored),
    /// The record cannot be read: its segment is set aside when the rest of it is settled.
    Damaged(Stored),
    Flush(oneshot::Sender<()>),
}

struct Append {
    pieces: Vec<Bytes>,
    items: u32,
    weight: u32,
    commands: Sender<Command>,
    reply: oneshot::Sender<Result<Written, StorageError>>,
}

impl Append {
    fn length(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

/// A log in a folder of its own.
#[derive(Debug, Clone)]
pub struct Log {
    folder: PathBuf,
    nonce: u64,
    commands: Sender<Command>,
    bytes: Arc<AtomicU64>,
}

/// A log, and what was in it.
pub struct Opened {
    pub log: Log,
    pub stored: Vec<Stored>,
    pub damages: Vec<Damage>,
}

/// A record that was written and synced. Dropped without `keep`, because nobody
/// waits for it any more, it is settled.
#[derive(Debug)]
pub struct Written {
    stored: Option<Stored>,
    commands: Sender<Command>,
}

impl Written {
    pub fn keep(mut self) -> Option<Stored> {
        self.stored.take()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(stored) = self.stored.take() {
            // Without a writer it stays, and is sent once more.
            let _ = self.commands.send(Command::Settle(stored));
        }
    }
}

impl Log {
    /// Opens a folder, and starts the writer. It blocks.
    pub fn open(settings: LogSettings) -> Result<Opened, StorageError> {
        segment::make_folder(&settings.folder, settings.parents)?;
        let lock = segment::lock(&settings.folder, settings.patience)?;
        let contents = segment::read_folder(&settings.folder)?;
        let nonce = contents.nonce.unwrap_or_else(|| fastrand::u64(..));
        let mut stored: Vec<Stored> = vec![];
        let mut segments = BTreeMap::new();
        for (number, found) in contents.segments {
            let (unsettled, bytes) = (found.records.len(), found.bytes);
            stored.extend(found.records);
            segments.insert(number, Segment { unsettled, bytes, is_damaged: found.is_damaged });
        }
        stored.sort_unstable_by_key(|it| it.sequence);
        let (commands, receiver) = mpsc::channel();
        let bytes = Arc::new(AtomicU64::new(0));
        let log = Self { folder: settings.folder.clone(), nonce, commands, bytes: Arc::clone(&bytes) };
        let mut writer = Writer {
            settings,
            nonce,
            next: contents.next,
            segments,
            active: None,
            settled: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            unsynced: None,
            bytes,
            _lock: lock,
        };
        writer.remove_settled();
        let spawned = std::thread::Builder::new().name("storage".into()).spawn(move || writer.run(&receiver));
        let folder = &log.folder;
        spawned.map_err(|error| StorageError::of(folder, &error))?;
        Ok(Opened { log, stored, damages: contents.damages })
    }
    /// Appends a record of several pieces; the answer comes when it is synced. Whoever
    /// gives up on the answer takes the record out again.
    pub async fn append(&self, pieces: Vec<Bytes>, items: u32, weight: u32) -> Result<Written, StorageError> {
        let (reply, answer) = oneshot::channel();
        let append = Append { pieces, items, weight, commands: self.commands.clone(), reply };
        self.commands.send(Command::Append(append)).map_err(|_| StorageError::Closed)?;
        answer.await.map_err(|_| StorageError::Closed)?
    }

    /// The record is done with. The disk knows it a second later at the latest.
    pub fn settle(&self, stored: Stored) {
        // Without a writer it stays, and is sent once more.
        let _ = self.commands.send(Command::Settle(stored));
    }

    /// The record is done with because it cannot be read; its file is set aside.
    pub fn set_aside(&self, stored: Stored) {
        let _ = self.commands.send(Command::Damaged(stored));
    }

    /// Reads a record's payload.
    pub async fn read(&self, stored: Stored) -> Result<Bytes, StorageError> {
        let (folder, nonce) = (self.folder.clone(), self.nonce);
        let read = tokio::task::spawn_blocking(move || segment::read(&folder, nonce, &stored));
        read.await.unwrap_or(Err(StorageError::Closed))
    }

    /// Waits until everything that was settled is on the disk.
    pub async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Flush(reply)).is_ok() {
            // Without an answer there is no writer, and nothing to wait for.
            let _ = done.await;
        }
    }

    /// What all files take on the disk.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// What the writer knows of a segment.
#[derive(Debug)]
struct Segment {
    unsettled: usize,
    bytes: u64,
    is_damaged: bool,
}

/// The segment that records are appended to.
struct Active {
    number: u64,
    file: File,
    written: u64,
    synced: u64,
}

/// A record that is written and not synced.
type Unsynced = (Append, Stored);

struct Writer {
    settings: LogSettings,
    nonce: u64,
    /// The next record's number.
    next: u64,
    segments: BTreeMap<u64, Segment>,
    active: Option<Active>,
    /// Files of settled records, and whether they want to be synced.
    settled: BTreeMap<u64, (File, bool)>,
    /// Settled records that no file tells of yet, by their segments.
    unwritten: BTreeMap<u64, Vec<u64>>,
    /// Since when some file of settled records waits to be synced.
    unsynced: Option<Instant>,
    bytes: Arc<AtomicU64>,
    _lock: File,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Command>) {
        loop {
            let wait = self.unsynced.map_or(Duration::MAX, |since| SETTLED_SYNC.saturating_sub(since.elapsed()));
            match receiver.recv_timeout(wait) {
                Ok(first) => self.group(first, receiver),
                Err(RecvTimeoutError::Timeout) => self.sync_settled(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.unsynced.is_some_and(|since| since.elapsed() >= SETTLED_SYNC) {
                self.sync_settled();
            }
        }
        self.finish();
    }

    /// Does everything that waits, with one sync.
    fn group(&mut self, first: Command, receiver: &Receiver<Command>) {
        let (mut appends, mut flushes, mut bytes) = (vec![], vec![], 0);
        let mut command = Some(first);
        while let Some(one) = command {
            match one {
                Command::Append(append) => {
                    bytes += append.length();
                    appends.push(append);
                }
                Command::Settle(stored) => self.settle(&stored),
                Command::Damaged(stored) => {
                    if let Some(segment) = self.segments.get_mut(&stored.segment) {
                        segment.is_damaged = true;
                    }
                    self.settle(&stored);
                }
                Command::Flush(reply) => flushes.push(reply),
            }
            let is_full = bytes >= GROUP_BYTES || appends.len() >= GROUP_RECORDS;
            command = if is_full { None } else { receiver.try_recv().ok() };
        }
        // What is settled makes room.
        self.remove_settled();
        self.append_all(appends);
        self.write_settled();
        self.remove_settled();
        if !flushes.is_empty() {
            self.finish();
        }
        // Whoever waited may have gone.
        flushes.into_iter().for_each(|reply| reply.send(()).unwrap_or_default());
    }

    fn append_all(&mut self, appends: Vec<Append>) {
        let mut unsynced = vec![];
        for append in appends {
            // Whoever gave it up needs no record.
            if append.reply.is_closed() {
                continue;
            }
            match self.write(&append, &mut unsynced) {
                Ok(stored) => unsynced.push((append, stored)),
                Err(error) => {
                    drop(append.reply.send(Err(error)));
                    self.make_room(&mut unsynced);
                }
            }
        }
        self.commit(&mut unsynced);
    }

    fn write(&mut self, append: &Append, unsynced: &mut Vec<Unsynced>) -> Result<Stored, StorageError> {
        let length = append.length();
        let fits = u32::try_from(length).ok().filter(|length| *length < u32::MAX / 2);
        let length = fits.ok_or(StorageError::TooLarge(length))?;
        let size = RECORD_HEADER as u64 + u64::from(length);
        let limit = self.settings.max_bytes;
        if self.total().saturating_add(size) > limit {
            return Err(StorageError::Full(format!("the queue's files would take more than {limit} bytes")));
        }
        let is_full = |active: &Active| {
            active.written > SEGMENT_HEADER as u64 && active.written + size > self.settings.segment_bytes
        };
        if self.active.as_ref().is_some_and(is_full) {
            self.commit(unsynced);
            self.seal();
        }
        let sequence = self.next;
        self.next += 1;
        if self.active.is_none() {
            let made = segment::create(&self.settings.folder, sequence, self.nonce);
            let path = || segment::log_path(&self.settings.folder, sequence);
            let file = made.map_err(|error| StorageError::of(&path(), &error))?;
            let begun = SEGMENT_HEADER as u64;
            self.segments.insert(sequence, Segment { unsettled: 0, bytes: begun, is_damaged: false });
            self.active = Some(Active { number: sequence, file, written: begun, synced: begun });
        }
        let Some(active) = &mut self.active else { return Err(StorageError::Closed) };
        let (items, weight) = (append.items, append.weight);
        let checksum = format::checksum(self.nonce, &append.pieces);
        let header = RecordHeader { sequence, length, items, weight, checksum }.encode(self.nonce);
        if let Err(error) = write_at(&active.file, active.written, &header, &append.pieces) {
            let path = segment::log_path(&self.settings.folder, active.number);
            // Half a record must not stay before whole ones.
            if active.file.set_len(active.written).is_err() {
                self.commit(unsynced);
                self.seal();
            }
            return Err(StorageError::of(&path, &error));
        }
        let stored = Stored { sequence, items, weight, segment: active.number, at: active.written, length };
        active.written += size;
        if let Some(segment) = self.segments.get_mut(&active.number) {
            segment.bytes += size;
        }
        Ok(stored)
    }

    /// Syncs what was written, and answers those who wait for it.
    fn commit(&mut self, unsynced: &mut Vec<Unsynced>) {
        let Some(active) = &mut self.active else { return };
        if unsynced.is_empty() {
            return;
        }
        let synced = active.file.metadata().and_then(|metadata| match metadata.nlink() {
            0 => Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed")),
            _ => active.file.sync_data(),
        });
        let number = active.number;
        let error = match synced {
            Ok(()) => {
                active.synced = active.written;
                for (append, stored) in unsynced.drain(..) {
                    if let Some(segment) = self.segments.get_mut(&number) {
                        segment.unsettled += 1;
                    }
                    let written = Written { stored: Some(stored), commands: append.commands };
                    // Where nobody waits any more, it settles itself.
                    drop(append.reply.send(Ok(written)));
                }
                return;
            }
            Err(error) => StorageError::of(&segment::log_path(&self.settings.folder, number), &error),
        };
        // What a failed sync has left on the disk nobody knows: nothing is appended to it.
        let _ = active.file.set_len(active.synced);
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.bytes = active.synced;
        }
        self.seal();
        for (append, _) in unsynced.drain(..) {
            drop(append.reply.send(Err(error.clone())));
        }
    }

    /// Ends the segment that records are appended to.
    fn seal(&mut self) {
        self.active = None;
        self.remove_settled();
    }

    /// Where a write has failed, a segment that is needed no more only takes room.
    fn make_room(&mut self, unsynced: &mut Vec<Unsynced>) {
        self.commit(unsynced);
        let is_done = |active: &Active| self.segments.get(&active.number).is_none_or(|it| it.unsettled == 0);
        if self.active.as_ref().is_some_and(is_done) {
            self.seal();
        }
    }

    fn settle(&mut self, stored: &Stored) {
        if let Some(segment) = self.segments.get_mut(&stored.segment) {
            segment.unsettled = segment.unsettled.saturating_sub(1);
            self.unwritten.entry(stored.segment).or_default().push(stored.sequence);
        }
    }

    /// Writes down which records are settled; what cannot be written now is tried again.
    fn write_settled(&mut self) {
        for (number, sequences) in std::mem::take(&mut self.unwritten) {
            if self.is_done(number) {
                // The file goes as a whole.
                continue;
            }
            let entries: Vec<u8> =
                sequences.iter().flat_map(|sequence| format::settled_entry(*sequence, self.nonce)).collect();
            match self.settled_file(number).and_then(|file| file.write_all(&entries)) {
                Ok(()) => {
                    if let Some((_, wants_sync)) = self.settled.get_mut(&number) {
                        *wants_sync = true;
                    }
                    if let Some(segment) = self.segments.get_mut(&number) {
                        segment.bytes += (sequences.len() * SETTLED_ENTRY) as u64;
                    }
                    self.unsynced.get_or_insert_with(Instant::now);
                }
                Err(_) => drop(self.unwritten.insert(number, sequences)),
            }
        }
    }

    fn settled_file(&mut self, number: u64) -> io::Result<&mut File> {
        if !self.settled.contains_key(&number) {
            let file = segment::open_settled(&self.settings.folder, number)?;
            // A torn entry at its end would shift all that follow.
            let odd = file.metadata()?.len() % SETTLED_ENTRY as u64;
            if odd != 0 {
                file.set_len(file.metadata()?.len() - odd)?;
            }
            if self.settled.len() >= SETTLED_FILES {
                self.sync_settled();
                self.settled.pop_first();
            }
            self.settled.insert(number, (file, false));
        }
        let file = self.settled.get_mut(&number).map(|(file, _)| file);
        file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn sync_settled(&mut self) {
        for (file, wants_sync) in self.settled.values_mut().filter(|(_, wants_sync)| *wants_sync) {
            // If it fails, records may be sent once more: no more can be done about it.
            *wants_sync = false;
            let _ = file.sync_data();
        }
        self.unsynced = None;
    }

    /// Whether nothing in the segment is needed any more.
    fn is_done(&self, number: u64) -> bool {
        let is_active = self.active.as_ref().is_some_and(|active| active.number == number);
        !is_active && self.segments.get(&number).is_none_or(|segment| segment.unsettled == 0)
    }

    fn remove_settled(&mut self) {
        let done: Vec<u64> = self.segments.keys().copied().filter(|number| self.is_done(*number)).collect();
        for number in done {
            let path = segment::log_path(&self.settings.folder, number);
            let is_damaged = self.segments.get(&number).is_some_and(|segment| segment.is_damaged);
            let removed = if is_damaged { self.keep_damaged(&path) } else { std::fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => continue,
                _ => {}
            }
            self.settled.remove(&number);
            self.unwritten.remove(&number);
            self.segments.remove(&number);
            // Left behind, it is removed at the next start.
            let _ = std::fs::remove_file(segment::settled_path(&self.settings.folder, number));
        }
        self.bytes.store(self.total(), Ordering::Relaxed);
    }

    /// Puts a file aside that something was wrong with, for whoever wants to look at it.
    fn keep_damaged(&self, path: &Path) -> io::Result<()> {
        let is_kept = |name: &Path| name.extension().is_some_and(|extension| extension == "damaged");
        let entries = std::fs::read_dir(&self.settings.folder)?;
        let mut kept: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_kept(path)).collect();
        kept.sort_unstable();
        let excess = (kept.len() + 1).saturating_sub(DAMAGED_FILES);
        for oldest in kept.iter().take(excess) {
            let _ = std::fs::remove_file(oldest);
        }
        std::fs::rename(path, path.with_extension("log.damaged"))
    }

    fn total(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// Brings all that is settled to the disk, and removes what is not needed.
    fn finish(&mut self) {
        self.write_settled();
        self.sync_settled();
        let is_done = |active: &Active| self.segments.get(&active.number).is_none_or(|it| it.unsettled == 0);
        if self.active.as_ref().is_some_and(is_done) {
            self.seal();
        }
    }
}

/// Writes a record at an offset, wherever the system stops in between.
fn write_at(file: &File, at: u64, header: &[u8], pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> =
        [header].into_iter().chain(pieces.iter().map(|it| &it[..])).map(IoSlice::new).collect();
    let (mut slices, mut at) = (&mut slices[..], at);
    // Advancing by nothing leaves empty slices out.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match rustix::io::pwritev(file, slices, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                IoSlice::advance_slices(&mut slices, written);
                at += written as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
