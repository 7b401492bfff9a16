//! What the fuzz target `decompress` runs, here so that the ordinary tests can
//! replay its corpus. A broken promise is a failed assertion.

use super::{Codec, Compression};

const ALL: [Codec; 7] =
    [Codec::Gzip, Codec::Zstd, Codec::Zlib, Codec::Deflate, Codec::Snappy, Codec::SnappyFramed, Codec::Lz4];

/// A byte that chooses the codec, a byte that chooses the limit, and what is to be unpacked.
pub fn decompress(input: &[u8]) {
    let (Some((&codec, rest)), limits) = (input.split_first(), [0, 1, 1000, 70_000, 1 << 20]) else { return };
    let Some((&limit, packed)) = rest.split_first() else { return };
    let (codec, limit) = (ALL[usize::from(codec) % ALL.len()], limits[usize::from(limit) % limits.len()]);
    let (mut out, mut asked) = (vec![1, 2, 3], 0);
    let done = codec.decompress(packed, &mut out, limit, &mut |bytes| {
        asked += bytes;
        true
    });
    assert_eq!(out[..3], [1, 2, 3], "what was there stays");
    assert!(out.len() - 3 <= asked, "{} bytes came out, and room for {asked} was asked for", out.len() - 3);
    // Each path to an answer asks for the limit at most, and one byte to know that there is more.
    assert!(asked <= 2 * (limit + 1), "{asked} bytes were asked for within a limit of {limit}");
    if done.is_err() {
        return;
    }
    assert!(out.len() - 3 <= limit);
    let mut again = vec![];
    let with = Compression { codec, level: None };
    with.compress(&out[3..], &mut again).expect("what was unpacked can be packed");
    let mut back = vec![];
    codec.decompress(&again, &mut back, limit, &mut |_| true).expect("what we packed can be unpacked");
    assert!(back == out[3..]);
}
