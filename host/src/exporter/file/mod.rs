//! The `file` exporter: requests as lines of OTLP JSON, or as protobuf messages
//! behind their lengths.
//!
//! A request is taken once the file system has it, so there is nothing to flush
//! later; it is not synced to the disk.

mod rotation;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::component::{BoxFuture, ConsumeError, Exporter, Id, Outcome};
use crate::config::Section;
use crate::telemetry::ExporterMetrics;
use crate::traces::{PREFIX, Parcel, encode_request};
use crate::transport::compress::{Codec, Compression};

use super::answer::Failure;
use super::pack;
use super::sending::{Destination, Drain, Sending, SendingSettings};
use rotation::Rotation;
use writer::Writer;

/// The bytes of a record's length before it.
const LENGTH: usize = 4;

#[derive(Debug, Clone)]
pub struct FileSettings {
    path: PathBuf,
    /// Whether what is in the file stays.
    append: bool,
    format: Format,
    compression: Option<Compression>,
    rotation: Option<Rotation>,
    /// The mode of folders that are made for the file, where they are.
    folders: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Proto,
}

/// Reads the exporter's section.
pub fn read(mut section: Section<'_>) -> Option<FileSettings> {
    let path = section.text("path").filter(|path| !path.is_empty());
    if path.is_none() {
        section.problem_at("path", "has no path", "write the file's path, such as `path: ./traces.json`");
    }
    let append = section.boolean_or("append", false);
    let format = match section.choice_or("format", &["json", "proto"], "json") {
        "proto" => Format::Proto,
        _ => Format::Json,
    };
    let is_compressed = section.choice_or("compression", &["zstd", ""], "") == "zstd";
    let compression = is_compressed.then_some(Compression { codec: Codec::Zstd, level: None });
    let rotation = section.section("rotation").map(Rotation::read);
    for (key, is_set) in [("rotation", rotation.is_some()), ("compression", is_compressed)] {
        if append && is_set {
            let hint = format!("remove `append` or `{key}`; with `rotation` the file is appended to anyhow");
            section.problem_at("append", format!("cannot be combined with `{key}`"), hint);
        }
    }
    let folders = read_folders(&mut section);
    if section.duration("flush_interval").is_some() {
        let why = "every request is written before its sender is answered";
        section.warning_at("flush_interval", format!("has no effect: {why}"), "remove it");
    }
    section.refuse("encoding", "encoding extensions do not exist here", "use `format: json` or `format: proto`");
    section.refuse("group_by", "spans are written to one file", "remove it, or use one exporter for each file");
    section.finish();
    let path = path?.into();
    Some(FileSettings { path, append, format, compression, rotation, folders })
}

fn read_folders(section: &mut Section<'_>) -> Option<u32> {
    let creates = section.boolean_or("create_directory", false);
    let written = section.text_or("directory_permissions", "0755");
    let mode = u32::from_str_radix(&written, 8).ok().filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let message = format!("`{written}` is not a mode in octal digits");
        section.problem_at("directory_permissions", message, "write it in quotes, such as \"0755\"");
    }
    mode.filter(|_| creates)
}

pub struct FileExporter {
    sending: Sending,
    recorder: Recorder,
}

/// Makes records of requests and writes them.
struct Recorder {
    settings: FileSettings,
    /// One request is written at a time, and waits here rather than on a thread.
    writer: Arc<Mutex<Writer>>,
    metrics: ExporterMetrics,
}

impl FileExporter {
    pub fn new(id: Id, settings: FileSettings, metrics: ExporterMetrics, drain: Drain) -> Self {
        let writer = Writer::new(settings.path.clone(), settings.append, settings.rotation, settings.folders);
        let writer = Arc::new(Mutex::new(writer));
        let sending = Sending::new(id, SendingSettings::direct(), metrics.clone(), drain);
        Self { sending, recorder: Recorder { settings, writer, metrics } }
    }
}

impl Exporter for FileExporter {
    fn export(&self, parcel: Parcel) -> BoxFuture<'_, Result<Outcome, ConsumeError>> {
        Box::pin(self.sending.run(parcel, &self.recorder))
    }
}

impl Destination for Recorder {
    /// A parcel as it stands in the file.
    async fn body(&self, parcel: &Parcel) -> Result<Bytes, ConsumeError> {
        let json = || encode_request(&parcel.message).map_err(|error| ConsumeError::permanent(error.to_string()));
        let (format, compression) = (self.settings.format, self.settings.compression);
        match (format, compression) {
            (Format::Json, None) => {
                let mut line = json()?;
                line.push(b'\n');
                Ok(line.into())
            }
            // What stands before a gRPC message ends with its length, big-endian.
            (Format::Proto, None) => Ok(parcel.message.framed().slice(PREFIX - LENGTH..)),
            (_, Some(compression)) => {
                let plain = if format == Format::Json { json()?.into() } else { parcel.message.bytes() };
                let mut packed = pack(compression, plain, LENGTH).await?;
                let length = u32::try_from(packed.len().saturating_sub(LENGTH)).unwrap_or(u32::MAX);
                if let Some(prefix) = packed.first_chunk_mut::<LENGTH>() {
                    *prefix = length.to_be_bytes();
                }
                Ok(packed.into())
            }
        }
    }

    async fn attempt(&self, parcel: &Parcel, body: &Bytes) -> Result<Outcome, Failure> {
        let record = body.clone();
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let written = tokio::task::spawn_blocking(move || writer.write(&record)).await;
        let error = match written {
            Ok(Ok(())) => {
                self.metrics.sent.inc_by(parcel.spans as u64);
                return Ok(Outcome::default());
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("the write was interrupted: {error}"),
        };
        Err(ConsumeError::retryable(error).into())
    }
}
