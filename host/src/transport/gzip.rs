//! gzip, with what comes out bounded while it comes out.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

#[derive(Debug, thiserror::Error)]
pub enum GzipError {
    #[error("the body is not gzip: {0}")]
    Malformed(std::io::Error),
    #[error("the body is larger than {0} bytes when decompressed")]
    TooLarge(usize),
}

/// Appends the decompressed bytes to `out`; stops at `limit` of them.
pub fn decompress(compressed: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), GzipError> {
    let before = out.len();
    // Traces shrink about eightfold; the guess is bounded by what may come out.
    out.reserve(compressed.len().saturating_mul(8).min(limit));
    let mut decoder = MultiGzDecoder::new(compressed).take(limit as u64 + 1);
    decoder.read_to_end(out).map_err(GzipError::Malformed)?;
    if out.len() - before > limit { Err(GzipError::TooLarge(limit)) } else { Ok(()) }
}

/// Appends the message as gzip. Level 1: what higher levels save in bytes they
/// cost many times over in CPU.
pub fn compress(message: &[u8], out: &mut Vec<u8>) {
    let mut encoder = GzEncoder::new(out, Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(message);
    let _ = encoder.finish();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let mut bomb = vec![];
        compress(&vec![0; 64 << 20], &mut bomb);
        assert!(bomb.len() < 1 << 20);
        let mut out = vec![];
        assert!(matches!(decompress(&bomb, &mut out, 1 << 20), Err(GzipError::TooLarge(_))));
        assert!(out.capacity() <= 4 << 20);
    }

    #[test]
    fn several_members_read_as_one_and_a_torn_one_is_refused() {
        let mut two = vec![];
        compress(b"one", &mut two);
        compress(b"two", &mut two);
        let mut out = vec![];
        decompress(&two, &mut out, 100).unwrap();
        assert_eq!(out, b"onetwo");
        assert!(matches!(decompress(&two[..two.len() - 4], &mut vec![], 100), Err(GzipError::Malformed(_))));
    }
}
