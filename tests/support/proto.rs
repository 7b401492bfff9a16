//! Messages that `opentelemetry-proto` has not, and protobuf by hand for what no
//! encoder would write.

use std::time::Duration;

use prost::Message;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo`, with `google.protobuf.Duration` in it.
#[derive(Clone, PartialEq, Message)]
pub struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<Delay>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Delay {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Status {
    pub fn new(code: i32, message: &str, retry: Option<Duration>) -> Self {
        let details = retry.map(|wait| {
            let delay = Delay { seconds: wait.as_secs() as i64, nanos: wait.subsec_nanos() as i32 };
            let value = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
            Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value }
        });
        Self { code, message: message.to_owned(), details: details.into_iter().collect() }
    }

    pub fn retry_info(&self) -> Option<Duration> {
        let detail = self.details.iter().find(|detail| detail.type_url.ends_with("google.rpc.RetryInfo"))?;
        let delay = RetryInfo::decode(detail.value.as_slice()).unwrap().retry_delay.unwrap_or_default();
        Some(Duration::new(delay.seconds as u64, delay.nanos as u32))
    }
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A field of bytes: a text, a message.
pub fn bytes(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut out = vec![];
    varint(field << 3 | 2, &mut out);
    varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

/// A field that no message of OTLP has, with a mark to find it by.
pub fn unknown(mark: &str) -> Vec<u8> {
    bytes(1000, mark)
}

/// gRPC's prefix before a message.
pub fn framed(message: &[u8]) -> Vec<u8> {
    frame(0, message)
}

pub fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut out = vec![flag];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub fn gunzip(content: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut out = vec![];
    flate2::read::MultiGzDecoder::new(content).read_to_end(&mut out).unwrap();
    out
}

/// What a body holds that was packed so, by HTTP's name of the codec.
pub fn unpack(codec: &str, content: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut out = vec![];
    match codec {
        "" => out.extend_from_slice(content),
        "gzip" => out = gunzip(content),
        "zlib" | "deflate" => drop(flate2::read::ZlibDecoder::new(content).read_to_end(&mut out).unwrap()),
        "zstd" => out = zstd::decode_all(content).unwrap(),
        "snappy" => out = snap::raw::Decoder::new().decompress_vec(content).unwrap(),
        "x-snappy-framed" => drop(snap::read::FrameDecoder::new(content).read_to_end(&mut out).unwrap()),
        "lz4" => drop(lz4_flex::frame::FrameDecoder::new(content).read_to_end(&mut out).unwrap()),
        other => panic!("a body is packed by `{other}`"),
    }
    out
}
