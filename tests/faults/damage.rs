//! What happens to a queue's files while no collector looks, and which requests may be
//! lost by it.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use prost::Message as _;

use crate::support::spans::{Request, all};

use super::loader::number_of;

#[derive(Debug, Clone)]
pub enum Damage {
    /// One byte of some file of records.
    Flip { at: f64, with: u8 },
    /// The end of the newest file is missing.
    Cut { bytes: u64 },
    /// The newest file has grown, and its bytes have not come.
    Zeros { bytes: usize },
    /// The last write has come in part.
    Half { part: f64 },
    /// One byte of some file of what is settled.
    FlipSettled { at: f64, with: u8 },
}

const RECORD_MARK: &[u8] = b"\xf1vqR";
const RECORD_HEADER: usize = 40;

impl Damage {
    /// Whether nobody can see it afterwards: a file that was cut between two records, or
    /// wholly, is one that has fewer.
    pub fn is_invisible(&self, queue: &Path) -> bool {
        let (Self::Cut { bytes }, Some(newest)) = (self, files(queue, "log").pop()) else { return false };
        let content = fs::read(newest).unwrap();
        let left = content.len().saturating_sub(*bytes as usize);
        left == 0 || records(&content).iter().any(|record| record.start == left || record.end == left)
    }

    /// Does it to the files of one queue. Answers with the spans whose records were hit:
    /// these and no others may be lost.
    pub fn strike(&self, queue: &Path, seed: u64) -> HashSet<u64> {
        let logs = files(queue, "log");
        let Some(newest) = logs.last() else { return HashSet::new() };
        match *self {
            Self::Flip { at, with } => {
                let path = &logs[(at * 7.0 * logs.len() as f64) as usize % logs.len()];
                flip(path, at, with).map_or_else(HashSet::new, |(content, place)| hit(&content, place..place + 1, seed))
            }
            Self::Cut { bytes } => {
                let content = fs::read(newest).unwrap();
                let left = content.len().saturating_sub(bytes as usize);
                OpenOptions::new().write(true).open(newest).unwrap().set_len(left as u64).unwrap();
                hit(&content, left..content.len(), seed)
            }
            Self::Zeros { bytes } => append(newest, &vec![0; bytes]),
            Self::Half { part } => {
                let content = fs::read(newest).unwrap();
                let Some(record) = records(&content).pop() else { return HashSet::new() };
                let length = 1 + (part * (record.len() - 1) as f64) as usize;
                append(newest, &content[record][..length])
            }
            Self::FlipSettled { at, with } => {
                if let Some(path) = files(queue, "settled").pop() {
                    flip(&path, at, with);
                }
                HashSet::new()
            }
        }
    }
}

/// A full disk keeps the damage away, which is fine.
fn append(path: &Path, content: &[u8]) -> HashSet<u64> {
    let _ = OpenOptions::new().append(true).open(path).unwrap().write_all(content);
    HashSet::new()
}

/// Answers with what was there before, and the place; an empty file has none.
fn flip(path: &Path, at: f64, with: u8) -> Option<(Vec<u8>, usize)> {
    use std::os::unix::fs::FileExt as _;
    let content = fs::read(path).unwrap();
    let place = (at * content.len() as f64) as usize;
    let byte = *content.get(place)?;
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(&[byte ^ with], place as u64).unwrap();
    Some((content, place))
}

/// The spans of all records that share a byte with this range.
fn hit(content: &[u8], range: Range<usize>, seed: u64) -> HashSet<u64> {
    let shares = |record: &Range<usize>| record.start < range.end && range.start < record.end;
    let hit = records(content).into_iter().filter(shares);
    hit.flat_map(|record| spans(&content[record][RECORD_HEADER..], seed)).collect()
}

/// Where whole records stand.
fn records(content: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut at) = (vec![], 0);
    while let Some(header) = content.get(at..at + RECORD_HEADER) {
        let length = u32::from_le_bytes(header[4..8].try_into().unwrap()) as usize;
        let end = at.saturating_add(RECORD_HEADER).saturating_add(length);
        if header.starts_with(RECORD_MARK) && end <= content.len() {
            found.push(at..end);
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// The spans in a record; none in one that was damaged before.
fn spans(payload: &[u8], seed: u64) -> Vec<u64> {
    let number = |at: usize| Some(u32::from_le_bytes(payload.get(at..at + 4)?.try_into().unwrap()) as usize);
    let decoded = || {
        let (context, length) = (number(5)?, number(9)?);
        let stored = payload.get(13 + context..)?;
        let request = match stored.len() == length {
            true => stored.to_vec(),
            false => lz4_flex::block::decompress(stored, length.min(1 << 26)).ok()?,
        };
        let request = Request::decode(request.as_slice()).ok()?;
        Some(all(&request).into_iter().filter_map(|span| number_of(span, seed)).collect())
    };
    decoded().unwrap_or_default()
}

/// A queue's files of this kind, the newest last.
fn files(queue: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(queue) else { return vec![] };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    found.sort();
    found
}
