//! How records stand in a segment's file, and how they are found again in one that
//! something has gone wrong with.
//!
//! A segment starts with a header; records follow each other, each a header and a
//! payload. Checksums are seeded with a number that only the queue's own files know,
//! so that bytes which a sender put into a span can never pass for a record.

use std::hash::Hasher as _;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use twox_hash::XxHash3_64;

/// What stands before a segment's records: the same thing twice, because without it no
/// record is found.
pub(super) const SEGMENT_HEADER: usize = 2 * HALF;
const HALF: usize = 24;
/// What stands before a record's payload.
pub(super) const RECORD_HEADER: usize = 40;
/// One entry of the file that says which records are settled.
pub(super) const SETTLED_ENTRY: usize = 16;

const SEGMENT_MARK: [u8; 8] = *b"VESPIDQ1";
const RECORD_MARK: [u8; 4] = *b"\xf1vqR";
/// Keeps entries of settled records and headers of records apart.
const SETTLED_SEED: u64 = 0x5e77_1ed0_0000_0001;

/// What is known of a record without its payload. All numbers are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub sequence: u64,
    /// Bytes of the payload.
    pub length: u32,
    /// What the record counts as: spans, and bytes before it was stored.
    pub items: u32,
    pub weight: u32,
    /// The payload's.
    pub checksum: u64,
}

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// The checksum of a payload that comes in pieces.
pub(super) fn checksum<'a>(nonce: u64, pieces: impl IntoIterator<Item = &'a Bytes>) -> u64 {
    let mut hasher = XxHash3_64::with_seed(nonce);
    pieces.into_iter().for_each(|piece| hasher.write(piece));
    hasher.finish()
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

impl RecordHeader {
    pub fn encode(&self, nonce: u64) -> [u8; RECORD_HEADER] {
        let mut out = Vec::with_capacity(RECORD_HEADER);
        out.extend_from_slice(&RECORD_MARK);
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.items.to_le_bytes());
        out.extend_from_slice(&self.weight.to_le_bytes());
        out.extend_from_slice(&self.checksum.to_le_bytes());
        out.extend_from_slice(&hash(nonce, &out).to_le_bytes());
        let mut header = [0; RECORD_HEADER];
        header.iter_mut().zip(out).for_each(|(to, from)| *to = from);
        header
    }

    /// `None` where no record of this queue begins.
    pub fn decode(bytes: &[u8], nonce: u64) -> Option<Self> {
        let (content, sum) = (bytes.get(..RECORD_HEADER - 8)?, number(bytes, RECORD_HEADER - 8)?);
        if !content.starts_with(&RECORD_MARK) || hash(nonce, content) != u64::from_le_bytes(sum) {
            return None;
        }
        Some(Self {
            length: u32::from_le_bytes(number(content, 4)?),
            sequence: u64::from_le_bytes(number(content, 8)?),
            items: u32::from_le_bytes(number(content, 16)?),
            weight: u32::from_le_bytes(number(content, 20)?),
            checksum: u64::from_le_bytes(number(content, 24)?),
        })
    }

    /// Header and payload.
    pub fn size(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.length)
    }
}

/// A segment's first bytes.
pub(super) fn segment_header(nonce: u64) -> [u8; SEGMENT_HEADER] {
    let mut half = Vec::with_capacity(HALF);
    half.extend_from_slice(&SEGMENT_MARK);
    half.extend_from_slice(&nonce.to_le_bytes());
    half.extend_from_slice(&hash(0, &half).to_le_bytes());
    let mut header = [0; SEGMENT_HEADER];
    header.iter_mut().zip(half.repeat(2)).for_each(|(to, from)| *to = from);
    header
}

/// The queue's number, if these are the first bytes of a segment.
pub(super) fn nonce_of(header: &[u8]) -> Option<u64> {
    header.chunks_exact(HALF).take(2).find_map(|half| {
        let content = half.get(..16)?;
        let sound = content.starts_with(&SEGMENT_MARK) && hash(0, content).to_le_bytes() == number(half, 16)?;
        sound.then_some(u64::from_le_bytes(number(content, 8)?))
    })
}

pub(super) fn settled_entry(sequence: u64, nonce: u64) -> [u8; SETTLED_ENTRY] {
    let (number, sum) = (sequence.to_le_bytes(), hash(nonce ^ SETTLED_SEED, &sequence.to_le_bytes()).to_le_bytes());
    let mut entry = [0; SETTLED_ENTRY];
    entry.iter_mut().zip(number.into_iter().chain(sum)).for_each(|(to, from)| *to = from);
    entry
}

/// The sequence numbers in a file of settled records. An entry that is torn or
/// damaged is left out: its record is sent once more, which is better than never.
pub(super) fn settled(content: &[u8], nonce: u64) -> impl Iterator<Item = u64> {
    content.chunks_exact(SETTLED_ENTRY).filter_map(move |entry| {
        let sequence = u64::from_le_bytes(number(entry, 0)?);
        (settled_entry(sequence, nonce) == entry).then_some(sequence)
    })
}

/// What a segment holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where each record's header begins. Payloads have not been looked at.
    pub records: Vec<(u64, RecordHeader)>,
    /// Bytes that are no record.
    pub damaged: Vec<Range<u64>>,
    /// Where the last write was cut short, if it was.
    pub torn: Option<u64>,
}

/// Reads at an offset; the range lies within the file.
pub(super) trait Source {
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()>;
}

/// What is searched at once for the next record.
const WINDOW: usize = 64 << 10;

/// Finds all records of a segment of so many bytes, also behind damaged ones.
pub(super) fn scan(source: &(impl Source + ?Sized), length: u64, nonce: u64) -> io::Result<Scan> {
    let mut found = Scan::default();
    let mut header = [0; RECORD_HEADER];
    let mut at = 0;
    if length >= SEGMENT_HEADER as u64 {
        let mut first = [0; SEGMENT_HEADER];
        source.read(0, &mut first)?;
        if nonce_of(&first) == Some(nonce) {
            at = SEGMENT_HEADER as u64;
        }
    }
    while at < length {
        if length - at < RECORD_HEADER as u64 {
            // Without a first word there is no second half of a write either.
            if at > 0 {
                found.torn = Some(at)
            } else {
                found.damaged.push(at..length)
            }
            break;
        }
        source.read(at, &mut header)?;
        match RecordHeader::decode(&header, nonce) {
            Some(record) if record.size() <= length - at => {
                found.records.push((at, record));
                at += record.size();
            }
            Some(_) => {
                found.torn = Some(at);
                break;
            }
            None => match next_record(source, at + 1, length, nonce)? {
                Some(next) => {
                    found.damaged.push(at..next);
                    at = next;
                }
                None => {
                    // A file may have grown before its bytes came to the disk.
                    if at > 0 && is_zero(source, at, length)? {
                        found.torn = Some(at);
                    } else {
                        found.damaged.push(at..length);
                    }
                    break;
                }
            },
        }
    }
    Ok(found)
}

/// Where the next record's header stands, from an offset on.
fn next_record(source: &(impl Source + ?Sized), from: u64, length: u64, nonce: u64) -> io::Result<Option<u64>> {
    let mut window = vec![0; WINDOW];
    let mut at = from;
    // Windows overlap by a header, so that none is missed on a border.
    while length.saturating_sub(at) >= RECORD_HEADER as u64 {
        let size = (length - at).min(WINDOW as u64) as usize;
        let Some(part) = window.get_mut(..size) else { break };
        source.read(at, part)?;
        let candidates = memchr::memmem::find_iter(part, &RECORD_MARK);
        let mut headers = candidates.filter_map(|start| part.get(start..start + RECORD_HEADER).map(|it| (start, it)));
        if let Some((start, _)) = headers.find(|(_, bytes)| RecordHeader::decode(bytes, nonce).is_some()) {
            return Ok(Some(at + start as u64));
        }
        if size < WINDOW {
            break;
        }
        at += (WINDOW - RECORD_HEADER + 1) as u64;
    }
    Ok(None)
}

fn is_zero(source: &(impl Source + ?Sized), from: u64, length: u64) -> io::Result<bool> {
    let mut window = vec![0; WINDOW];
    let mut at = from;
    while at < length {
        let size = (length - at).min(WINDOW as u64);
        let Some(part) = window.get_mut(..size as usize) else { break };
        source.read(at, part)?;
        if part.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += size;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Source for [u8] {
        fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
            into.copy_from_slice(&self[at as usize..][..into.len()]);
            Ok(())
        }
    }

    const NONCE: u64 = 0x1234_5678_9abc_def0;

    /// A segment with these payloads, numbered from 7 on, and where each record begins.
    fn segment(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<u64>) {
        let (mut file, mut starts) = (segment_header(NONCE).to_vec(), vec![]);
        for (number, payload) in payloads.iter().enumerate() {
            starts.push(file.len() as u64);
            let payload = Bytes::from(payload.clone());
            let header = RecordHeader {
                sequence: 7 + number as u64,
                length: payload.len() as u32,
                items: 2,
                weight: 3,
                checksum: checksum(NONCE, [&payload]),
            };
            file.extend_from_slice(&header.encode(NONCE));
            file.extend_from_slice(&payload);
        }
        (file, starts)
    }

    fn look(file: &[u8]) -> Scan {
        scan(file, file.len() as u64, NONCE).unwrap()
    }

    /// The numbers of those records whose payloads are sound too.
    fn sound(file: &[u8], scan: &Scan) -> Vec<u64> {
        let whole = |(at, header): &(u64, RecordHeader)| {
            let start = *at as usize + RECORD_HEADER;
            let payload = Bytes::copy_from_slice(&file[start..start + header.length as usize]);
            (checksum(NONCE, [&payload]) == header.checksum).then_some(header.sequence)
        };
        scan.records.iter().filter_map(whole).collect()
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..12)
    }

    #[test]
    fn a_header_comes_back_as_it_was_and_nothing_else_passes_for_one() {
        let header = RecordHeader { sequence: 9, length: 8, items: 7, weight: 6, checksum: 5 };
        let bytes = header.encode(NONCE);
        assert_eq!(RecordHeader::decode(&bytes, NONCE), Some(header));
        assert_eq!(RecordHeader::decode(&bytes, NONCE + 1), None, "of another queue");
        assert_eq!(RecordHeader::decode(&bytes[..39], NONCE), None);
        assert_eq!(nonce_of(&segment_header(NONCE)), Some(NONCE));
        assert_eq!(nonce_of(b"VESPIDQ1"), None);
        for place in 0..SEGMENT_HEADER {
            let mut damaged = segment_header(NONCE);
            damaged[place] ^= 0x10;
            assert_eq!(nonce_of(&damaged), Some(NONCE), "{place}");
        }
    }

    #[test]
    fn settled_numbers_are_read_around_torn_and_damaged_ones() {
        let mut content: Vec<u8> = [3, 5, 8].iter().flat_map(|number| settled_entry(*number, NONCE)).collect();
        content[17] ^= 1;
        content.extend_from_slice(&settled_entry(9, NONCE)[..15]);
        assert_eq!(settled(&content, NONCE).collect::<Vec<_>>(), [3, 8]);
        assert_eq!(settled(&content, NONCE ^ 1).count(), 0);
    }

    #[test]
    fn a_record_within_a_damaged_ones_payload_is_none_unless_its_writer_knew_the_queues_number() {
        let forged = RecordHeader { sequence: 1, length: 0, items: 0, weight: 0, checksum: 0 }.encode(NONCE ^ 1);
        let (mut file, starts) = segment(&[forged.to_vec(), vec![1]]);
        file[starts[0] as usize] ^= 1;
        let found = look(&file);
        assert_eq!(sound(&file, &found), [8]);
        let damaged = (found.damaged.len(), found.damaged[0].clone());
        assert_eq!(damaged, (1, starts[0]..starts[1]));
    }

    #[test]
    fn a_foreign_file_has_no_records() {
        let text = "{\"not\": \"ours\"}".repeat(9000);
        let found = look(text.as_bytes());
        assert_eq!((found.records.len(), found.damaged.len(), found.torn), (0, 1, None));
        assert_eq!(look(b""), Scan::default());
    }

    #[test]
    fn zeros_at_the_end_are_a_write_that_did_not_come_through() {
        let (mut file, _) = segment(&[vec![1; 50]]);
        let end = file.len() as u64;
        file.resize(file.len() + 100_000, 0);
        let found = look(&file);
        assert_eq!((found.torn, found.damaged.len(), sound(&file, &found)), (Some(end), 0, vec![7]));
    }

    proptest! {
        #[test]
        fn a_file_cut_anywhere_keeps_all_records_before_the_cut(payloads in payloads(), cut in any::<prop::sample::Index>()) {
            let (mut file, starts) = segment(&payloads);
            file.truncate(cut.index(file.len() + 1));
            let whole = starts.iter().skip(1).chain([&u64::MAX]).filter(|end| **end <= file.len() as u64).count();
            let whole = if file.len() as u64 == starts.last().unwrap() + (RECORD_HEADER + payloads.last().unwrap().len()) as u64 { payloads.len() } else { whole };
            let found = look(&file);
            let expected: Vec<u64> = (7..7 + whole as u64).collect();
            prop_assert_eq!(sound(&file, &found), expected);
        }

        #[test]
        fn flipped_bytes_cost_the_records_that_they_are_in_and_no_other(
            payloads in payloads(), flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4)
        ) {
            let (mut file, starts) = segment(&payloads);
            let mut hit = std::collections::BTreeSet::new();
            for (at, flip) in flips {
                let at = at.index(file.len());
                file[at] ^= flip;
                if at >= SEGMENT_HEADER {
                    hit.insert(starts.partition_point(|start| *start <= at as u64) as u64 - 1);
                }
            }
            let found = look(&file);
            let sound = sound(&file, &found);
            for number in 0..payloads.len() as u64 {
                // Two flips of one byte may undo each other.
                prop_assert!(hit.contains(&number) || sound.contains(&(7 + number)), "{number} is lost");
            }
        }

        #[test]
        fn no_file_makes_it_panic(file in prop::collection::vec(any::<u8>(), 0..300)) {
            look(&file);
        }
    }
}
