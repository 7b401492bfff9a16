//! Decompression. A body says how large it will be, or does not; it may lie, and
//! it may be a thousandth of what comes out. So nothing is set aside that was not
//! asked for first, and nothing comes out beyond the limit.

use std::cell::RefCell;
use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::Codec;
use super::deflate;

#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    #[error("the body is not {0}: {1}")]
    Malformed(&'static str, std::io::Error),
    #[error("the body is larger than {0} bytes when decompressed")]
    TooLarge(usize),
    /// Whoever was asked for room had none.
    #[error("there is no memory for the decompressed body now")]
    NoRoom,
}

/// How a body was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As any decoder of its format reads it.
    Common,
    /// With a name that means something else too, or in several members, of which
    /// some decoders read the first alone.
    Peculiar,
}

type Unpacked = Result<Form, DecompressError>;
type Done = Result<(), DecompressError>;

/// What begins each framed snappy stream.
const SNAPPY_FRAMED: &[u8] = b"\xff\x06\x00\x00sNaPpY";
/// Its best element makes 64 bytes of three.
const SNAPPY_RATIO: usize = 22;
/// A zstd frame may ask for so much memory of the past, as a power of two: what RFC 8878 wants at least.
const ZSTD_WINDOW: u32 = 23;
/// Traces shrink about eightfold, repetitive ones fiftyfold. A body that says it
/// shrank more is believed as it comes out, and no sooner.
const CREDIBLE: usize = 64;
/// The first piece of what comes out of a stream.
const FIRST_PIECE: usize = 64 << 10;

/// Where the bytes go, and how many there may be.
struct Target<'a> {
    codec: Codec,
    out: &'a mut Vec<u8>,
    start: usize,
    limit: usize,
    room: &'a mut dyn FnMut(usize) -> bool,
}

impl Codec {
    /// Appends the decompressed bytes to `out`; stops at `limit` of them. `room` is
    /// asked for memory before it is taken, and may say no.
    pub fn decompress(
        self,
        compressed: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
        room: &mut dyn FnMut(usize) -> bool,
    ) -> Unpacked {
        let start = out.len();
        let mut target = Target { codec: self, out, start, limit, room };
        match self {
            Self::Gzip => target.gzip(compressed),
            // Neither of these says how large it will be.
            Self::Zlib => target.peculiar(ZlibDecoder::new(compressed)),
            Self::Deflate if is_zlib(compressed) => target.peculiar(ZlibDecoder::new(compressed)),
            Self::Deflate => target.peculiar(DeflateDecoder::new(compressed)),
            Self::Zstd => target.zstd(compressed).map(|()| Form::Common),
            // A framed stream of nothing has no bytes.
            Self::SnappyFramed if compressed.is_empty() => Ok(Form::Peculiar),
            // Senders mix the two up, and the framed one cannot be taken for the other.
            Self::Snappy | Self::SnappyFramed if compressed.starts_with(SNAPPY_FRAMED) => {
                target.peculiar(snap::read::FrameDecoder::new(compressed))
            }
            Self::Snappy | Self::SnappyFramed => target.snappy(compressed).map(|()| Form::Peculiar),
            Self::Lz4 if is_whole_lz4(compressed) => target.peculiar(lz4_flex::frame::FrameDecoder::new(compressed)),
            Self::Lz4 => Err(target.malformed("it ends within a frame")),
        }
    }
}

impl Target<'_> {
    fn malformed(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DecompressError {
        DecompressError::Malformed(self.codec.http_name(), std::io::Error::other(error))
    }

    /// Sets aside just so much more. A buffer that grew large moves once more, to
    /// where all has room: copying it again and again would hold it twice, and
    /// pages that are never written to take no memory.
    fn make_room(&mut self, bytes: usize) -> Done {
        if !(self.room)(bytes) {
            return Err(DecompressError::NoRoom);
        }
        let so_far = self.out.len() - self.start;
        let most = (self.limit + 1).saturating_sub(so_far);
        let is_large = so_far > 0 && so_far + bytes > self.limit / 8;
        self.out.reserve_exact(if is_large { bytes.max(most) } else { bytes });
        Ok(())
    }

    /// The spare bytes as zeros to be written over; `unpack` says how many it wrote.
    fn fill(&mut self, bytes: usize, unpack: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<()> {
        let before = self.out.len();
        self.out.resize(before + bytes, 0);
        let written = self.out.get_mut(before..).and_then(unpack);
        self.out.truncate(before + written.unwrap_or_default());
        written.map(drop)
    }

    /// Whether the whole body was unpacked at one go, into as many bytes as it says;
    /// otherwise a stream decoder finds out what it is.
    fn at_once(
        &mut self,
        size: usize,
        compressed: &[u8],
        unpack: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<bool, DecompressError> {
        if size > self.limit || size > compressed.len().saturating_mul(CREDIBLE) {
            return Ok(false);
        }
        self.make_room(size)?;
        Ok(self.fill(size, unpack).is_some())
    }

    fn gzip(&mut self, compressed: &[u8]) -> Unpacked {
        // The last member's size, modulo 2^32, ends the file: there may be others before
        // it, and a file that was cut off ends in anything.
        let size = compressed.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
        let done = self.at_once(size, compressed, |into| {
            let ended = deflate::gunzip(compressed, into)?;
            (ended.read == compressed.len()).then_some(ended.written)
        })?;
        if done { Ok(Form::Common) } else { self.peculiar(MultiGzDecoder::new(compressed)) }
    }

    fn zstd(&mut self, compressed: &[u8]) -> Done {
        // The first frame's size; others may follow.
        let told = zstd::zstd_safe::get_frame_content_size(compressed).ok().flatten();
        let told = told.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        // Whether it lies or not, it is not to be taken, and unpacking it is what a bomb wants.
        if told.is_some_and(|size| size > self.limit) {
            return Err(DecompressError::TooLarge(self.limit));
        }
        if let Some(size) = told
            && self.at_once(size, compressed, |into| unzstd(compressed, into))?
        {
            return Ok(());
        }
        let malformed = |error| DecompressError::Malformed("zstd", error);
        let mut decoder = zstd::Decoder::with_buffer(compressed).map_err(malformed)?;
        decoder.window_log_max(ZSTD_WINDOW).map_err(malformed)?;
        self.stream(decoder)
    }

    fn snappy(&mut self, compressed: &[u8]) -> Done {
        let size = snap::raw::decompress_len(compressed).map_err(|error| self.malformed(error))?;
        if size > self.limit {
            return Err(DecompressError::TooLarge(self.limit));
        }
        if size > compressed.len().saturating_mul(SNAPPY_RATIO) {
            return Err(self.malformed("it claims to hold more than it can"));
        }
        self.make_room(size)?;
        let mut result = Ok(0);
        self.fill(size, |into| {
            result = snap::raw::Decoder::new().decompress(compressed, into);
            result.as_ref().ok().copied()
        });
        result.map(drop).map_err(|error| self.malformed(error))
    }

    fn peculiar(&mut self, decoder: impl Read) -> Unpacked {
        self.stream(decoder).map(|()| Form::Peculiar)
    }

    /// Reads a stream to its end, in pieces that double.
    fn stream(&mut self, mut decoder: impl Read) -> Done {
        loop {
            let so_far = self.out.len() - self.start;
            // One byte beyond the limit tells that there is more.
            let piece = so_far.max(FIRST_PIECE).min((self.limit + 1).saturating_sub(so_far));
            self.make_room(piece)?;
            let mut failed = None;
            let mut read = 0;
            self.fill(piece, |into| {
                let mut rest = into;
                while !rest.is_empty() {
                    match decoder.read(rest) {
                        Ok(0) => break,
                        Ok(bytes) => {
                            read += bytes;
                            rest = rest.get_mut(bytes..).unwrap_or_default();
                        }
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    }
                }
                Some(read)
            });
            if self.out.len() - self.start > self.limit {
                return Err(DecompressError::TooLarge(self.limit));
            }
            if let Some(error) = failed {
                return Err(DecompressError::Malformed(self.codec.http_name(), error));
            }
            if read < piece {
                return Ok(());
            }
        }
    }
}

thread_local! {
    /// A context takes longer to make than a small message to unpack.
    static UNZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Unpacks all frames, if they fit.
fn unzstd(compressed: &[u8], into: &mut [u8]) -> Option<usize> {
    UNZSTD.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = zstd::bulk::Decompressor::new().ok();
        }
        kept.as_mut()?.decompress_to_buffer(compressed, into).ok()
    })
}

/// Whether it begins as RFC 1950 has it: method 8, and a header that 31 divides.
fn is_zlib(compressed: &[u8]) -> bool {
    matches!(compressed, [first, second, ..]
        if first & 15 == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31))
}

/// Whether each frame has its end mark: the decoder takes the end of the input
/// between two blocks for the end of the frame, and so a torn body for a whole one.
fn is_whole_lz4(compressed: &[u8]) -> bool {
    const FRAME: u32 = 0x184D_2204;
    const SKIPPABLE: u32 = 0x0184_D2A5;
    let word = |bytes: &[u8]| bytes.first_chunk::<4>().map(|word| u32::from_le_bytes(*word));
    let behind = |bytes: &'_ [u8], count: usize| bytes.get(count..).map(<[u8]>::len);
    let mut rest = compressed;
    let mut frames = 0;
    while !rest.is_empty() {
        let Some(magic) = word(rest) else { return false };
        if magic >> 4 == SKIPPABLE {
            let Some(size) = rest.get(4..).and_then(word) else { return false };
            let Some(left) = behind(rest, (size as usize).saturating_add(8)) else { return false };
            rest = rest.get(rest.len() - left..).unwrap_or_default();
            continue;
        }
        let (Some(flags), FRAME) = (rest.get(4), magic) else { return false };
        let flag = |bit: u8| usize::from(flags >> bit & 1);
        // Magic, flags, block size, content size, dictionary, checksum of the header.
        let header = 4 + 1 + 1 + 8 * flag(3) + 4 * flag(0) + 1;
        let Some(mut blocks) = rest.get(header..) else { return false };
        loop {
            let Some(size) = word(blocks) else { return false };
            if size == 0 {
                break;
            }
            let block = (size & 0x7fff_ffff) as usize + 4 + 4 * flag(4);
            let Some(next) = blocks.get(block..) else { return false };
            blocks = next;
        }
        let Some(next) = blocks.get(4 + 4 * flag(2)..) else { return false };
        rest = next;
        frames += 1;
    }
    frames > 0
}
