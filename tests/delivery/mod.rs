//! What an OK is worth: queues on the disk, early OKs, and several destinations.

mod disk;
mod fanout;
mod modes;
mod queue;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::config::with;
use crate::support::spans::names;
use crate::support::{Collector, Setup, Sink, request, span, to, wait_for};

/// An exporter's settings with a queue on the disk.
fn queued(address: impl ToString, queue: Value) -> Value {
    let mut queue = queue;
    queue["storage"] = json!("file_storage");
    with(to(address), [("sending_queue", queue)])
}

/// A collector that keeps queues in this folder.
fn keeping(folder: &Path) -> Setup {
    Setup::new()
        .set("extensions.file_storage", json!({"directory": folder}))
        .set("service.extensions", json!(["health_check", "file_storage"]))
}

/// From `otlp` through a queue on the disk to this address, one request at a time.
fn line(folder: &Path, address: impl ToString) -> Setup {
    keeping(folder).exporter("otlp", queued(address, json!({"num_consumers": 1})))
}

/// Sends requests of one span each, whose names are these.
#[track_caller]
fn send_named<'a>(collector: &Collector, names: impl IntoIterator<Item = &'a str>) {
    for name in names {
        collector.send(&request(vec![span(name)])).expect_ok();
    }
}

/// The names of all spans that came, in the order in which they came.
fn came(sink: &Sink) -> Vec<String> {
    let requests = sink.received();
    requests.iter().flat_map(|it| names(&it.request()).into_iter().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Kills it as nothing can prevent.
fn kill(collector: Collector) {
    collector.process.signal(libc::SIGKILL);
    assert_eq!(collector.process.wait().code, None);
}

/// The files of the queue of exporter `otlp` with this extension, in their order.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.join("exporter_otlp")) else { return vec![] };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    found.sort();
    found
}

/// Waits until the disk knows that so many requests are settled.
#[track_caller]
fn wait_for_settled(folder: &Path, requests: u64) {
    let size = || files(folder, "settled").iter().map(|path| path.metadata().unwrap().len()).sum::<u64>();
    wait_for("what was settled on the disk", || (size() == 16 * requests).then_some(()));
}
