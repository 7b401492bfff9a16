//! Compression of whole messages, with what comes out bounded while it comes out.

use std::io::{Read, Write as _};

use flate2::Compression as Level;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

/// How the bytes of a message are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Gzip,
    Zstd,
    /// RFC 1950. `deflate` means the same in HTTP, and some send RFC 1951 under that name.
    Zlib,
    Deflate,
    /// One block, as HTTP's `snappy` means.
    Snappy,
    /// Framed, as HTTP's `x-snappy-framed` and gRPC's `snappy` mean.
    SnappyFramed,
    Lz4,
}

#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    #[error("the body is not {0}: {1}")]
    Malformed(&'static str, std::io::Error),
    #[error("the body is larger than {0} bytes when decompressed")]
    TooLarge(usize),
}

/// What begins each framed snappy stream.
const SNAPPY_FRAMED: &[u8] = b"\xff\x06\x00\x00sNaPpY";
/// A zstd frame may ask for so much memory of the past, as a power of two: what RFC 8878 wants at least.
const ZSTD_WINDOW: u32 = 23;

impl Codec {
    /// By the name in `Content-Encoding`.
    pub fn of_http(name: &str) -> Option<Self> {
        Some(match name {
            "gzip" => Self::Gzip,
            "zstd" => Self::Zstd,
            "zlib" => Self::Zlib,
            "deflate" => Self::Deflate,
            "snappy" => Self::Snappy,
            "x-snappy-framed" => Self::SnappyFramed,
            "lz4" => Self::Lz4,
            _ => return None,
        })
    }

    /// By the name in `grpc-encoding`.
    pub fn of_grpc(name: &str) -> Option<Self> {
        Some(match name {
            "gzip" => Self::Gzip,
            "zstd" => Self::Zstd,
            "snappy" => Self::SnappyFramed,
            _ => return None,
        })
    }

    /// The name in `grpc-encoding`.
    pub fn grpc_name(self) -> &'static str {
        match self {
            Self::SnappyFramed => "snappy",
            other => other.http_name(),
        }
    }

    /// The name in `Content-Encoding`.
    pub fn http_name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Zlib => "zlib",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::SnappyFramed => "x-snappy-framed",
            Self::Lz4 => "lz4",
        }
    }

    /// Appends the decompressed bytes to `out`; stops at `limit` of them.
    pub fn decompress(self, compressed: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), DecompressError> {
        let malformed = |error| DecompressError::Malformed(self.http_name(), error);
        match self {
            Self::Gzip => self.read_all(MultiGzDecoder::new(compressed), compressed.len(), out, limit),
            // RFC 1950 begins with method 8 and a header that 31 divides.
            Self::Zlib | Self::Deflate => match compressed {
                [first, second, ..]
                    if self == Self::Zlib
                        || (first & 15 == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31)) =>
                {
                    self.read_all(ZlibDecoder::new(compressed), compressed.len(), out, limit)
                }
                _ if self == Self::Zlib => self.read_all(ZlibDecoder::new(compressed), compressed.len(), out, limit),
                _ => self.read_all(DeflateDecoder::new(compressed), compressed.len(), out, limit),
            },
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(compressed).map_err(malformed)?;
                decoder.window_log_max(ZSTD_WINDOW).map_err(malformed)?;
                self.read_all(decoder, compressed.len(), out, limit)
            }
            Self::Snappy | Self::SnappyFramed if compressed.starts_with(SNAPPY_FRAMED) => {
                self.read_all(snap::read::FrameDecoder::new(compressed), compressed.len(), out, limit)
            }
            Self::Snappy | Self::SnappyFramed => {
                let length = snap::raw::decompress_len(compressed).map_err(|error| malformed(error.into()))?;
                if length > limit {
                    return Err(DecompressError::TooLarge(limit));
                }
                let plain = snap::raw::Decoder::new().decompress_vec(compressed);
                out.extend_from_slice(&plain.map_err(|error| malformed(error.into()))?);
                Ok(())
            }
            Self::Lz4 => self.read_all(lz4_flex::frame::FrameDecoder::new(compressed), compressed.len(), out, limit),
        }
    }

    fn read_all(
        self,
        decoder: impl Read,
        compressed: usize,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), DecompressError> {
        let before = out.len();
        // Traces shrink about eightfold; the guess is bounded by what may come out.
        out.reserve(compressed.saturating_mul(8).min(limit));
        let read = decoder.take(limit as u64 + 1).read_to_end(out);
        read.map_err(|error| DecompressError::Malformed(self.http_name(), error))?;
        if out.len() - before > limit { Err(DecompressError::TooLarge(limit)) } else { Ok(()) }
    }
}

/// What an exporter packs its messages with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    pub codec: Codec,
    /// The codec's own scale; `None` is our choice.
    pub level: Option<i32>,
}

impl Compression {
    /// Appends the packed message. Writing to memory does not fail.
    pub fn compress(self, message: &[u8], out: &mut Vec<u8>) {
        // What higher levels save in bytes they cost many times over in CPU.
        let level = self.level.and_then(|level| u32::try_from(level).ok()).map_or(Level::fast(), Level::new);
        match self.codec {
            Codec::Gzip => {
                let mut encoder = GzEncoder::new(out, level);
                let _ = encoder.write_all(message);
                let _ = encoder.finish();
            }
            Codec::Zlib | Codec::Deflate => {
                let mut encoder = ZlibEncoder::new(out, level);
                let _ = encoder.write_all(message);
                let _ = encoder.finish();
            }
            Codec::Zstd => {
                if let Ok(packed) = zstd::bulk::compress(message, self.level.unwrap_or(1)) {
                    out.extend_from_slice(&packed);
                }
            }
            Codec::Snappy => {
                if let Ok(packed) = snap::raw::Encoder::new().compress_vec(message) {
                    out.extend_from_slice(&packed);
                }
            }
            Codec::SnappyFramed => {
                let mut encoder = snap::write::FrameEncoder::new(out);
                let _ = encoder.write_all(message);
                let _ = encoder.flush();
            }
            Codec::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
                let _ = encoder.write_all(message);
                let _ = encoder.finish();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Codec; 7] =
        [Codec::Gzip, Codec::Zstd, Codec::Zlib, Codec::Deflate, Codec::Snappy, Codec::SnappyFramed, Codec::Lz4];

    fn packed(codec: Codec, message: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        Compression { codec, level: None }.compress(message, &mut out);
        out
    }

    #[test]
    fn every_codec_reads_what_it_wrote_and_stops_a_bomb_at_the_limit() {
        for codec in ALL {
            let mut out = vec![];
            codec.decompress(&packed(codec, b"some spans"), &mut out, 10).unwrap();
            assert_eq!(out, b"some spans", "{codec:?}");
            let bomb = packed(codec, &vec![0; 64 << 20]);
            let mut out = vec![];
            let error = codec.decompress(&bomb, &mut out, 1 << 20).unwrap_err();
            assert!(matches!(error, DecompressError::TooLarge(_)), "{codec:?}: {error}");
            assert!(out.capacity() <= 4 << 20, "{codec:?}");
        }
    }

    #[test]
    fn a_torn_body_is_refused() {
        for codec in ALL {
            let whole = packed(codec, &[7; 1000]);
            let torn = codec.decompress(&whole[..whole.len() - 4], &mut vec![], 10_000);
            assert!(matches!(torn, Err(DecompressError::Malformed(..))), "{codec:?}: {torn:?}");
        }
    }

    #[test]
    fn several_gzip_members_read_as_one() {
        let two = [packed(Codec::Gzip, b"one"), packed(Codec::Gzip, b"two")].concat();
        let mut out = vec![];
        Codec::Gzip.decompress(&two, &mut out, 100).unwrap();
        assert_eq!(out, b"onetwo");
    }
}
