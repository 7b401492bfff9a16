//! The `file_storage` extension: a folder in which queues are kept. It does nothing by
//! itself: exporters name it in `sending_queue.storage`.

use std::path::PathBuf;
use std::time::Duration;

use crate::component::StoragePlace;
use crate::config::Section;

const DIRECTORY: &str = "/var/lib/otelcol/file_storage";
const MIB: u64 = 1 << 20;
/// Less does not hold the largest request.
const LEAST_MIB: u64 = 1;

/// Reads the extension's section.
pub fn read(mut section: Section<'_>, id: &str) -> StoragePlace {
    let directory = PathBuf::from(section.text_or("directory", DIRECTORY));
    let creates = section.boolean_or("create_directory", false);
    let written = section.text_or("directory_permissions", "0750");
    let mode = u32::from_str_radix(&written, 8).ok().filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let message = format!("`{written}` is not a mode in octal digits");
        section.problem_at("directory_permissions", message, "write it in quotes, such as \"0750\"");
    }
    if !creates && !directory.is_dir() {
        let message = match directory.metadata() {
            Ok(_) => format!("`{}` is not a directory", directory.display()),
            Err(error) => format!("directory must exist: `{}`: {error}", directory.display()),
        };
        section.problem_at("directory", message, "make it, or write `create_directory: true`");
    }
    let patience = section.duration_or("timeout", Duration::from_secs(1));
    let max_mib = section.u64_or("max_size_mib", 10 << 10);
    if max_mib < LEAST_MIB {
        section.problem_at("max_size_mib", "must be larger than 0", "");
    }
    if section.boolean("fsync") == Some(false) {
        let why = "has no effect: a sender gets its OK when its spans are synced to the disk, and no sooner";
        section.warning_at("fsync", why, "remove it");
    }
    let why = "has no effect: what is damaged is set aside, and all else is kept";
    if section.boolean("recreate") == Some(true) {
        section.warning_at("recreate", why, "remove it");
    }
    read_compaction(&mut section);
    section.finish();
    let max_bytes = max_mib.saturating_mul(MIB);
    StoragePlace { id: id.to_owned(), directory, create: mode.filter(|_| creates), patience, max_bytes }
}

/// Nothing has to be compacted: a file is removed when all that is in it was sent.
fn read_compaction(section: &mut Section<'_>) {
    let Some(mut compaction) = section.section("compaction") else { return };
    for key in ["on_start", "on_rebound", "cleanup_on_start"] {
        compaction.boolean(key);
    }
    for key in ["max_transaction_size", "rebound_needed_threshold_mib", "rebound_trigger_threshold_mib"] {
        compaction.u64(key);
    }
    compaction.text("directory");
    compaction.duration("check_interval");
    compaction.finish();
    let why = "has no effect: a file of the queue is removed when all that is in it was sent";
    section.warning_at("compaction", why, "remove it");
}
