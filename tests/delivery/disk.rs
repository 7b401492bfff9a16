//! Disks that fail, fill up, and change what was written.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use tonic::Code;

use super::{came, files, kill, late, line, send_named, wait_for_settled};
use crate::support::disk::SmallDisk;
use crate::support::sink::Down;
use crate::support::spans::{Request, spans, text};
use crate::support::{Collector, Reply, Sink, request, span, wait_for};

/// Three requests on the disk, whose collector was killed; where each begins.
fn three(folder: &Path) -> (std::path::PathBuf, Vec<usize>) {
    let collector = line(folder, Down::new().address()).start();
    send_named(&collector, ["one", "two", "three"]);
    kill(collector);
    let [log] = files(folder, "log").try_into().unwrap();
    let content = fs::read(&log).unwrap();
    let starts: Vec<usize> =
        content.windows(4).enumerate().filter(|(_, it)| *it == b"\xf1vqR").map(|it| it.0).collect();
    assert_eq!(starts.len(), 3);
    (log, starts)
}

/// Starts on what is there; whatever it is, new requests are taken too.
fn resume(folder: &Path) -> (Collector, Sink) {
    let sink = Sink::start();
    let collector = line(folder, &sink).start();
    send_named(&collector, ["new"]);
    wait_for("the new request", || came(&sink).contains(&"new".to_owned()).then_some(()));
    (collector, sink)
}

#[test]
fn a_flipped_byte_costs_its_record_alone_and_is_counted_and_told() {
    for (within, what) in [(2, "a header"), (70, "a payload")] {
        let folder = TempDir::new().unwrap();
        let (log, starts) = three(folder.path());
        let mut content = fs::read(&log).unwrap();
        content[starts[1] + within] ^= 0x40;
        fs::write(&log, content).unwrap();
        let (collector, sink) = resume(folder.path());
        assert_eq!(came(&sink), ["one", "three", "new"], "{what}");
        collector.wait_for_metric("vespid_exporter_queue_damaged_records", &[("exporter", "otlp")], 1);
        let file = log.file_name().unwrap().to_str().unwrap();
        let log = collector.log();
        let told = log.lines().any(|line| line.to_lowercase().contains("error") && line.contains(file));
        assert!(told, "the log names the file\n{log}");
        wait_for("the file set aside", || (files(folder.path(), "damaged").len() == 1).then_some(()));
        collector.stop();
    }
}

#[test]
fn a_flipped_byte_before_all_records_costs_nothing() {
    for place in [0, 9, 20, 30] {
        let folder = TempDir::new().unwrap();
        let (log, starts) = three(folder.path());
        let mut content = fs::read(&log).unwrap();
        assert!(place < starts[0]);
        content[place] ^= 0x40;
        fs::write(&log, content).unwrap();
        let (collector, sink) = resume(folder.path());
        assert_eq!(came(&sink), ["one", "two", "three", "new"], "{place}");
        collector.stop();
    }
}

#[test]
fn a_torn_last_write_costs_nothing_that_was_answered() {
    let folder = TempDir::new().unwrap();
    let (log, starts) = three(folder.path());
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(starts[2] as u64 + 60).unwrap();
    let (collector, sink) = resume(folder.path());
    assert_eq!(came(&sink), ["one", "two", "new"]);
    assert!(collector.log().contains("the last write to the queue was cut short"));
    collector.stop();
}

#[test]
fn foreign_and_empty_files_and_folders_are_no_obstacle() {
    let folder = TempDir::new().unwrap();
    let (log, _) = three(folder.path());
    let queue = log.parent().unwrap();
    fs::write(queue.join("00000000000000000900.log"), "not ours".repeat(1000)).unwrap();
    fs::write(queue.join("00000000000000000901.log"), "").unwrap();
    fs::write(queue.join("00000000000000000902.settled"), "x".repeat(33)).unwrap();
    fs::write(queue.join("readme.md"), "mine").unwrap();
    fs::create_dir(queue.join("00000000000000000903.folder")).unwrap();
    let (collector, sink) = resume(folder.path());
    assert_eq!(came(&sink), ["one", "two", "three", "new"]);
    collector.stop();
    assert_eq!(fs::read(queue.join("readme.md")).unwrap(), b"mine");
}

#[test]
fn a_damaged_file_of_what_is_settled_makes_it_send_twice_and_never_not_at_all() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    sink.answer_next([late(), late()]);
    sink.answer(Reply::Hold);
    let collector = line(folder.path(), &sink).start();
    send_named(&collector, ["one", "two", "three"]);
    sink.wait(3);
    wait_for_settled(folder.path(), 2);
    kill(collector);
    let [settled] = files(folder.path(), "settled").try_into().unwrap();
    let mut content = fs::read(&settled).unwrap();
    content[20] ^= 1;
    content.truncate(31);
    fs::write(&settled, content).unwrap();
    let (collector, sink) = resume(folder.path());
    assert_eq!(came(&sink), ["two", "three", "new"]);
    collector.stop();
}

/// A request of about so many bytes, which do not become fewer on the disk.
fn large(bytes: usize) -> Request {
    let mut span = span("large");
    let filler: String = std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect();
    span.attributes = vec![text("filler", &filler)];
    request(vec![span])
}

#[test]
fn the_limit_on_a_queues_files_refuses_until_there_is_room() {
    let (folder, down) = (TempDir::new().unwrap(), Down::new());
    let setup = line(folder.path(), down.address()).set("extensions.file_storage.max_size_mib", json!(1));
    let collector = setup.start();
    collector.send(&large(700 << 10)).expect_ok();
    collector.send(&large(700 << 10)).expect(Code::Unavailable, "the disk has no room");
    collector.post(&large(700 << 10)).expect(503, "the disk has no room");
    collector.send(&large(100 << 10)).expect_ok();
    let sink = down.up();
    sink.wait(2);
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
    wait_for("room", || (collector.send(&large(700 << 10)).code == Code::Ok).then_some(()));
    // Those that were refused meanwhile are nowhere.
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
    assert_eq!(sink.received().len(), 3);
    collector.finish();
}

#[test]
fn a_write_that_fails_refuses_its_request_and_no_other() {
    let (folder, down) = (TempDir::new().unwrap(), Down::new());
    let collector = line(folder.path(), down.address()).file_limit(200 << 10).start();
    send_named(&collector, ["before"]);
    collector.send(&large(300 << 10)).expect(Code::Unavailable, "the disk has no room");
    send_named(&collector, ["after"]);
    kill(collector);
    let (collector, sink) = resume(folder.path());
    assert_eq!(came(&sink), ["before", "after", "new"]);
    assert_eq!(collector.metrics().sum("vespid_exporter_queue_damaged_records", &[]), 0);
    collector.stop();
}

#[test]
fn a_sender_that_goes_before_its_request_is_stored_takes_it_out_of_the_queue() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    sink.answer(Reply::Hold);
    let collector = line(folder.path(), &sink).file_limit(200 << 10).start();
    // The disk cannot have it, so that only the destination can.
    let gone = collector.start_send(&large(300 << 10));
    sink.wait(1);
    drop(gone);
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
    collector.wait_for_metric("otelcol_exporter_send_failed_spans", &[], 1);
    collector.wait_for_metric("vespid_account_in_flight_spans", &[], 0);
    // The next one is not held up by it.
    sink.answer(Reply::Accept);
    send_named(&collector, ["next"]);
    collector.stop();
}

#[test]
fn a_disk_that_cannot_write_is_no_obstacle_where_the_destination_is_only_slow() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    sink.answer(late());
    let collector = line(folder.path(), &sink).file_limit(200 << 10).start();
    for _ in 0..3 {
        collector.send(&large(300 << 10)).expect_ok();
    }
    assert_eq!(sink.received().len(), 3);
    collector.finish();
}

#[test]
fn a_full_disk_refuses_until_there_is_room() {
    // Where nothing can be mounted, the limit on files has shown what can be shown.
    let Some(disk) = SmallDisk::new() else { return };
    let down = Down::new();
    let collector = line(disk.path(), down.address()).start();
    let filler = disk.path().join("filler");
    send_named(&collector, ["before"]);
    fs::write(&filler, vec![1; 900 << 10]).unwrap();
    collector.send(&large(300 << 10)).expect(Code::Unavailable, "the disk has no room");
    send_named(&collector, ["small"]);
    fs::remove_file(&filler).unwrap();
    collector.send(&large(300 << 10)).expect_ok();
    let sink = down.up();
    sink.wait(3);
    assert_eq!(came(&sink), ["before", "small", "large"]);
    collector.finish();
}

#[test]
fn a_disk_that_turns_read_only_refuses_until_it_can_be_written_again() {
    let Some(disk) = SmallDisk::new() else { return };
    let down = Down::new();
    let collector = line(disk.path(), down.address()).start();
    // No file is open for writing yet, so that the disk can turn.
    disk.read_only(true);
    collector.send(&request(spans(1))).expect(Code::Unavailable, "the request cannot be stored");
    assert_eq!(collector.health().status, 200);
    disk.read_only(false);
    send_named(&collector, ["again"]);
    let sink = down.up();
    sink.wait(1);
    collector.finish();
}

#[test]
fn a_folder_that_is_removed_refuses_until_it_is_back() {
    let (folder, down) = (TempDir::new().unwrap(), Down::new());
    let storage = folder.path().join("storage");
    fs::create_dir(&storage).unwrap();
    let collector = line(&storage, down.address()).start();
    send_named(&collector, ["lost with its folder"]);
    fs::remove_dir_all(&storage).unwrap();
    for _ in 0..2 {
        collector.send(&request(spans(1))).expect(Code::Unavailable, "the request cannot be stored");
    }
    fs::create_dir_all(storage.join("exporter_otlp")).unwrap();
    send_named(&collector, ["again"]);
    let sink = down.up();
    wait_for("the new request", || came(&sink).contains(&"again".to_owned()).then_some(()));
    collector.stop();
}
