//! Compression of whole messages, with what comes out bounded while it comes out.
//!
//! A message is at hand as a whole and so is the room for it, which is what lets
//! codecs be used that cannot stream: they take a fraction of the time of those
//! that can (`./dev.sh bench --bench micro`). A stream decoder takes over where a
//! message does not tell its size, or tells one that is hard to believe.

mod deflate;
#[doc(hidden)]
pub mod fuzz;
mod unpack;

use std::cell::RefCell;

pub use unpack::{DecompressError, Form};

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

/// The names that `Content-Encoding` gives them.
const HTTP_NAMES: [(&str, Codec); 7] = [
    ("gzip", Codec::Gzip),
    ("zstd", Codec::Zstd),
    ("zlib", Codec::Zlib),
    ("snappy", Codec::Snappy),
    ("deflate", Codec::Deflate),
    ("lz4", Codec::Lz4),
    ("x-snappy-framed", Codec::SnappyFramed),
];

/// The names that `grpc-encoding` gives them.
const GRPC_NAMES: [(&str, Codec); 3] = [("gzip", Codec::Gzip), ("zstd", Codec::Zstd), ("snappy", Codec::SnappyFramed)];

impl Codec {
    /// By the name in `Content-Encoding`.
    pub fn of_http(name: &str) -> Option<Self> {
        find(&HTTP_NAMES, name)
    }

    /// By the name in `grpc-encoding`.
    pub fn of_grpc(name: &str) -> Option<Self> {
        find(&GRPC_NAMES, name)
    }

    /// The name in `Content-Encoding`.
    pub fn http_name(self) -> &'static str {
        HTTP_NAMES.iter().find(|(_, codec)| *codec == self).map_or("", |(name, _)| name)
    }

    /// The name in `grpc-encoding`.
    pub fn grpc_name(self) -> &'static str {
        GRPC_NAMES.iter().find(|(_, codec)| *codec == self).map_or("", |(name, _)| name)
    }

    /// All names that `Content-Encoding` may have.
    pub fn http_names() -> impl Iterator<Item = &'static str> {
        HTTP_NAMES.iter().map(|(name, _)| *name)
    }
}

fn find(names: &[(&str, Codec)], name: &str) -> Option<Codec> {
    // HTTP's names have no case; gRPC's have, and nobody sends them in capitals.
    names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, codec)| *codec)
}

/// What an exporter packs its messages with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    pub codec: Codec,
    /// The codec's own scale; `None` is our choice.
    pub level: Option<i32>,
}

/// What higher levels save in bytes they cost several times over in CPU time: gzip's 6
/// takes 2.3 times as long as 1 for 6 % fewer bytes, zstd's 3 takes 1.7 times as long
/// for the same (`./dev.sh bench --bench micro -- codecs`).
const DEFLATE_LEVEL: i32 = 1;
const ZSTD_LEVEL: i32 = 1;

/// Larger buffers are not kept between messages.
const KEPT: usize = 4 << 20;

/// What one thread packs with: contexts take longer to make than small messages to pack.
#[derive(Default)]
struct Packer {
    deflate: Option<(i32, libdeflater::Compressor)>,
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
    buffer: Vec<u8>,
}

thread_local! {
    static PACKER: RefCell<Packer> = RefCell::default();
}

impl Compression {
    /// Appends the packed message. It fails only if the codec itself does, which
    /// memory to memory none has a reason for; what it said is for the log.
    pub fn compress(self, message: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        PACKER.with_borrow_mut(|packer| packer.pack(self, message, out))
    }
}

impl Packer {
    fn pack(&mut self, with: Compression, message: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        match with.codec {
            Codec::Gzip | Codec::Zlib | Codec::Deflate => {
                let level = with.level.filter(|level| *level >= 0).unwrap_or(DEFLATE_LEVEL);
                let compressor = self.deflate(level);
                let bound = match with.codec {
                    Codec::Gzip => compressor.gzip_compress_bound(message.len()),
                    _ => compressor.zlib_compress_bound(message.len()),
                };
                self.in_buffer(bound, out, |this, buffer| {
                    let compressor = this.deflate(level);
                    let packed = match with.codec {
                        Codec::Gzip => compressor.gzip_compress(message, buffer),
                        _ => compressor.zlib_compress(message, buffer),
                    };
                    packed.map_err(std::io::Error::other)
                })
            }
            Codec::Zstd => {
                let level = with.level.unwrap_or(ZSTD_LEVEL);
                self.in_buffer(zstd::zstd_safe::compress_bound(message.len()), out, |this, buffer| {
                    this.zstd(level)?.compress_to_buffer(message, buffer)
                })
            }
            Codec::Snappy => self.in_buffer(snap::raw::max_compress_len(message.len()), out, |_, buffer| {
                Ok(snap::raw::Encoder::new().compress(message, buffer)?)
            }),
            Codec::SnappyFramed => {
                let mut encoder = snap::write::FrameEncoder::new(out);
                std::io::Write::write_all(&mut encoder, message)?;
                std::io::Write::flush(&mut encoder)
            }
            Codec::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
                std::io::Write::write_all(&mut encoder, message)?;
                encoder.finish().map(drop).map_err(std::io::Error::other)
            }
        }
    }

    fn deflate(&mut self, level: i32) -> &mut libdeflater::Compressor {
        if self.deflate.as_ref().is_none_or(|(made, _)| *made != level) {
            // Its own scale ends at 12, gzip's at 9; what is beyond is its best.
            let own = libdeflater::CompressionLvl::new(level).unwrap_or(libdeflater::CompressionLvl::best());
            self.deflate = None;
            return &mut self.deflate.insert((level, libdeflater::Compressor::new(own))).1;
        }
        let made = self.deflate.get_or_insert_with(|| (level, libdeflater::Compressor::new(Default::default())));
        &mut made.1
    }

    fn zstd(&mut self, level: i32) -> std::io::Result<&mut zstd::bulk::Compressor<'static>> {
        let made = self.zstd.take().filter(|(made, _)| *made == level);
        let made = match made {
            Some(made) => made,
            None => (level, zstd::bulk::Compressor::new(level)?),
        };
        Ok(&mut self.zstd.insert(made).1)
    }

    /// Packs into a buffer that is kept, and appends what is in it: the packed
    /// message waits for its turn in as few bytes as it has.
    fn in_buffer(
        &mut self,
        bound: usize,
        out: &mut Vec<u8>,
        pack: impl FnOnce(&mut Self, &mut [u8]) -> std::io::Result<usize>,
    ) -> std::io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.len() < bound {
            buffer.resize(bound, 0);
        }
        let packed = pack(self, &mut buffer);
        if let Ok(length) = packed {
            out.extend_from_slice(buffer.get(..length).unwrap_or_default());
        }
        if buffer.len() <= KEPT {
            self.buffer = buffer;
        }
        packed.map(drop)
    }
}

#[cfg(test)]
mod tests;
