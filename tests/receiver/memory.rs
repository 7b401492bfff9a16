//! The budget of bytes: all requests together take no more than their share of
//! what the process may use.

use prost::Message as _;
use serde_json::json;
use tonic::Code;

use crate::support::proto::{frame, framed, gzip};
use crate::support::send::{Call, pieces};
use crate::support::spans::{spans, text};
use crate::support::{Reply, Setup, Sink, request, span, wait_for};

/// An eighth of it is 16 MiB.
const PROCESS: &str = "128MiB";
const SHARE: usize = 16 << 20;

fn large(bytes: usize) -> Vec<u8> {
    let mut large = span("large");
    large.attributes = vec![text("key", &"x".repeat(bytes))];
    request(vec![large]).encode_to_vec()
}

#[test]
fn requests_beyond_the_budget_are_refused_for_now_before_they_are_read() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = Setup::line(&sink).variable("GOMEMLIMIT", PROCESS).start();
    // Two hold twelve of sixteen MiB while the destination takes its time.
    collector.offer(2);
    let held: Vec<_> = (0..2).map(|_| Call::grpc(collector.grpc()).start_call(framed(&large(6 << 20)))).collect();
    sink.wait(2);
    // A third is refused by what it claims; of its body nothing has come.
    let (_grpc_pieces, body) = {
        let (pieces, body) = pieces();
        pieces.send((6_u32 << 20).to_be_bytes().iter().fold(vec![0], |mut prefix, byte| {
            prefix.push(*byte);
            prefix
        }));
        (pieces, body)
    };
    let answer = Call::grpc(collector.grpc()).start_call_of(body).answer();
    answer.expect(Code::Unavailable, "as many bytes of requests as its memory allows");
    assert_eq!(answer.details.retry_info(), Some(std::time::Duration::from_secs(1)));
    let (_http_pieces, body) = pieces();
    let claim = Call::http(collector.http()).header("content-length", &(6 << 20).to_string()).start_post_of(body);
    let answer = claim.answer();
    let status = answer.expect(503, "as many bytes of requests as its memory allows");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(status.retry_info(), Some(std::time::Duration::from_secs(1)));
    // What unpacks to more than there is counts as what it unpacks to.
    let packed = gzip(&large(6 << 20));
    let call = Call::grpc(collector.grpc()).header("grpc-encoding", "gzip");
    call.call(frame(1, &packed)).expect(Code::Unavailable, "there is no memory for the decompressed body now");
    // Small ones still fit, and so does a large one when the others are gone.
    let small = collector.start_send(&request(spans(1)));
    sink.wait(3);
    sink.release();
    held.into_iter().for_each(|call| drop(call.answer().expect_ok().clone()));
    small.answer().expect_ok();
    sink.answer(Reply::Accept);
    wait_for("room again", || {
        let answer = Call::grpc(collector.grpc()).call(framed(&large(10 << 20)));
        (answer.code == Code::Ok).then(|| collector.offer(1))
    });
    collector.finish();
}

#[test]
fn senders_that_trickle_and_bombs_together_stay_within_the_budget() {
    let collector = Setup::new().exporter("debug", json!({})).variable("GOMEMLIMIT", PROCESS).start();
    let (_, before) = collector.memory();
    // A hundred bodies that stop a MiB before their end, and bombs in between.
    let bomb = gzip(&vec![0; 60 << 20]);
    let trickling: Vec<_> = (0..100)
        .map(|_| {
            let (pieces, body) = pieces();
            let call = Call::grpc(collector.grpc()).start_call_of(body);
            pieces.send([vec![0, 0, 0x20, 0, 0], vec![10; 1 << 20]].concat());
            (pieces, call)
        })
        .collect();
    for _ in 0..10 {
        let bombs: Vec<_> = (0..4)
            .map(|_| Call::http(collector.http()).header("content-encoding", "gzip").start_post(bomb.clone()))
            .collect();
        for bomb in bombs {
            let answer = bomb.answer();
            assert!(matches!(answer.status, 400 | 413 | 503), "{}", answer.status);
        }
    }
    let (_, after) = collector.memory();
    // On top come what each of the hundred connections may send before anyone looks at
    // it, the codecs' windows, and what the allocator gives back a moment later.
    assert!(after < before + 8 * SHARE as u64, "from {before} to {after} bytes");
    drop(trickling);
    collector.offer(1);
    wait_for("room again", || {
        (Call::http(collector.http()).post(request(spans(1)).encode_to_vec()).status == 200).then_some(())
    });
    collector.finish();
}
