//! A queue's folder and the files in it: `N.log` with the records from number N on,
//! `N.settled` with the numbers of those that are done, and `lock`.

use std::collections::{BTreeMap, HashSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::StorageError;
use super::format::{self, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, Scan, Source};

/// A record that waits on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub sequence: u64,
    pub items: u32,
    pub weight: u32,
    pub(super) segment: u64,
    /// Where the record's header begins.
    pub(super) at: u64,
    pub(super) length: u32,
}

/// Bytes that are no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    pub bytes: u64,
    /// A last write that was cut short: nobody was told that it is stored, unless the
    /// file was cut afterwards.
    pub is_torn: bool,
}

impl Source for File {
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, at)
    }
}

pub(super) fn log_path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:020}.log"))
}

pub(super) fn settled_path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:020}.settled"))
}

/// Makes the queue's folder, in a folder that is there or may be made.
pub(super) fn make_folder(folder: &Path, parents: Option<u32>) -> Result<(), StorageError> {
    let failed = |path: &Path, error: io::Error| StorageError::of(path, &error);
    if let Some(parent) = folder.parent() {
        match parents {
            Some(mode) => DirBuilder::new().recursive(true).mode(mode).create(parent),
            None => parent.metadata().map(drop),
        }
        .map_err(|error| failed(parent, error))?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(folder, error)),
        _ => Ok(()),
    }
}

/// Locks the folder for this process; another one may hold it for a moment longer.
pub(super) fn lock(folder: &Path, patience: Duration) -> Result<File, StorageError> {
    let path = folder.join("lock");
    let failed = |error: io::Error| StorageError::of(&path, &error);
    // Not held open for writing: a disk must be able to turn read-only.
    let open = || match OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(&path),
    };
    let file = open().map_err(failed)?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
            Err(std::fs::TryLockError::WouldBlock) if began.elapsed() >= patience => {
                return Err(StorageError::Locked { path: folder.to_owned() });
            }
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Creates a segment, so that it is found again after a crash of the machine.
pub(super) fn create(folder: &Path, segment: u64, nonce: u64) -> io::Result<File> {
    let path = log_path(folder, segment);
    let file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(&path)?;
    let made = file.write_all_at(&format::segment_header(nonce), 0).and_then(|()| sync_folder(folder));
    if let Err(error) = made {
        // It holds nothing; if it stays, it is removed at the next start.
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok(file)
}

pub(super) fn open_settled(folder: &Path, segment: u64) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(settled_path(folder, segment))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Reads a record's payload, and checks that it is what was written.
pub(super) fn read(folder: &Path, nonce: u64, stored: &Stored) -> Result<Bytes, StorageError> {
    let path = log_path(folder, stored.segment);
    let damaged = |cause: String| StorageError::Damaged { path: path.clone(), cause };
    let failed = |error: io::Error| match error.kind() {
        // What these say does not change by itself; 5 is the disk's own complaint, EIO.
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => damaged(error.to_string()),
        _ if error.raw_os_error() == Some(5) => damaged(error.to_string()),
        _ => StorageError::of(&path, &error),
    };
    let file = File::open(&path).map_err(failed)?;
    let mut record = vec![0; RECORD_HEADER + stored.length as usize];
    file.read_exact_at(&mut record, stored.at).map_err(failed)?;
    let record = Bytes::from(record);
    let header = RecordHeader::decode(&record, nonce);
    let header = header.filter(|it| it.sequence == stored.sequence && it.length == stored.length);
    let payload = record.slice(RECORD_HEADER..);
    match header {
        Some(header) if format::checksum(nonce, [&payload]) == header.checksum => Ok(payload),
        _ => Err(damaged("its checksum is wrong".to_owned())),
    }
}

/// A segment that was there at the start.
#[derive(Debug)]
pub(super) struct Found {
    pub records: Vec<Stored>,
    /// Of both files.
    pub bytes: u64,
    pub is_damaged: bool,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub nonce: Option<u64>,
    pub segments: BTreeMap<u64, Found>,
    pub damages: Vec<Damage>,
    /// No record has this number yet, nor a higher one.
    pub next: u64,
}

/// Reads the folder: records that are not settled, in the order of their numbers.
pub(super) fn read_folder(folder: &Path) -> Result<Contents, StorageError> {
    let failed = |path: &Path, error: io::Error| StorageError::of(path, &error);
    let (mut logs, mut settled) = (vec![], vec![]);
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let name = entry.map_err(|error| failed(folder, error))?.file_name();
        let Some((number, kind)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match kind {
            "log" => logs.push(number),
            "settled" => settled.push(number),
            // Something that was set aside keeps its number.
            _ => settled.push(number),
        }
    }
    logs.sort_unstable();
    let mut contents = Contents { next: 1, ..Contents::default() };
    contents.next = logs.iter().chain(&settled).max().map_or(1, |last| last.saturating_add(1));
    for orphan in settled.iter().filter(|number| !logs.contains(number)) {
        // Its records are gone; it must not speak for others of the same numbers.
        let _ = std::fs::remove_file(settled_path(folder, *orphan));
    }
    contents.nonce = logs.iter().find_map(|number| {
        let mut header = [0; SEGMENT_HEADER];
        let file = File::open(log_path(folder, *number)).ok()?;
        file.read_exact_at(&mut header, 0).ok()?;
        format::nonce_of(&header)
    });
    for number in &logs {
        let is_last = Some(number) == logs.last();
        let path = log_path(folder, *number);
        let found = read_segment(folder, *number, contents.nonce, is_last, &mut contents);
        let found = found.map_err(|error| failed(&path, error))?;
        contents.segments.insert(*number, found);
    }
    Ok(contents)
}

fn read_segment(
    folder: &Path,
    number: u64,
    nonce: Option<u64>,
    is_last: bool,
    contents: &mut Contents,
) -> io::Result<Found> {
    let path = log_path(folder, number);
    let file = File::open(&path)?;
    let length = file.metadata()?.len();
    let (scan, is_done): (_, HashSet<u64>) = match nonce {
        Some(nonce) => {
            let settled = std::fs::read(settled_path(folder, number)).unwrap_or_default();
            (format::scan(&file, length, nonce)?, format::settled(&settled, nonce).collect())
        }
        None => {
            let mut scan = Scan::default();
            scan.damaged.extend((length > 0).then_some(0..length));
            (scan, HashSet::new())
        }
    };
    let mut is_damaged = !scan.damaged.is_empty();
    for range in &scan.damaged {
        contents.damages.push(Damage { file: path.clone(), bytes: range.end - range.start, is_torn: false });
    }
    if let Some(at) = scan.torn {
        // Later segments are begun when this one is whole.
        contents.damages.push(Damage { file: path.clone(), bytes: length - at, is_torn: is_last });
        if is_last {
            // So that the next start does not find it again. If it cannot be cut, it will.
            let _ = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(at));
        } else {
            is_damaged = true;
        }
    }
    let mut records = vec![];
    for (at, header) in &scan.records {
        contents.next = contents.next.max(header.sequence.saturating_add(1));
        if !is_done.contains(&header.sequence) {
            let RecordHeader { sequence, length, items, weight, .. } = *header;
            records.push(Stored { sequence, items, weight, segment: number, at: *at, length });
        }
    }
    let bytes = length + (is_done.len() * format::SETTLED_ENTRY) as u64;
    Ok(Found { records, bytes, is_damaged })
}
