//! Ten times what the destination takes: memory stays bounded, nothing that was
//! acknowledged is lost, and the rest is refused and counted.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::client::conn::http2::SendRequest;
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::config::with;
use crate::support::proto::{framed, gzip};
use crate::support::send::{Body, export_call, http1, http2, post_call, whole};
use crate::support::spans::{spans, text};
use crate::support::{Collector, PATIENCE, Reply, Setup, Sink, request, runtime, to, wait_for, wait_within};

/// The destination takes ten requests in this time.
const PACE: Duration = Duration::from_millis(100);
const CONNECTIONS: usize = 8;
/// So many calls are under way on each of them.
const CALLS: usize = 64;
const SPANS: usize = 250;

#[derive(Default)]
struct Load {
    next: AtomicU64,
    is_over: AtomicBool,
    offered: AtomicU64,
    refused: AtomicU64,
    acknowledged: Mutex<HashSet<u64>>,
}

impl Load {
    /// About 100 KB in spans of one trace, which is the request's number.
    fn body(&self) -> (u64, Vec<u8>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut spans = spans(SPANS);
        for span in &mut spans {
            span.trace_id = [0x6f76_6572_6c6f_6164_u64.to_be_bytes(), number.to_be_bytes()].concat();
            span.attributes = vec![text("filler", &"x".repeat(350))];
        }
        (number, framed(&request(spans).encode_to_vec()))
    }

    /// Sends again and again what is refused.
    async fn run(self: Arc<Self>, mut sender: SendRequest<Body>) {
        while !self.is_over.load(Ordering::Relaxed) {
            let (number, body) = self.body();
            while !self.is_over.load(Ordering::Relaxed) {
                self.offered.fetch_add(1, Ordering::Relaxed);
                sender.ready().await.expect("the connection stays");
                let response = sender.send_request(export_call(whole(body.clone()))).await.expect("there is an answer");
                let (parts, body) = response.into_parts();
                let body = body.collect().await.expect("the answer is whole");
                let status = tonic::Status::from_header_map(&parts.headers);
                let status = status.or_else(|| tonic::Status::from_header_map(body.trailers()?)).expect("a status");
                if status.code() == tonic::Code::Ok {
                    self.acknowledged.lock().unwrap().insert(number);
                    break;
                }
                assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
                self.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(80)).await;
            }
        }
    }

    fn start(self: &Arc<Self>, collector: &Collector) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let _inside = runtime().enter();
        for _ in 0..CONNECTIONS {
            let (sender, _connection) = runtime().block_on(http2(collector.grpc()));
            for _ in 0..CALLS {
                tasks.spawn(Arc::clone(self).run(sender.clone()));
            }
        }
        tasks
    }
}

/// Loads a collector for some seconds, and watches it; its memory must stay below this.
fn overload(setup: Setup, sink: &Sink, limit: u64) {
    let seconds = std::env::var("VESPID_OVERLOAD_SECONDS").map_or(3, |text| text.parse().unwrap());
    let lasts = Duration::from_secs(seconds);
    sink.answer(Reply::Delayed(PACE));
    let collector = setup.start();
    let (load, began) = (Arc::new(Load::default()), Instant::now());
    let mut tasks = load.start(&collector);
    wait_within(lasts + PATIENCE, "the end of the load", || {
        let (resident, _) = collector.memory();
        assert!(resident < limit, "it has {resident} bytes of memory after {:?}", began.elapsed());
        assert_eq!(collector.health().status, 200);
        collector.metrics();
        (began.elapsed() > lasts).then_some(())
    });
    load.is_over.store(true, Ordering::Relaxed);
    wait_for("the end of all senders", || {
        while let Some(ended) = tasks.try_join_next() {
            ended.expect("a sender does not panic");
        }
        tasks.is_empty().then_some(())
    });
    let account = wait_for("the end of all spans", || Some(collector.account()).filter(|it| it.sum("in_flight") == 0));
    let (metrics, peak) = (collector.metrics(), collector.memory().1);
    assert!(peak < limit, "it had {peak} bytes of memory");
    collector.stop();
    let mut came: HashMap<u64, usize> = HashMap::new();
    for span in sink
        .received()
        .iter()
        .flat_map(|it| crate::support::spans::all(&it.request()).into_iter().cloned().collect::<Vec<_>>())
    {
        *came.entry(u64::from_be_bytes(span.trace_id[8..].try_into().unwrap())).or_default() += 1;
    }
    let acknowledged = load.acknowledged.lock().unwrap();
    let (offered, refused) = (load.offered.load(Ordering::Relaxed), load.refused.load(Ordering::Relaxed));
    println!(
        "overload: {offered} requests offered, {} acknowledged, {refused} refused, at most {} MiB",
        acknowledged.len(),
        peak >> 20
    );
    for number in acknowledged.iter() {
        assert_eq!(came.get(number), Some(&SPANS), "request {number} was acknowledged");
    }
    assert!(offered >= 10 * acknowledged.len() as u64, "{offered} offered, {} acknowledged", acknowledged.len());
    assert_eq!(account.sum("sent"), (acknowledged.len() * SPANS) as u64);
    // Most before they are read, and some by the pipeline when they were.
    let counted = ["failure", "refused"].map(|how| metrics.sum("otelcol_receiver_requests", &[("outcome", how)]));
    assert_eq!(counted.iter().sum::<u64>(), refused, "what was refused is counted");
}

/// To this sink through a queue of these settings, with a limit of 64 MiB.
fn limited(sink: &Sink, queue: Value) -> Setup {
    let limiter = json!({"check_interval": "100ms", "limit_mib": 64});
    let exporter = with(to(sink), [("sending_queue", queue)]);
    Setup::new().processor("memory_limiter", limiter).exporter("otlp", exporter)
}

#[test]
fn ten_times_too_much_stays_under_a_memory_limiters_limit() {
    let sink = Sink::start();
    overload(limited(&sink, json!({})), &sink, 64 << 20);
}

#[test]
fn ten_times_too_much_stays_under_what_the_process_may_use() {
    let sink = Sink::start();
    let setup = Setup::new().exporter("otlp", to(&sink)).variable("GOMEMLIMIT", "128MiB");
    overload(setup, &sink, 128 << 20);
}

/// Sends one request over many connections of HTTP/1.1, again and again; whoever is
/// refused reads why, and memory stays below 64 MiB.
fn overload_http1(setup: Setup, sink: &Sink, call: fn(Body) -> http::Request<Body>, body: &[u8]) {
    sink.answer(Reply::Delayed(PACE));
    let collector = setup.start();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    let _inside = runtime().enter();
    for _ in 0..100 {
        let (mut sender, is_over) = (runtime().block_on(http1(collector.http())), Arc::clone(&is_over));
        let body = bytes::Bytes::copy_from_slice(body);
        tasks.spawn(async move {
            let mut refused = 0;
            while !is_over.load(Ordering::Relaxed) {
                sender.ready().await.expect("the connection stays");
                let response = sender.send_request(call(whole(body.clone()))).await.expect("there is an answer");
                let (parts, body) = response.into_parts();
                body.collect().await.expect("the answer is whole");
                if parts.status == 503 {
                    assert!(parts.headers.contains_key("retry-after"));
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                } else {
                    assert_eq!(parts.status, 200);
                }
            }
            refused
        });
    }
    let began = Instant::now();
    wait_within(PATIENCE, "the end of the load", || {
        assert_eq!(collector.health().status, 200);
        (began.elapsed() > Duration::from_secs(3)).then_some(())
    });
    is_over.store(true, Ordering::Relaxed);
    let refused: u64 = runtime().block_on(tasks.join_all()).iter().sum();
    assert!(refused > 0, "there was room for everything");
    let peak = collector.memory().1;
    println!("overload over HTTP/1.1: {refused} refused, at most {} MiB", peak >> 20);
    assert!(peak < 64 << 20, "it had {peak} bytes of memory");
    collector.stop();
}

#[test]
fn too_much_over_many_connections_of_http1_stays_under_the_limit_and_each_sender_reads_its_answer() {
    let sink = Sink::start();
    overload_http1(limited(&sink, json!({})), &sink, post_call, &medium());
}

#[test]
fn bodies_that_grow_to_a_hundred_times_their_size_stay_under_the_limit() {
    let packed = |body| {
        let mut call = post_call(body);
        call.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        call
    };
    let sink = Sink::start();
    let mut spans = spans(2500);
    spans.iter_mut().for_each(|span| span.attributes = vec![text("filler", &"x".repeat(4000))]);
    let body = gzip(&request(spans).encode_to_vec());
    assert!(body.len() < 200 << 10, "{} bytes", body.len());
    overload_http1(limited(&sink, json!({})), &sink, packed, &body);
}

/// More than memory would hold, where nothing else bounded the queue.
fn large(queue: Value) -> Value {
    with(queue, [("queue_size", json!(100_000))])
}

fn medium() -> Vec<u8> {
    let mut spans = spans(SPANS);
    spans.iter_mut().for_each(|span| span.attributes = vec![text("filler", &"x".repeat(600))]);
    request(spans).encode_to_vec()
}

#[test]
fn too_much_for_a_queue_that_answers_early_stays_under_the_limit() {
    let sink = Sink::start();
    let queue = large(json!({"wait_for_result": false}));
    overload_http1(limited(&sink, queue), &sink, post_call, &medium());
}

#[test]
fn too_much_for_a_queue_on_the_disk_stays_under_the_limit() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    let setup = limited(&sink, large(json!({"storage": "file_storage"})))
        .set("extensions.file_storage", json!({"directory": folder.path(), "max_size_mib": 8}))
        .set("service.extensions", json!(["health_check", "file_storage"]));
    overload_http1(setup, &sink, post_call, &medium());
}
