//! What becomes of each answer that a destination may give (OTLP, "Failures").

use std::time::{Duration, Instant};

use serde_json::json;
use tonic::Code;

use crate::support::config::{to_http, with};
use crate::support::spans::spans;
use crate::support::{Collector, Reply, Setup, Sink, request, to};

const GRPC_CODES: [Code; 16] = [
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

/// The specification's table. `lenient`: RESOURCE_EXHAUSTED is retried always, which is the default.
fn is_retryable(code: Code, has_retry_info: bool, lenient: bool) -> bool {
    use Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, ResourceExhausted, Unavailable};
    match code {
        Cancelled | DeadlineExceeded | Aborted | OutOfRange | Unavailable | DataLoss => true,
        ResourceExhausted => has_retry_info || lenient,
        _ => false,
    }
}

/// What the sender hears of a permanent refusal: the destination's own code. A
/// permanent RESOURCE_EXHAUSTED is told as INTERNAL: as HTTP's 429 it would be tried again.
fn told(code: Code) -> Code {
    if code == Code::ResourceExhausted { Code::Internal } else { code }
}

/// A collector that does not retry, so that its sender hears everything.
fn without_retry(sink: &Sink) -> Collector {
    let off = [("retry_on_failure", json!({"enabled": false}))];
    Setup::new().exporter("otlp", with(to(sink), off)).start()
}

#[test]
fn grpc_statuses_are_retried_as_the_specification_says() {
    for lenient in [true, false] {
        let sink = Sink::start();
        let exporter = with(to(&sink), [("retry_on_failure.resource_exhausted", json!(lenient))]);
        let collector = Setup::new().exporter("otlp", exporter).start();
        let mut expected = 0;
        for code in GRPC_CODES {
            for retry in [None, Some(Duration::from_millis(1))] {
                sink.answer_next([Reply::Grpc { code: code as i32, message: "as told", retry }]);
                let answer = collector.send(&request(spans(1)));
                if is_retryable(code, retry.is_some(), lenient) {
                    answer.expect_ok();
                    expected += 2;
                } else {
                    answer.expect(told(code), "as told");
                    expected += 1;
                }
                assert_eq!(sink.received().len(), expected, "{code:?}, RetryInfo {retry:?}, {lenient}");
            }
        }
        collector.finish();
    }
}

#[test]
fn without_retries_the_sender_hears_what_can_be_retried() {
    let sink = Sink::start();
    let collector = without_retry(&sink);
    for code in GRPC_CODES {
        for retry in [None, Some(Duration::from_secs(3))] {
            sink.answer_next([Reply::Grpc { code: code as i32, message: "as told", retry }]);
            let answer = collector.send(&request(spans(1)));
            if is_retryable(code, retry.is_some(), true) {
                answer.expect(Code::Unavailable, "as told");
                assert_eq!(answer.details.retry_info(), retry, "{code:?}");
            } else {
                answer.expect(told(code), "as told");
                assert_eq!(answer.details.retry_info(), None, "{code:?}");
            }
        }
    }
    collector.finish();
    assert_eq!(sink.received().len(), 32);
}

#[test]
fn http_senders_hear_the_status_that_fits() {
    let sink = Sink::start();
    let collector = without_retry(&sink);
    let expected = |code: Code| match code {
        Code::InvalidArgument => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::Unimplemented => 404,
        code if is_retryable(code, false, true) => 503,
        _ => 500,
    };
    for code in GRPC_CODES {
        sink.answer_next([Reply::Grpc { code: code as i32, message: "as told", retry: None }]);
        collector.post(&request(spans(1))).expect(expected(code), "as told");
    }
    collector.finish();
}

#[test]
fn http_statuses_are_retried_as_the_specification_says() {
    let sink = Sink::start();
    let collector = Setup::new().exporter("otlphttp", to_http(&sink)).start();
    let mut expected = 0;
    for status in [307, 400, 401, 403, 404, 405, 408, 409, 413, 415, 418, 429, 500, 501, 502, 503, 504, 505] {
        for retry_after in [None, Some("0"), Some("Wed, 21 Oct 2015 07:28:00 GMT"), Some("soon")] {
            sink.answer_next([Reply::Http { status, message: "as told", retry_after }]);
            let answer = collector.send(&request(spans(1)));
            if matches!(status, 429 | 502 | 503 | 504) {
                answer.expect_ok();
                expected += 2;
            } else {
                answer.expect(Code::Internal, &format!("answered HTTP {status}: as told"));
                expected += 1;
            }
            assert_eq!(sink.received().len(), expected, "{status}, Retry-After {retry_after:?}");
        }
    }
    collector.finish();
}

#[test]
fn a_destination_that_is_no_grpc_server_is_told_by_its_http_status() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let mut expected = 0;
    for (status, retried) in
        [(429, true), (502, true), (503, true), (504, true), (400, false), (401, false), (404, false), (500, false)]
    {
        sink.answer_next([Reply::http(status, "as told")]);
        let answer = collector.send(&request(spans(1)));
        assert_eq!(answer.code == Code::Ok, retried, "{status}: {}", answer.message);
        expected += if retried { 2 } else { 1 };
        assert_eq!(sink.received().len(), expected, "{status}");
    }
    collector.finish();
}

/// How long it takes to deliver when the first answer asks for a pause.
fn pause(setup: Setup, sink: &Sink, reply: Reply) -> Duration {
    let collector = setup.start();
    sink.answer_next([reply]);
    let began = Instant::now();
    collector.send(&request(spans(1))).expect_ok();
    let took = began.elapsed();
    collector.finish();
    took
}

#[test]
fn a_pause_that_the_destination_asks_for_is_kept() {
    let wait = Duration::from_secs(1);
    let sink = Sink::start();
    let reply = Reply::Grpc { code: 14, message: "later", retry: Some(wait) };
    assert!(pause(Setup::line(&sink), &sink, reply) >= wait);
    let sink = Sink::start();
    let reply = Reply::Http { status: 503, message: "later", retry_after: Some("1") };
    assert!(pause(Setup::new().exporter("otlphttp", to_http(&sink)), &sink, reply) >= wait);
}

fn partial_success(setup: Setup, sink: &Sink) {
    let mut collector = setup.start();
    sink.answer_next([Reply::Partial { rejected: 2, message: "two were too old" }]);
    let partial = collector.send(&request(spans(5))).expect_ok().partial_success.clone().unwrap();
    assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (2, "two were too old"));
    let line = collector.wait_for_log("two were too old");
    assert!(line.contains("\twarn\t") && line.contains("\"dropped_spans\": 2"), "{line}");
    sink.answer_next([Reply::Partial { rejected: 0, message: "a mere warning" }]);
    let partial = collector.send(&request(spans(1))).expect_ok().partial_success.clone().unwrap();
    assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (0, "a mere warning"));
    collector.wait_for_log("a mere warning");
    // A destination cannot reject more than it got.
    sink.answer_next([Reply::Partial { rejected: i64::MAX, message: "nonsense" }]);
    collector.send(&request(spans(1))).expect_ok();
    sink.answer_next([Reply::Partial { rejected: -5, message: "nonsense" }]);
    collector.send(&request(spans(1))).expect_ok();
    assert_eq!(sink.wait(4).len(), 4, "a partial success is not retried");
    assert_eq!(collector.metrics().sum("vespid_exporter_rejected_spans", &[]), 3);
    assert_eq!(collector.metrics().sum("otelcol_exporter_sent_spans", &[]), 5);
    collector.finish();
}

#[test]
fn a_partial_success_over_grpc_is_logged_and_counted_and_not_retried() {
    let sink = Sink::start();
    partial_success(Setup::line(&sink), &sink);
}

#[test]
fn a_partial_success_over_http_is_logged_and_counted_and_not_retried() {
    let sink = Sink::start();
    partial_success(Setup::new().exporter("otlphttp", to_http(&sink)), &sink);
}

fn huge_answer(setup: Setup, sink: &Sink) {
    let collector = setup.start();
    sink.answer_next([Reply::Huge(64 << 20)]);
    let (_, before) = collector.memory();
    collector.send(&request(spans(1))).expect(Code::Internal, "answered more than 4194304 bytes");
    let (_, after) = collector.memory();
    assert!(after < before + (40 << 20), "from {before} to {after} bytes");
    collector.send(&request(spans(1))).expect_ok();
    sink.wait(2);
    collector.finish();
}

#[test]
fn a_huge_answer_over_grpc_is_not_read_to_its_end() {
    let sink = Sink::start();
    huge_answer(Setup::line(&sink), &sink);
}

#[test]
fn a_huge_answer_over_http_is_not_read_to_its_end() {
    let sink = Sink::start();
    huge_answer(Setup::new().exporter("otlphttp", to_http(&sink)), &sink);
}

#[test]
fn what_a_destination_says_at_length_is_passed_on_in_short() {
    let long = format!("it begins so {}", "é".repeat(1 << 20));
    let sink = Sink::start();
    let collector = Setup::new().exporter("otlphttp", to_http(&sink)).start();
    sink.answer_next([Reply::Status { grpc: 3, http: 400, message: long.clone(), retry: None }]);
    // Whole, it would be 6 MiB of headers.
    let answer = collector.send(&request(spans(1)));
    answer.expect(Code::InvalidArgument, "it begins so");
    assert!(answer.message.len() < 2000 && answer.message.ends_with("é…"), "{} bytes", answer.message.len());
    sink.answer_next([Reply::Partial { rejected: 0, message: long.leak() }]);
    let partial = collector.send(&request(spans(1))).expect_ok().partial_success.clone().unwrap();
    assert!(partial.error_message.starts_with("it begins so") && partial.error_message.len() < 2000);
    assert!(collector.log().lines().all(|line| line.len() < 4000));
    collector.finish();
}

#[test]
fn a_status_that_cannot_be_read_is_a_status_all_the_same() {
    let sink = Sink::start();
    let collector = without_retry(&sink);
    let answered = |headers, code, message| {
        sink.answer_next([Reply::Headers(headers)]);
        collector.send(&request(spans(1))).expect(code, message);
    };
    answered(&[("grpc-status", "14"), ("grpc-status-details-bin", "***")], Code::Unavailable, "");
    answered(&[("grpc-status", "14"), ("grpc-status-details-bin", "AAAA////")], Code::Unavailable, "");
    answered(&[("grpc-status", "14"), ("grpc-message", "no %FF text")], Code::Unavailable, "no \u{fffd} text");
    answered(&[("grpc-status", "3"), ("grpc-message", "100%")], Code::InvalidArgument, "100%");
    answered(&[("grpc-status", "nonsense")], Code::Unknown, "");
    collector.finish();
}
