use super::*;

fn ids(trace: u8, span: u8) -> SpanIds {
    SpanIds { trace: [trace; 16], span: [span; 8] }
}

fn traces(of: &[u8]) -> Traces {
    let marks: Vec<u64> = of.iter().map(|&trace| Traces::mark([trace; 16])).collect();
    Traces::of(&marks)
}

/// Spans that a receiver took, in this ledger.
fn received(ledger: &Arc<Ledger>, spans: usize, of: &[u8]) -> Held {
    let mut held = Held::of(spans, traces(of));
    held.received(&Clerk::receiver(ledger, "otlp"), &[]);
    held
}

fn count(ledger: &Ledger, state: State, component: &str, reason: &str) -> u64 {
    let account = ledger.read();
    assert!(account.balances(), "{account:?}");
    let fits = |line: &&Line| line.state == state && &*line.component == component && &*line.reason == reason;
    account.lines.iter().filter(fits).map(|line| line.spans).sum()
}

#[test]
fn every_span_is_one_thing_on_its_whole_way() {
    let ledger = Ledger::new();
    let (receiver, processor) = (Clerk::receiver(&ledger, "otlp"), Clerk::processor(&ledger, "wasm/tidy"));
    let exporter = Clerk::exporter(&ledger, "otlp");
    let mut held = Held::of(10, Traces::default());
    held.received(&receiver, &[ids(0, 1)]);
    assert_eq!(count(&ledger, State::Received, "receiver:otlp", ""), 11);
    assert_eq!(count(&ledger, State::Rejected, "receiver:otlp", "invalid_ids"), 1);
    assert_eq!(ledger.read().in_flight, 10);
    held.at(&processor);
    held.dropped(&processor, "noise", &[ids(1, 1), ids(1, 2)]);
    let mut copy = held.clone();
    assert_eq!((ledger.read().in_flight, count(&ledger, State::Copied, "", "")), (16, 8));
    let mut part = held.split(3, Traces::default());
    part.sent(&exporter, 2);
    part.rejected(&exporter, reason::PARTIAL_SUCCESS, 1);
    drop(part);
    copy.all_rejected(&exporter, reason::QUEUE_FULL);
    drop(copy);
    held.at(&exporter);
    drop(held);
    assert_eq!(count(&ledger, State::Dropped, "processor:wasm/tidy", "noise"), 2);
    assert_eq!(count(&ledger, State::Sent, "exporter:otlp", ""), 2);
    assert_eq!(count(&ledger, State::Rejected, "exporter:otlp", "partial_success"), 1);
    assert_eq!(count(&ledger, State::Rejected, "exporter:otlp", "queue_full"), 8);
    assert_eq!(count(&ledger, State::Rejected, "exporter:otlp", "canceled"), 5);
    assert_eq!(ledger.read().in_flight, 0);
}

#[test]
fn what_is_settled_twice_shows() {
    let ledger = Ledger::new();
    let mut held = received(&ledger, 2, &[1]);
    held.sent(&Clerk::exporter(&ledger, "otlp"), 3);
    assert!(!ledger.read().balances());
}

#[test]
fn merged_spans_are_one_token_that_knows_all_traces() {
    let ledger = Ledger::new();
    let exporter = Clerk::exporter(&ledger, "otlp");
    let parts = [received(&ledger, 2, &[1]), received(&ledger, 3, &[2, 3]), received(&ledger, 4, &[4])];
    let mut whole = Held::merge(parts);
    assert_eq!((whole.spans(), ledger.read().in_flight), (9, 9));
    whole.sent(&exporter, 9);
    assert_eq!(count(&ledger, State::Sent, "exporter:otlp", ""), 9);
    for trace in 1..=4 {
        assert_eq!(ledger.why([trace; 16]).findings.len(), 1, "trace {trace}");
    }
    assert_eq!(ledger.why([5; 16]).findings, []);
}

#[test]
fn spans_in_nobodys_account_count_nowhere() {
    let ledger = Ledger::new();
    let mut held = Held::of(5, traces(&[1]));
    let copy = held.clone();
    held.sent(&Clerk::exporter(&ledger, "otlp"), 5);
    drop(copy);
    let account = ledger.read();
    assert_eq!((account.in_flight, account.sum(State::Sent), account.sum(State::Rejected)), (0, 0, 0));
}

#[test]
fn a_flood_of_reasons_is_bounded_and_counted() {
    let ledger = Ledger::new();
    let processor = Clerk::processor(&ledger, "wasm/tidy");
    let mut held = received(&ledger, 500, &[]);
    for number in 0..300 {
        held.dropped(&processor, &format!("reason {number}"), &[ids(1, 1)]);
    }
    held.dropped(&processor, &"long".repeat(1000), &[ids(1, 1)]);
    let lines = ledger.read().lines;
    assert!(lines.len() < REASONS + 5, "{} lines", lines.len());
    assert!(lines.iter().all(|line| line.reason.len() <= REASON_LENGTH));
    assert_eq!(count(&ledger, State::Dropped, "processor:wasm/tidy", "reason 7"), 1);
    assert_eq!(count(&ledger, State::Dropped, "processor:wasm/tidy", "_other"), 201);
}

#[test]
fn a_trace_is_told_with_times_reasons_and_spans() {
    let ledger = Ledger::new();
    let (processor, exporter) = (Clerk::processor(&ledger, "wasm/tidy"), Clerk::exporter(&ledger, "otlp"));
    let mut held = received(&ledger, 5, &[1, 2]);
    held.dropped(&processor, "noise", &[ids(1, 7), ids(2, 8), ids(1, 9)]);
    held.sent(&exporter, 1);
    held.rejected(&exporter, reason::PARTIAL_SUCCESS, 1);
    let why = ledger.why([1; 16]);
    let told: Vec<_> = why.findings.iter().map(|it| (it.state, &*it.component, &*it.reason, &it.spans[..])).collect();
    let dropped = [[7; 8], [9; 8]];
    assert_eq!(
        told,
        [
            (State::Dropped, "processor:wasm/tidy", "noise", &dropped[..]),
            (State::Sent, "exporter:otlp", "", &[][..]),
            (State::Rejected, "exporter:otlp", "partial_success", &[][..]),
        ]
    );
    assert_eq!((why.left_out, why.dropped_since), (0, None));
}

#[test]
fn the_last_million_decisions_are_remembered_and_no_more() {
    let ledger = Ledger::new();
    let processor = Clerk::processor(&ledger, "wasm/tidy");
    let many = vec![ids(1, 1); 1000];
    let mut held = received(&ledger, 0, &[]);
    held.dropped(&processor, "first", &[ids(9, 9)]);
    for _ in 0..1000 {
        held.dropped(&processor, "noise", &many);
    }
    assert_eq!(ledger.why([9; 16]).findings.len(), 1, "a million others came after it");
    for _ in 0..10 {
        held.dropped(&processor, "noise", &many);
    }
    let why = ledger.why([9; 16]);
    assert_eq!(why.findings.len(), 0);
    assert!(why.dropped_since.is_some());
}

#[test]
fn the_memory_of_what_was_sent_is_bounded() {
    let ledger = Ledger::new();
    let exporter = Clerk::exporter(&ledger, "otlp");
    let all: Vec<u64> = (0..512).collect();
    assert!(!all.contains(&Traces::mark([9; 16])));
    received(&ledger, 1, &[9]).sent(&exporter, 1);
    for _ in 0..2000 {
        let mut held = Held::of(512, Traces::of(&all));
        held.received(&Clerk::receiver(&ledger, "otlp"), &[]);
        held.sent(&exporter, 512);
    }
    let why = ledger.why([9; 16]);
    assert_eq!(why.findings.len(), 0);
    assert!(why.sent_since.is_some());
    received(&ledger, 1, &[9]).sent(&exporter, 1);
    assert_eq!(ledger.why([9; 16]).findings.len(), 1);
}

#[test]
fn every_reading_balances_while_others_write() {
    let ledger = Ledger::new();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let ledger = &ledger;
            scope.spawn(move || {
                let exporter = Clerk::exporter(ledger, &format!("otlp/{number}"));
                for round in 0..2000 {
                    let mut held = received(ledger, 8, &[1]);
                    let mut copy = held.clone();
                    copy.sent(&exporter, 8 - round % 9);
                    held.split(3, Traces::default()).dropped(&exporter, "noise", &[ids(1, 1)]);
                    held.rejected(&exporter, "queue_full", 2);
                }
            });
        }
        for _ in 0..2000 {
            let account = ledger.read();
            assert!(account.balances(), "{account:?}");
        }
    });
    assert_eq!(ledger.read().in_flight, 0);
    assert_eq!(ledger.read().sum(State::Received), 4 * 2000 * 8);
}
