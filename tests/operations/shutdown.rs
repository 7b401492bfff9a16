//! The end: what was accepted is answered for.

use serde_json::json;

use crate::support::spans::spans;
use crate::support::{Collector, Reply, Setup, Sink, request, wait_for};

/// A collector that waits for its destination, with five spans under way.
fn waiting(
    sink: &Sink,
    arguments: &[&str],
) -> (Collector, crate::support::send::Pending<crate::support::send::GrpcAnswer>) {
    sink.answer(Reply::Hold);
    let setup = arguments.iter().fold(Setup::line(sink), |setup, argument| setup.argument(*argument));
    let collector = setup.start();
    let pending = collector.start_send(&request(spans(5)));
    sink.wait(1);
    (collector, pending)
}

#[test]
fn requests_under_way_are_drained_and_health_says_so() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let sink = Sink::start();
        let (mut collector, pending) = waiting(&sink, &[]);
        assert_eq!(collector.health().status, 200);
        collector.process.signal(signal);
        collector.wait_for_log("shutting down: no more spans are accepted");
        wait_for("an unhealthy answer", || (collector.health().status == 503).then_some(()));
        assert!(!pending.is_answered());
        let (grpc, refused) = (collector.grpc(), std::net::TcpStream::connect);
        wait_for("a closed port", || refused(grpc).is_err().then_some(()));
        sink.release();
        pending.answer().expect_ok();
        let ended = collector.process.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert!(ended.log.contains("Shutdown complete: everything accepted has been answered for."), "{}", ended.log);
    }
}

#[test]
fn an_idle_collector_with_open_connections_ends_at_once() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    let _open = [collector.grpc(), collector.http()].map(crate::support::send::idle_connection);
    collector.send(&request(spans(1))).expect_ok();
    let began = std::time::Instant::now();
    collector.finish();
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn the_grace_periods_end_says_how_many_spans_were_not_delivered() {
    let sink = Sink::start();
    let (collector, _pending) = waiting(&sink, &["--grace-period=300ms"]);
    collector.process.signal(libc::SIGTERM);
    let ended = collector.process.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let line = ended.log.lines().find(|line| line.contains("the grace period is over")).expect(&ended.log);
    assert!(line.contains("\"spans\": 5"), "{line}");
}

#[test]
fn a_second_signal_ends_the_drain() {
    let sink = Sink::start();
    let (mut collector, _pending) = waiting(&sink, &[]);
    collector.process.signal(libc::SIGTERM);
    collector.wait_for_log("shutting down");
    collector.process.signal(libc::SIGTERM);
    let ended = collector.process.wait();
    assert!(ended.log.contains("a second signal: the drain ends here"), "{}", ended.log);
}

#[test]
fn retries_end_with_the_shutdown_and_their_senders_are_told() {
    let sink = Sink::start();
    sink.answer(Reply::grpc(tonic::Code::Unavailable, "still down"));
    let retry = json!({"initial_interval": "1h", "max_elapsed_time": "0s"});
    let slow = crate::support::config::with(crate::support::to(&sink), [("retry_on_failure", retry)]);
    let mut collector = Setup::new().exporter("otlp", slow).start();
    let pending = collector.start_send(&request(spans(2)));
    collector.wait_for_log("Will retry the request after interval.");
    collector.process.signal(libc::SIGTERM);
    pending.answer().expect(tonic::Code::Unavailable, "still down");
    assert_eq!(collector.process.wait().code, Some(0));
}

/// Whether the process has asked for SIGTERM.
pub(super) fn listens_for_signals(id: u32) -> Option<()> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    (mask >> (libc::SIGTERM - 1) & 1 == 1).then_some(())
}

#[test]
fn a_signal_during_the_start_ends_it_cleanly() {
    let never_ready = crate::support::plugin("hostile", json!({"mode": "configure-loop"}));
    let setup = Setup::new().exporter("debug", json!({})).processor("wasm/hostile", never_ready);
    let process = Collector::spawn(setup);
    wait_for("its signal handlers", || listens_for_signals(process.id()));
    process.signal(libc::SIGTERM);
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.how, ended.log);
    assert_eq!(ended.log, "", "it did not come to the plugin's deadline");
}

/// A pipe that nobody reads, with a reader that keeps it open.
fn stuck_pipe(folder: &std::path::Path) -> (std::path::PathBuf, std::fs::File) {
    let path = folder.join("pipe");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a plain system call with a text that ends in zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    (path, reader)
}

#[test]
fn a_write_that_hangs_does_not_keep_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _reader) = stuck_pipe(folder.path());
    let setup = Setup::new().exporter("file", json!({"path": path})).argument("--grace-period=300ms");
    let mut collector = setup.start();
    // More than a pipe holds.
    let pending = collector.start_send(&request(spans(5000)));
    wait_for("a thread that hangs in a write", || {
        collector.wait_for_log("Everything is ready");
        (collector.metrics().sum("otelcol_exporter_in_flight_requests", &[]) == 1).then_some(())
    });
    collector.process.signal(libc::SIGTERM);
    let ended = collector.process.wait();
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.how, ended.log);
    assert!(ended.log.contains("\"spans\": 5000"), "{}", ended.log);
    drop(pending);
}

#[test]
fn a_log_that_hangs_does_not_keep_the_process_either() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _reader) = stuck_pipe(folder.path());
    let logs = json!({"output_paths": ["stderr", path], "sampling": {"enabled": false}});
    let debug = json!({"verbosity": "detailed"});
    let setup = Setup::new().exporter("debug", debug).set("service.telemetry.logs", logs);
    // All of its workers hang.
    let collector = setup.argument("--grace-period=300ms").without_account().start();
    let pending: Vec<_> = (0..8).map(|_| collector.start_send(&request(spans(100)))).collect();
    wait_for("a log beyond what a pipe holds", || (collector.log().len() > 65536).then_some(()));
    collector.process.signal(libc::SIGTERM);
    let ended = collector.process.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.how);
    drop(pending);
}
