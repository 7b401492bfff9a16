//! Another config in the running collector: nothing that is sent meanwhile is lost.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prost::Message as _;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::config::with;
use crate::support::proto::framed;
use crate::support::send::{
    Call, export_call, grpc_answer, http_answer, http1, http2, idle_connection, post_call, whole,
};
use crate::support::spans::{all, attribute, spans};
use crate::support::{Collector, Reply, Setup, Sink, plugin, request, runtime, script, to, wait_for};

/// What a sender has to tell.
struct Sent {
    /// The ids of spans that have their OK; there is nothing else.
    acknowledged: Vec<Vec<u8>>,
    connections: usize,
}

/// Sends one span after the other without a pause, each over the same connection for
/// as long as the collector keeps it. An answer that is no OK fails the test.
struct Sender {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    task: JoinHandle<Sent>,
}

impl Sender {
    fn start<F: Future<Output = Sent> + Send + 'static>(
        address: SocketAddr,
        send: impl FnOnce(SocketAddr, Arc<AtomicBool>, Arc<AtomicU64>) -> F,
    ) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let task = runtime().spawn(send(address, Arc::clone(&stop), Arc::clone(&count)));
        Self { stop, count, task }
    }

    /// Waits until that many more are acknowledged.
    #[track_caller]
    fn goes_on(&self, more: u64) {
        let before = self.count.load(Ordering::Relaxed);
        wait_for("the sender's next answers", || {
            assert!(!self.task.is_finished(), "the sender has failed");
            (self.count.load(Ordering::Relaxed) >= before + more).then_some(())
        });
    }

    fn finish(self, collector: &Collector) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        let sent = runtime().block_on(self.task).expect("every request was answered with OK");
        collector.offer(sent.acknowledged.len());
        sent
    }
}

async fn over_grpc(address: SocketAddr, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Sent {
    let mut sent = Sent { acknowledged: vec![], connections: 0 };
    while !stop.load(Ordering::Relaxed) {
        let (mut sender, _) = http2(address).await;
        sent.connections += 1;
        // A connection that is told to go takes no more by itself.
        while !stop.load(Ordering::Relaxed) && sender.ready().await.is_ok() {
            let request = request(spans(1));
            match sender.send_request(export_call(whole(framed(&request.encode_to_vec())))).await {
                Ok(answer) => drop(grpc_answer(answer).await.expect_ok()),
                Err(error) if error.is_canceled() => break,
                Err(error) => panic!("a call has no answer: {error:?}"),
            }
            sent.acknowledged.push(all(&request)[0].span_id.clone());
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    sent
}

async fn over_http1(address: SocketAddr, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Sent {
    let mut sent = Sent { acknowledged: vec![], connections: 0 };
    while !stop.load(Ordering::Relaxed) {
        let mut sender = http1(address).await;
        sent.connections += 1;
        while !stop.load(Ordering::Relaxed) && sender.ready().await.is_ok() {
            let request = request(spans(1));
            let answer = sender.send_request(post_call(whole(request.encode_to_vec()))).await;
            let answer = http_answer(answer.expect("a request has its answer")).await;
            answer.expect_ok();
            sent.acknowledged.push(all(&request)[0].span_id.clone());
            count.fetch_add(1, Ordering::Relaxed);
            if answer.header("connection") == Some("close") {
                break;
            }
        }
    }
    sent
}

/// The ids of all spans that came, and the values of this attribute.
fn arrived(sinks: &[&Sink], key: &str) -> (HashSet<Vec<u8>>, HashSet<String>) {
    let (mut ids, mut values) = (HashSet::new(), HashSet::new());
    for received in sinks.iter().flat_map(|sink| sink.received()) {
        for span in all(&received.request()) {
            assert!(ids.insert(span.span_id.clone()), "a span came twice");
            values.extend(attribute(span, key).map(str::to_owned));
        }
    }
    (ids, values)
}

/// To one of two destinations, by a plugin that leaves its mark.
fn marked(sink: &Sink, round: usize) -> Setup {
    let set =
        json!({"op": "set", "owner": "span", "rows": "all", "key": "round", "value": {"text": round.to_string()}});
    Setup::line(sink).processor("wasm/mark", script(json!([set])))
}

#[test]
fn twenty_reloads_between_two_destinations_fail_no_request_and_close_no_connection() {
    let sinks = [Sink::start(), Sink::start()];
    let collector = marked(&sinks[0], 0).start();
    let senders = [Sender::start(collector.grpc(), over_grpc), Sender::start(collector.http(), over_http1)];
    for round in 1..=20 {
        collector.reload(marked(&sinks[round % 2], round));
        senders.iter().for_each(|sender| sender.goes_on(3));
        assert_eq!(collector.health().status, 200, "it is ready throughout");
    }
    let mut acknowledged = HashSet::new();
    for sender in senders {
        let sent = sender.finish(&collector);
        assert_eq!(sent.connections, 1, "the receiver has not changed, and keeps its connections");
        acknowledged.extend(sent.acknowledged);
    }
    let (ids, rounds) = arrived(&[&sinks[0], &sinks[1]], "round");
    assert_eq!(ids, acknowledged);
    assert_eq!(rounds, (0..=20).map(|round| round.to_string()).collect(), "each config was in effect");
    let sent = collector.metrics().sum("otelcol_exporter_sent_spans", &[]);
    assert_eq!(sent, acknowledged.len() as u64, "the counters go on where they were");
    collector.finish();
}

#[test]
fn a_receiver_with_other_settings_takes_the_socket_over_and_its_clients_move_without_a_failure() {
    let sink = Sink::start();
    let setup = |size: u32| {
        let limits = Setup::line(&sink).set("receivers.otlp.protocols.grpc.max_recv_msg_size_mib", json!(size));
        limits.set("receivers.otlp.protocols.http.max_request_body_size", json!(size * 1_000_000))
    };
    let collector = setup(4).start();
    let (grpc, http) = (collector.grpc(), collector.http());
    let senders = [Sender::start(grpc, over_grpc), Sender::start(http, over_http1)];
    for size in 5..10 {
        collector.reload(setup(size));
        senders.iter().for_each(|sender| sender.goes_on(3));
    }
    let sent = senders.map(|sender| sender.finish(&collector));
    assert!(sent.iter().all(|sent| sent.connections > 1), "old connections were told to go");
    let acknowledged: HashSet<_> = sent.into_iter().flat_map(|sent| sent.acknowledged).collect();
    assert_eq!(arrived(&[&sink], "").0, acknowledged);
    collector.finish();
}

#[test]
fn a_request_under_way_ends_in_the_graph_it_is_in() {
    let (old, new) = (Sink::start(), Sink::start());
    old.answer(Reply::Hold);
    let collector = Setup::line(&old).start();
    let pending = collector.start_send(&request(spans(3)));
    old.wait(1);
    for _ in 0..3 {
        collector.reload(Setup::line(&new));
    }
    collector.send(&request(spans(2))).expect_ok();
    assert!(!pending.is_answered());
    old.release();
    pending.answer().expect_ok();
    assert_eq!((old.received().len(), new.received().len()), (1, 1));
    collector.finish();
}

#[test]
fn when_the_grace_period_is_over_the_old_graph_answers_and_is_gone() {
    let (down, up) = (Sink::start(), Sink::start());
    down.answer(Reply::grpc(tonic::Code::Unavailable, "still down"));
    let slow = |sink: &Sink| {
        let retry = json!({"initial_interval": "1h", "max_interval": "1h", "max_elapsed_time": "0s"});
        Setup::new().exporter("otlp", with(to(sink), [("retry_on_failure", retry)])).argument("--grace-period=300ms")
    };
    let mut collector = slow(&down).start();
    let pending = collector.start_send(&request(spans(2)));
    collector.wait_for_log("Will retry the request after interval.");
    collector.reload(slow(&up));
    pending.answer().expect(tonic::Code::Unavailable, "still down");
    collector.send(&request(spans(1))).expect_ok();
    up.wait(1);
    collector.stop();
}

#[test]
fn a_shutdown_also_waits_for_what_a_former_graph_has_under_way() {
    let (old, new) = (Sink::start(), Sink::start());
    old.answer(Reply::Hold);
    let mut collector = Setup::line(&old).start();
    let pending = collector.start_send(&request(spans(3)));
    old.wait(1);
    collector.reload(Setup::line(&new));
    collector.process.signal(libc::SIGTERM);
    collector.wait_for_log("shutting down");
    assert!(!pending.is_answered());
    old.release();
    pending.answer().expect_ok();
    let ended = collector.process.wait();
    assert!(ended.log.contains("Shutdown complete"), "{}", ended.log);
}

#[test]
fn a_receiver_that_the_config_no_longer_has_closes_its_port_and_answers_what_it_has_begun() {
    let sink = Sink::start();
    sink.answer_next([Reply::Hold]);
    let two = |both: bool| {
        let setup = Setup::new().exporter("otlp", to(&sink)).pipeline("traces", &["otlp"], &[], &["otlp"]);
        let settings = json!({"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}});
        let more = |setup: Setup| {
            setup.receiver("otlp/more", settings).pipeline("traces/more", &["otlp/more"], &[], &["otlp"])
        };
        if both { more(setup) } else { setup }
    };
    let collector = two(true).start();
    let more = collector.grpc_of("otlp/more");
    collector.offer(2);
    let pending = Call::grpc(more).start_call(framed(&request(spans(2)).encode_to_vec()));
    sink.wait(1);
    collector.reload(two(false));
    wait_for("a closed port", || TcpStream::connect(more).is_err().then_some(()));
    collector.send(&request(spans(1))).expect_ok();
    assert!(!pending.is_answered());
    sink.release();
    pending.answer().expect_ok();
    // And it comes back, with its counters.
    collector.reload(two(true));
    let accepted = collector.metrics().sum("otelcol_receiver_accepted_spans", &[("receiver", "otlp/more")]);
    assert_eq!(accepted, 2);
    collector.finish();
}

#[test]
fn a_renamed_receiver_keeps_the_port_and_a_moved_one_gets_its_new_one_first() {
    let sink = Sink::start();
    // Nobody else binds what the kernel has handed out a moment ago.
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (here, there) = (free(), free());
    let at = |id: &str, address: SocketAddr| {
        let settings = json!({"protocols": {"grpc": {"endpoint": address.to_string()}}});
        Setup::new().receiver(id, settings).exporter("otlp", to(&sink)).pipeline("traces", &[id], &[], &["otlp"])
    };
    let collector = at("otlp/a", here).start();
    let sender = Sender::start(here, over_grpc);
    collector.reload(at("otlp/b", here));
    sender.goes_on(3);
    let sent = sender.finish(&collector);
    assert_eq!(arrived(&[&sink], "").0, sent.acknowledged.into_iter().collect());
    collector.reload(at("otlp/b", there));
    collector.offer(1);
    Call::grpc(there).call(framed(&request(spans(1)).encode_to_vec())).expect_ok();
    wait_for("a closed port", || TcpStream::connect(here).is_err().then_some(()));
    collector.finish();
}

#[test]
fn a_config_that_cannot_be_taken_changes_nothing_and_is_told_with_its_place() {
    let sink = Sink::start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Setup::line(&sink).start();
    collector.send(&request(spans(2))).expect_ok();
    let before = collector.metrics();
    let success = |metrics: &crate::support::metrics::Metrics| {
        let time = "vespid_config_last_reload_success_timestamp_seconds";
        let seconds = metrics.matching(time, &[]).next().expect("it is told").value;
        (metrics.sum("vespid_config_last_reload_successful", &[]), seconds)
    };
    let (well, started) = success(&before);
    assert!(well == 1 && started > 1_700_000_000.0, "{well} {started}");
    let bad = |settings| Setup::line(&sink).processor("wasm/bad", settings).text();
    let port = Setup::line(&sink).set("receivers.otlp.protocols.http.endpoint", json!(taken.local_addr().unwrap()));
    let other_port = json!({"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}});
    let none = Setup::line(&sink).set("service.telemetry.logs.output_paths", json!(["/nowhere/at/all.log"]));
    for (text, expected) in [
        ("receivers: [".to_owned(), "collector.yaml:2:1"),
        ("".to_owned(), "collector.yaml"),
        (Setup::line(&sink).set("exporters.otlp.tiemout", json!("1s")).text(), "did you mean `timeout`"),
        (bad(json!({"module": "/nowhere/plugin.wasm"})), "`/nowhere/plugin.wasm` cannot be read"),
        (bad(script(json!([{"op": "nonsense"}]))), "the plugin refused its configuration"),
        (
            port.receiver("otlp/other", other_port).pipeline("traces", &["otlp", "otlp/other"], &[], &["otlp"]).text(),
            "cannot be listened on: Address already in use",
        ),
        (none.text(), "`/nowhere/at/all.log` cannot be opened"),
    ] {
        let failed = collector.log().matches("The config was not reloaded").count();
        std::fs::write(collector.process.config(), text).unwrap();
        collector.expect_reload("failure", || collector.process.signal(libc::SIGHUP));
        let lines =
            || collector.log().lines().filter(|it| it.contains("not reloaded")).map(str::to_owned).collect::<Vec<_>>();
        let line = wait_for("the reason", || lines().get(failed).cloned());
        assert!(line.contains(expected), "{line}\nshould say {expected}");
        assert!(expected.starts_with('`') || line.contains("collector.yaml:"), "{line}");
        collector.send(&request(spans(1))).expect_ok();
        assert_eq!(success(&collector.metrics()), (0, started));
    }
    assert_eq!(collector.reloads("failure"), 7);
    collector.reload(Setup::line(&sink));
    let (well, now) = success(&collector.metrics());
    assert!(well == 1 && now > started, "{well} {now}");
    assert_eq!(collector.metrics().sum("otelcol_receiver_accepted_spans", &[]), 9, "it counts on");
    collector.finish();
}

#[test]
fn an_exporter_of_which_the_config_says_the_same_keeps_its_connection() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    collector.send(&request(spans(1))).expect_ok();
    collector.reload(marked(&sink, 1));
    collector.send(&request(spans(1))).expect_ok();
    collector.reload(Setup::new().exporter("otlp", with(to(&sink), [("timeout", json!("3s"))])));
    collector.send(&request(spans(1))).expect_ok();
    let connections: Vec<usize> = sink.wait(3).iter().map(|received| received.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
    collector.finish();
}

#[test]
fn a_files_spans_stay_when_its_exporter_is_reloaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.json");
    let setup = |round: u64| {
        let settings = json!({"path": path, "rotation": {"max_megabytes": round}});
        Setup::new().exporter("file", settings).exporter("debug", json!({}))
    };
    let collector = setup(1).start();
    for round in 1..4 {
        collector.send(&request(spans(1))).expect_ok();
        collector.reload(setup(1 + round / 2));
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
    collector.finish();
}

#[test]
fn requests_are_answered_while_a_reload_takes_its_time_and_a_signal_to_stop_ends_both() {
    let sink = Sink::start();
    let mut collector = Setup::line(&sink).start();
    // Its configuration runs until the plugin's deadline, which is seconds away.
    let slow = plugin("hostile", json!({"mode": "configure-loop"}));
    let sender = Sender::start(collector.grpc(), over_grpc);
    collector.rewrite(Setup::line(&sink).processor("wasm/slow", slow));
    for _ in 0..3 {
        collector.process.signal(libc::SIGHUP);
    }
    // The thread that loads.
    let tasks = format!("/proc/{}/task", collector.process.id());
    wait_for("the reload's begin", || {
        let names = std::fs::read_dir(&tasks)
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.into_iter().any(|name| name.trim() == "config").then_some(())
    });
    sender.goes_on(20);
    assert_eq!(collector.reloads("failure"), 0, "it is not over yet");
    let sent = sender.finish(&collector);
    collector.process.signal(libc::SIGTERM);
    collector.wait_for_log("Shutdown complete");
    let ended = collector.process.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!ended.log.contains("not reloaded"), "it did not wait for the plugin: {}", ended.log);
    assert_eq!(arrived(&[&sink], "").0.len(), sent.acknowledged.len());
}

#[test]
fn the_log_changes_at_once_and_the_level_of_metrics_asks_for_a_restart() {
    let sink = Sink::start();
    let mut collector = Setup::line(&sink).start();
    let logs = json!({"level": "debug", "encoding": "json", "initial_fields": {"team": "blue"}});
    let changed = Setup::line(&sink).set("service.telemetry.logs", logs);
    collector.reload(changed.set("service.telemetry.metrics.level", json!("detailed")));
    let line = collector.wait_for_log("The config was reloaded.");
    let line: serde_json::Value = serde_json::from_str(&line).expect(&line);
    assert_eq!((&line["team"], &line["asked"]), (&"blue".into(), &"SIGHUP".into()));
    let warning = collector.wait_for_log("service.telemetry.metrics.level has changed");
    assert!(warning.contains("restart the collector"), "{warning}");
    collector.finish();
}

#[test]
fn a_page_moves_and_scrapers_keep_their_connections_until_they_have_an_answer() {
    let sink = Sink::start();
    let mut collector = Setup::line(&sink).start();
    let health = collector.health_address();
    let _idle = idle_connection(health);
    let zpages = json!({"endpoint": "127.0.0.1:0"});
    let more = Setup::line(&sink).set("extensions.zpages", zpages);
    collector.reload(more.set("service.extensions", json!(["health_check", "zpages"])));
    collector.wait_for_log("serving pages at /debug/servicez");
    assert_eq!(collector.health().status, 200);
    collector.reload(Setup::line(&sink).set("service.extensions", json!([])));
    wait_for("a closed port", || TcpStream::connect(health).is_err().then_some(()));
    collector.stop();
}

#[test]
fn a_config_that_stands_in_the_flags_or_the_environment_is_read_again_too() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).in_environment().argument("--set=exporters.otlp.timeout=7s").start();
    collector.expect_reload("success", || collector.process.signal(libc::SIGHUP));
    collector.send(&request(spans(1))).expect_ok();
    collector.finish();
}

#[test]
fn an_address_in_other_words_keeps_its_socket_and_one_that_overlaps_is_bound_beside_it() {
    let sink = Sink::start();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at =
        |host: &str| Setup::line(&sink).set("receivers.otlp.protocols.grpc.endpoint", json!(format!("{host}:{free}")));
    let collector = at("127.0.0.1").start();
    let address = collector.grpc();
    let sender = Sender::start(address, over_grpc);
    for host in ["localhost", "0.0.0.0", "127.0.0.1"] {
        collector.reload(at(host));
        sender.goes_on(3);
    }
    let sent = sender.finish(&collector);
    assert_eq!(arrived(&[&sink], "").0, sent.acknowledged.into_iter().collect());
    // What the sockets agreed to for a moment holds for nobody else.
    assert!(TcpListener::bind(address).is_err());
    collector.finish();
}

#[test]
fn any_number_of_sighups_at_once_is_a_few_reloads() {
    let sinks = [Sink::start(), Sink::start()];
    let collector = marked(&sinks[0], 0).start();
    let senders = [Sender::start(collector.grpc(), over_grpc), Sender::start(collector.http(), over_http1)];
    for round in 1..=100 {
        collector.rewrite(marked(&sinks[round % 2], round));
        collector.process.signal(libc::SIGHUP);
    }
    // A config that is written while it is read is half a one: that is told, and the next is read.
    collector.reload(marked(&sinks[0], 101));
    senders.iter().for_each(|sender| sender.goes_on(3));
    let acknowledged: HashSet<_> =
        senders.into_iter().flat_map(|sender| sender.finish(&collector).acknowledged).collect();
    let (ids, rounds) = arrived(&[&sinks[0], &sinks[1]], "round");
    assert_eq!(ids, acknowledged);
    assert!(rounds.contains("101"), "the last one is what runs");
    collector.finish();
}

#[test]
fn a_plugin_of_which_nothing_has_changed_goes_on_with_its_instances() {
    let (one, other) = (Sink::start(), Sink::start());
    let collector = marked(&one, 1).start();
    let started = || collector.metrics().sum("vespid_plugin_instances_started", &[]);
    collector.send(&request(spans(1))).expect_ok();
    let before = started();
    assert!(before >= 1);
    collector.reload(marked(&other, 1));
    collector.send(&request(spans(1))).expect_ok();
    assert_eq!(started(), before, "no instance was made anew");
    collector.reload(marked(&other, 2));
    assert_eq!(started(), before + 1, "another config is another instance");
    collector.send(&request(spans(1))).expect_ok();
    assert_eq!(arrived(&[&one, &other], "round").1.len(), 2);
    collector.finish();
}
