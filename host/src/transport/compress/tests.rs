use super::*;

const ALL: [Codec; 7] =
    [Codec::Gzip, Codec::Zstd, Codec::Zlib, Codec::Deflate, Codec::Snappy, Codec::SnappyFramed, Codec::Lz4];

fn packed(codec: Codec, message: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    Compression { codec, level: None }.compress(message, &mut out).unwrap();
    out
}

fn unpack(codec: Codec, compressed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = vec![];
    codec.decompress(compressed, &mut out, limit, &mut |_| true).map(|_| out)
}

/// Texts that shrink, and bytes that do not.
fn samples() -> Vec<Vec<u8>> {
    let mut seed = 7_u32;
    let mut random = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    let mut samples: Vec<Vec<u8>> =
        [0, 1, 10, 1000, 100_000, 300_000].iter().map(|length| (0..*length).map(|_| random()).collect()).collect();
    samples.push(b"some spans".repeat(20_000));
    samples
}

#[test]
fn every_codec_reads_what_it_wrote_behind_what_is_there() {
    for codec in ALL {
        for sample in samples() {
            let mut out = vec![9; 5];
            codec.decompress(&packed(codec, &sample), &mut out, sample.len(), &mut |_| true).unwrap();
            assert_eq!(out[..5], [9; 5]);
            assert!(out[5..] == sample, "{codec:?}, {} bytes", sample.len());
        }
    }
}

#[test]
fn every_level_is_read_back() {
    for (codec, levels) in [(Codec::Gzip, -1..=12), (Codec::Zlib, 0..=9), (Codec::Zstd, -3..=11)] {
        for level in levels {
            let mut out = vec![];
            Compression { codec, level: Some(level) }.compress(b"some spans", &mut out).unwrap();
            assert_eq!(unpack(codec, &out, 100).unwrap(), b"some spans", "{codec:?} {level}");
        }
    }
}

#[test]
fn a_bomb_stops_at_the_limit_in_every_codec() {
    for codec in ALL {
        let bomb = packed(codec, &vec![0; 64 << 20]);
        let mut out = vec![];
        let mut asked = 0;
        let error = codec.decompress(&bomb, &mut out, 1 << 20, &mut |bytes| {
            asked += bytes;
            true
        });
        assert!(matches!(error, Err(DecompressError::TooLarge(_))), "{codec:?}: {error:?}");
        assert!(out.capacity() <= 4 << 20 && asked <= 2 << 20, "{codec:?}: {asked}");
    }
}

#[test]
fn one_byte_over_the_limit_is_too_many_and_the_limit_itself_is_not() {
    for codec in ALL {
        for sample in samples().into_iter().filter(|sample| !sample.is_empty()) {
            let packed = packed(codec, &sample);
            assert!(matches!(unpack(codec, &packed, sample.len() - 1), Err(DecompressError::TooLarge(_))), "{codec:?}");
        }
    }
}

#[test]
fn no_memory_is_taken_that_was_refused() {
    for codec in ALL {
        let packed = packed(codec, &b"some spans".repeat(1_000_000));
        let mut out = vec![];
        let mut left = 100_000_usize;
        let error = codec.decompress(&packed, &mut out, 64 << 20, &mut |bytes| {
            left.checked_sub(bytes).map(|rest| left = rest).is_some()
        });
        assert!(matches!(error, Err(DecompressError::NoRoom)), "{codec:?}: {error:?}");
        assert!(out.len() <= 100_000, "{codec:?}: {}", out.len());
    }
}

#[test]
fn a_torn_body_is_refused_wherever_it_is_torn() {
    let message: Vec<u8> = samples()[4].iter().map(|byte| byte & 15).collect();
    for codec in ALL {
        let whole = packed(codec, &message);
        for cut in [1, 2, 4, 5, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
            // A raw snappy block of nothing is whole, and so is an empty framed stream.
            let torn = unpack(codec, &whole[..whole.len() - cut], 1 << 20);
            assert!(
                matches!(torn, Err(DecompressError::Malformed(..))),
                "{codec:?} without {cut}: {:?}",
                torn.map(|it| it.len())
            );
        }
    }
}

#[test]
fn several_gzip_members_read_as_one_even_if_they_are_the_same() {
    for (one, two) in [("one", "two!"), ("same", "same"), ("longer than the second", "x")] {
        let both = [packed(Codec::Gzip, one.as_bytes()), packed(Codec::Gzip, two.as_bytes())].concat();
        assert_eq!(unpack(Codec::Gzip, &both, 100).unwrap(), [one, two].concat().as_bytes());
        let form = |packed: &[u8]| Codec::Gzip.decompress(packed, &mut vec![], 100, &mut |_| true).unwrap();
        assert_eq!(form(&both), Form::Peculiar, "some decoders read the first member alone");
        assert_eq!(form(&packed(Codec::Gzip, one.as_bytes())), Form::Common);
    }
}

#[test]
fn a_size_that_lies_is_found_out() {
    let mut gzip = packed(Codec::Gzip, b"some spans");
    let end = gzip.len();
    gzip[end - 4..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(unpack(Codec::Gzip, &gzip, 1 << 20), Err(DecompressError::Malformed(..))));
    gzip[end - 4..].copy_from_slice(&3_u32.to_le_bytes());
    assert!(matches!(unpack(Codec::Gzip, &gzip, 1 << 20), Err(DecompressError::Malformed(..))));
}

#[test]
fn streams_that_do_not_tell_their_size_are_read() {
    use std::io::Write as _;
    let message = b"some spans".repeat(50_000);
    let mut encoder = zstd::Encoder::new(vec![], 3).unwrap();
    encoder.write_all(&message).unwrap();
    assert!(unpack(Codec::Zstd, &encoder.finish().unwrap(), 1 << 20).unwrap() == message);
    let mut encoder = flate2::write::DeflateEncoder::new(vec![], flate2::Compression::default());
    encoder.write_all(&message).unwrap();
    assert!(unpack(Codec::Deflate, &encoder.finish().unwrap(), 1 << 20).unwrap() == message);
}

#[test]
fn a_zstd_window_beyond_what_the_format_asks_for_is_refused() {
    use std::io::Write as _;
    let mut encoder = zstd::Encoder::new(vec![], 1).unwrap();
    encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(27)).unwrap();
    encoder.write_all(&[1; 100]).unwrap();
    encoder.flush().unwrap();
    encoder.write_all(&[1; 100]).unwrap();
    assert!(matches!(unpack(Codec::Zstd, &encoder.finish().unwrap(), 1 << 20), Err(DecompressError::Malformed(..))));
}

#[test]
fn the_fuzz_corpus_holds() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/decompress");
    let files = std::fs::read_dir(corpus).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let mut random = fastrand::Rng::with_seed(7);
    let mut count = 0;
    for input in files {
        fuzz::decompress(&input);
        // What a fuzzer would try first: some bytes of it changed.
        for _ in 0..500 {
            let mut input = input.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..input.len());
                input[at] = random.u8(..);
            }
            fuzz::decompress(&input);
        }
        count += 1;
    }
    assert!(count >= 10, "the corpus is part of the tree");
}
