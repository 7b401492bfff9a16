//! What an OK is worth: queues on the disk, early OKs, and several destinations.
//!
//! Ways in which the OpenTelemetry Collector is known to lose spans, and the tests that
//! show what becomes of them here; `faults` does all of it at random beside these.
//!
//! L1 a batch answers before its spans are delivered, and a crash takes it along: batching::nobody_hears_ok_before_the_destination_has_the_batch, batching::a_part_that_is_refused_fails_the_requests_that_have_spans_in_it_alone, queue::batches_are_made_of_what_is_queued_and_each_request_is_settled_for_itself
//! L2 a full queue refuses in a way that senders do not retry: sending::a_full_queue_is_told_and_counted, sending::a_queue_that_blocks_makes_senders_wait, queue::a_full_queue_refuses_and_one_that_blocks_waits
//! L3 retries end and the spans are gone: sending::retries_end_after_their_time_and_the_sender_hears_it, sending::what_is_stored_is_tried_without_an_end_unless_the_config_says_one, queue::what_cannot_be_delivered_in_its_time_is_dropped_counted_and_told
//! L4 a shutdown drops what it cannot send: shutdown::retries_end_with_the_shutdown_and_their_senders_are_told, modes::an_early_queue_is_sent_out_at_the_shutdown
//! L5 what fails during a shutdown is deleted from the disk: queue::a_request_that_fails_during_the_shutdown_stays_on_the_disk, queue::a_shutdown_sends_what_it_can_and_the_grace_periods_end_leaves_the_rest_on_the_disk
//! L6 a damaged or full disk stops the collector or costs the queue: disk::a_flipped_byte_costs_its_record_alone_and_is_counted_and_told, disk::a_flipped_byte_before_all_records_costs_nothing, disk::a_torn_last_write_costs_nothing_that_was_answered, disk::a_full_disk_refuses_until_there_is_room
//! L7 tenants and credentials are not stored with the spans: queue::tenant_metadata_and_identity_are_kept_with_the_request
//! L8 a rate limit without a pause is taken for a final refusal: tempo::a_limited_rate_is_waited_for_with_and_without_a_word_on_how_long
//! L9 one failing destination makes repeats at all others: fanout::a_repeated_request_goes_only_to_those_that_lack_it, fanout::pipelines_and_connectors_of_one_receiver_count_as_destinations_too
//! L10 a memory limiter acts too late: overload::ten_times_too_much_stays_under_a_memory_limiters_limit, overload::ten_times_too_much_stays_under_what_the_process_may_use
//! L11 sampling of whole traces forgets some of them: no test, there is no such sampling here
//! L12 one bad id costs its whole batch at Tempo: tempo::a_span_that_tempo_would_refuse_the_whole_request_for_does_not_reach_it
//! L13 a missing tenant is retried until all is dropped: tempo::a_missing_tenant_is_told_with_its_remedy_and_not_retried
//! L14 memory grows: overload::ten_times_too_much_stays_under_what_the_process_may_use, faults::two_hundred_seeded_runs_lose_nothing_that_was_acknowledged

mod disk;
mod fanout;
mod modes;
mod queue;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::config::with;
use crate::support::spans::names;
use crate::support::{Collector, Reply, Setup, Sink, request, span, to, wait_for};

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

/// An answer that comes when the disk has the request.
fn late() -> Reply {
    Reply::Delayed(Duration::from_millis(400))
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
