//! Compression: what is understood, what is refused, and what a bomb costs.

use std::io::Write as _;

use prost::Message as _;
use serde_json::json;
use tonic::Code;

use crate::support::config::{to_http, with};
use crate::support::proto::{frame, gzip};
use crate::support::send::Call;
use crate::support::spans::{all, attribute, names, spans};
use crate::support::{Collector, Setup, Sink, request, script, to};

const HTTP: [&str; 7] = ["gzip", "zstd", "zlib", "snappy", "deflate", "lz4", "x-snappy-framed"];
const GRPC: [&str; 3] = ["gzip", "zstd", "snappy"];

/// Packs as clients do, by other code than the collector's where there is some.
fn pack(encoding: &str, content: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    match encoding {
        "gzip" => out = gzip(content),
        "zstd" => out = zstd::encode_all(content, 3).unwrap(),
        // `deflate` means zlib's format (RFC 9110).
        "zlib" | "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(&mut out, flate2::Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap();
        }
        "snappy" => out = snap::raw::Encoder::new().compress_vec(content).unwrap(),
        "x-snappy-framed" => {
            let mut encoder = snap::write::FrameEncoder::new(&mut out);
            encoder.write_all(content).unwrap();
            encoder.flush().unwrap();
        }
        "lz4" => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut out);
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap();
        }
        other => panic!("{other}"),
    }
    out
}

/// gRPC's `snappy` is the framed one.
fn pack_grpc(encoding: &str, content: &[u8]) -> Vec<u8> {
    pack(if encoding == "snappy" { "x-snappy-framed" } else { encoding }, content)
}

fn discarding() -> Collector {
    Setup::new().exporter("debug", json!({})).start()
}

#[test]
fn every_encoding_of_the_collector_is_understood() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let message = request(spans(3)).encode_to_vec();
    let mut sent = 0;
    for encoding in HTTP {
        for name in [encoding.to_owned(), encoding.to_uppercase()] {
            collector.offer(3);
            let call = Call::http(collector.http()).header("content-encoding", &name);
            call.post(pack(encoding, &message)).expect_ok();
            sent += 1;
        }
    }
    for encoding in GRPC {
        collector.offer(3);
        let call = Call::grpc(collector.grpc()).header("grpc-encoding", encoding);
        call.call(frame(1, &pack_grpc(encoding, &message))).expect_ok();
        sent += 1;
    }
    for received in sink.wait(sent) {
        assert_eq!(received.message, message);
    }
    collector.finish();
}

#[test]
fn what_senders_mix_up_is_understood_too() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let message = request(spans(2)).encode_to_vec();
    // RFC 1951 under the name of RFC 1950, and the two snappies for each other.
    let mut bare = vec![];
    let mut encoder = flate2::write::DeflateEncoder::new(&mut bare, flate2::Compression::default());
    encoder.write_all(&message).unwrap();
    encoder.finish().unwrap();
    for (encoding, body) in [
        ("deflate", bare),
        ("snappy", pack("x-snappy-framed", &message)),
        ("x-snappy-framed", pack("snappy", &message)),
        (" gzip ", pack("gzip", &message)),
        ("Identity", message.clone()),
    ] {
        collector.offer(2);
        Call::http(collector.http()).header("content-encoding", encoding).post(body).expect_ok();
    }
    let two = [gzip(&message), gzip(&request(spans(1)).encode_to_vec())].concat();
    collector.offer(3);
    Call::grpc(collector.grpc()).header("grpc-encoding", "gzip").call(frame(1, &two)).expect_ok();
    let received = sink.wait(6);
    assert_eq!(names(&received[5].request()).len(), 3, "both members of a gzip file count");
    collector.finish();
}

/// Compressed as nobody here would do it by himself.
fn in_stored_blocks(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::none());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_nobody_changed_leaves_in_the_compressed_form_that_it_came_in() {
    let sink = Sink::start();
    let collector = Setup::new()
        .exporter("otlp", to(&sink))
        .exporter("otlphttp", to_http(&sink))
        .exporter("otlp/zstd", with(to(&sink), [("compression", json!("zstd"))]))
        .exporter("otlphttp/level", with(to_http(&sink), [("compression_params", json!({"level": 9}))]))
        .start();
    let message = request(spans(3)).encode_to_vec();
    let packed = in_stored_blocks(&message);
    Call::grpc(collector.grpc()).header("grpc-encoding", "gzip").call(frame(1, &packed)).expect_ok();
    Call::http(collector.http()).header("content-encoding", "gzip").post(packed.clone()).expect_ok();
    for received in sink.wait(8) {
        assert_eq!(received.message, message);
        let is_the_same = received.wire == packed;
        let is_gzip = received.header("grpc-encoding").or(received.header("content-encoding")) == Some("gzip");
        // The one that asked for a level got it, and is smaller.
        let asked = is_gzip && received.wire.len() < message.len();
        assert_eq!(is_the_same, is_gzip && !asked, "{:?}", received.headers);
    }
    assert_eq!(sink.received().iter().filter(|it| it.wire == packed).count(), 4);
    collector.stop();
}

#[test]
fn what_was_changed_or_packed_peculiarly_is_packed_anew() {
    let sink = Sink::start();
    let stamp = script(json!([{"op": "set", "owner": "span", "rows": [0], "key": "stamp", "value": {"text": "here"}}]));
    let plain = Setup::line(&sink).start();
    let stamped = Setup::line(&sink).processor("wasm/stamp", stamp).start();
    let message = request(spans(2)).encode_to_vec();
    let send = |collector: &Collector, packed: &[u8], count: usize| {
        collector.offer(count);
        let call = Call::grpc(collector.grpc()).header("grpc-encoding", "gzip");
        call.call(frame(1, packed)).expect_ok();
        sink.received().last().unwrap().clone()
    };
    let packed = in_stored_blocks(&message);
    let received = send(&stamped, &packed, 2);
    assert!(received.wire != packed && attribute(all(&received.request())[0], "stamp") == Some("here"));
    // Some decoders read the first member alone.
    let two = [packed.clone(), in_stored_blocks(&request(spans(1)).encode_to_vec())].concat();
    let received = send(&plain, &two, 3);
    assert!(received.wire != two && names(&received.request()).len() == 3);
    // A span that is taken out is not in what leaves.
    let mut bad = spans(2);
    bad[0].trace_id.clear();
    let packed = in_stored_blocks(&request(bad).encode_to_vec());
    let received = send(&plain, &packed, 2);
    assert!(received.wire != packed && names(&received.request()) == ["span 1"]);
    // JSON leaves as protobuf.
    let json = in_stored_blocks(br#"{"resourceSpans":[]}"#);
    let call = Call::http(plain.http()).header("content-type", "application/json");
    assert_eq!(call.header("content-encoding", "gzip").post(json).status, 200);
    plain.finish();
    stamped.finish();
}

#[test]
fn encodings_can_be_narrowed() {
    let key = "receivers.otlp.protocols.http.compression_algorithms";
    let collector = Setup::new().exporter("debug", json!({})).set(key, json!(["", "zstd"])).start();
    let message = request(spans(1)).encode_to_vec();
    let post =
        |encoding: &str, body: Vec<u8>| Call::http(collector.http()).header("content-encoding", encoding).post(body);
    collector.offer(2);
    post("zstd", pack("zstd", &message)).expect_ok();
    post("", message.clone()).expect_ok();
    post("gzip", gzip(&message)).expect(400, "unsupported Content-Encoding: gzip");
    collector.finish();
}

#[test]
fn a_torn_body_is_refused_in_every_encoding() {
    let collector = discarding();
    let message = request(spans(50)).encode_to_vec();
    for encoding in HTTP {
        let whole = pack(encoding, &message);
        for cut in [1, 5, whole.len() / 2] {
            let call = Call::http(collector.http()).header("content-encoding", encoding);
            call.post(whole[..whole.len() - cut].to_vec()).expect(400, &format!("is not {encoding}"));
        }
    }
    for encoding in GRPC {
        let whole = pack_grpc(encoding, &message);
        let call = Call::grpc(collector.grpc()).header("grpc-encoding", encoding);
        let answer = call.call(frame(1, &whole[..whole.len() - 3]));
        answer.expect(Code::InvalidArgument, "is not ");
    }
    collector.finish();
}

#[test]
fn a_bomb_in_any_encoding_is_refused_within_bounded_memory() {
    let collector = discarding();
    let zeros = vec![0; 256 << 20];
    let (_, before) = collector.memory();
    for encoding in HTTP {
        let bomb = pack(encoding, &zeros);
        assert!(bomb.len() < 16 << 20, "{encoding}: {}", bomb.len());
        let call = Call::http(collector.http()).header("content-encoding", encoding);
        call.post(bomb).expect(413, "larger than 67108864 bytes");
    }
    for encoding in GRPC {
        let bomb = pack_grpc(encoding, &zeros);
        let call = Call::grpc(collector.grpc()).header("grpc-encoding", encoding);
        call.call(frame(1, &bomb)).expect(Code::ResourceExhausted, "larger than 67108864 bytes");
    }
    let (_, after) = collector.memory();
    // One request at a time holds its limit and what came; freed buffers of this size
    // go back to the system a moment later. All bombs together hold 2.5 GiB.
    assert!(after < before + (256 << 20), "from {before} to {after} bytes");
    collector.finish();
}

#[test]
fn a_length_that_a_body_claims_takes_no_memory() {
    let collector = discarding();
    let (_, before) = collector.memory();
    // Snappy begins with the length that is to come out: here 60 MiB of nothing.
    let mut claim = vec![0x80, 0x80, 0x80, 0x1e];
    claim.extend([0; 8]);
    let mut lying = gzip(b"nothing");
    let end = lying.len();
    lying[end - 4..].copy_from_slice(&(60_u32 << 20).to_le_bytes());
    for _ in 0..20 {
        let post = |encoding, body: &[u8]| {
            Call::http(collector.http()).header("content-encoding", encoding).post(body.to_vec()).expect(400, "")
        };
        post("snappy", &claim);
        post("gzip", &lying);
    }
    let (_, after) = collector.memory();
    assert!(after < before + (100 << 20), "from {before} to {after} bytes");
    collector.finish();
}
