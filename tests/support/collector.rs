//! The real binary as a child process.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;
use tempfile::TempDir;

use super::account::{Account, check_last_words};
use super::config::{ACCOUNT, Setup};
use super::metrics::Metrics;
use super::proto::framed;
use super::send::{Call, GrpcAnswer, HttpAnswer, Pending};
use super::spans::{Request, all};
use super::{scratch, wait_for};

/// What came out of a stream so far.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<String>>);

impl Output {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let kept = output.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let mut text = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&String::from_utf8_lossy(&line));
                text.push('\n');
            }
        });
        output
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A process under test; it is killed when this is dropped.
pub struct Process {
    child: Child,
    out: Output,
    log: Output,
    /// The folder of its config.
    folder: Option<TempDir>,
    /// Where a collector tells its account, which is checked before its end.
    account: Option<SocketAddr>,
    was_checked: AtomicBool,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` after a signal.
    pub code: Option<i32>,
    /// In words.
    pub how: String,
    pub out: String,
    pub log: String,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be run");
        let (out, log) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self {
            child,
            out: Output::of(out),
            log: Output::of(log),
            folder: None,
            account: None,
            was_checked: AtomicBool::new(false),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. The account is checked before the first one.
    #[track_caller]
    pub fn signal(&self, signal: i32) {
        self.check_account();
        // SAFETY: a plain system call; the child has not been waited for, so the id is its own.
        assert_eq!(unsafe { libc::kill(self.id() as i32, signal) }, 0);
    }

    /// Whatever a test does with a collector, at the end each span is accounted for.
    #[track_caller]
    fn check_account(&self) {
        if let Some(pages) = self.account.filter(|_| !self.was_checked.swap(true, Ordering::Relaxed)) {
            Account::read(pages);
        }
    }

    pub fn log(&self) -> String {
        self.log.text()
    }

    /// The file that its config was written to.
    pub fn config(&self) -> PathBuf {
        self.folder.as_ref().expect("it has a config").path().join("collector.yaml")
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for a line of the log that holds this; answers with the line.
    #[track_caller]
    pub fn wait_for_log(&mut self, part: &str) -> String {
        wait_for(&format!("`{part}` in the log"), || {
            let ended = self.has_ended();
            let log = self.log();
            let found = log.lines().find(|line| line.contains(part)).map(str::to_owned);
            assert!(found.is_some() || !ended, "the process has ended, and its log has no `{part}`:\n{log}");
            found
        })
    }

    /// Waits for its end by itself.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let status = wait_for("the end of the process", || self.child.try_wait().unwrap());
        // The readers come to the end of both streams.
        wait_for("the end of its output", || {
            (Arc::strong_count(&self.out.0) == 1 && Arc::strong_count(&self.log.0) == 1).then_some(())
        });
        check_last_words(&self.log());
        Ended { code: status.code(), how: status.to_string(), out: self.out.text(), log: self.log() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("--- the process's log ends so:");
            tail.iter().rev().for_each(|line| eprintln!("{}", line.chars().take(2000).collect::<String>()));
        }
        let is_over = std::thread::panicking() || self.has_ended();
        let checked = std::panic::catch_unwind(AssertUnwindSafe(|| {
            if !is_over {
                self.check_account()
            }
        }));
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.folder.take());
        if let Err(failure) = checked {
            std::panic::resume_unwind(failure);
        }
    }
}

/// `vespid` with these arguments, from the root of the tree.
pub fn vespid(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vespid"));
    command.args(arguments).current_dir(super::root()).env("VESPID_CACHE_DIR", cache());
    command
}

/// Writes beyond a file's size fail, and kill nothing.
fn limit_files(command: &mut Command, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: between fork and exec there are two plain system calls.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

/// Compiled modules, for all collectors of all runs; what they are named after
/// is all that they depend on.
pub fn cache() -> PathBuf {
    let folder = scratch().join("plugin-cache");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    folder
}

/// A collector that is ready.
pub struct Collector {
    pub process: Process,
    /// The spans that the test has sent, for the account.
    offered: AtomicU64,
}

impl Collector {
    pub fn spawn(mut setup: Setup) -> Process {
        setup.finish();
        let folder = tempfile::tempdir().unwrap();
        let mut command = vespid(&[]);
        if setup.in_environment {
            command.arg("--config=env:COLLECTOR_CONFIG").env("COLLECTOR_CONFIG", setup.to_text());
        } else {
            let path = folder.path().join("collector.yaml");
            std::fs::write(&path, setup.to_text()).unwrap();
            command.arg("--config").arg(path);
        }
        command.args(&setup.arguments).envs(setup.variables.iter().cloned());
        if let Some(cache) = &setup.cache {
            command.env("VESPID_CACHE_DIR", cache);
        }
        if let Some(bytes) = setup.file_limit {
            limit_files(&mut command, bytes);
        }
        let mut process = Process::spawn(&mut command);
        process.folder = Some(folder);
        process
    }

    #[track_caller]
    pub fn start(mut setup: Setup) -> Self {
        let tells_account = !setup.without_account;
        setup.add_account();
        let mut collector = Self { process: Self::spawn(setup), offered: AtomicU64::new(0) };
        collector.process.wait_for_log("Everything is ready");
        if tells_account {
            collector.process.account = Some(collector.address("serving pages", ACCOUNT));
        }
        collector
    }

    /// Where its account is told.
    pub fn pages_address(&self) -> SocketAddr {
        self.process.account.expect("the harness has added the pages")
    }

    /// The account at this moment, which balances.
    #[track_caller]
    pub fn account(&self) -> Account {
        Account::read(self.pages_address())
    }

    /// The address that a line of the log tells.
    #[track_caller]
    fn address(&self, what: &str, of: &str) -> SocketAddr {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(what) && line.contains(of));
        let line = line.unwrap_or_else(|| panic!("the log has no `{what}` of `{of}`:\n{log}"));
        let at = line.find("127.0.0.1:").expect("it listens on the loopback");
        let text: String = line[at..].chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
        text.parse().unwrap()
    }

    pub fn grpc(&self) -> SocketAddr {
        self.grpc_of("otlp")
    }

    pub fn http(&self) -> SocketAddr {
        self.address("receiving OTLP over HTTP", "otlp")
    }

    pub fn grpc_of(&self, receiver: &str) -> SocketAddr {
        self.address("receiving OTLP over gRPC", &format!("\"otelcol.component.id\": \"{receiver}\""))
    }

    pub fn health(&self) -> HttpAnswer {
        Call::get(self.health_address(), "/")
    }

    pub fn health_address(&self) -> SocketAddr {
        self.address("answering health checks", "")
    }

    pub fn metrics_address(&self) -> SocketAddr {
        self.address("serving metrics", "")
    }

    pub fn metrics(&self) -> Metrics {
        let answer = Call::get(self.metrics_address(), "/metrics");
        assert_eq!(answer.status, 200);
        Metrics::parse(answer.text())
    }

    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: u64) {
        wait_for(&format!("{name}{labels:?} = {value}"), || (self.metrics().sum(name, labels) == value).then_some(()));
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Writes another config, of which the process is not told.
    pub fn rewrite(&self, setup: Setup) {
        std::fs::write(self.process.config(), setup.text()).unwrap();
    }

    /// How many reloads ended in `success` or in `failure`.
    pub fn reloads(&self, outcome: &str) -> u64 {
        self.metrics().sum("vespid_config_reloads", &[("outcome", outcome)])
    }

    /// Does something after which one more reload ends so, and waits for that.
    #[track_caller]
    pub fn expect_reload(&self, outcome: &str, act: impl FnOnce()) {
        let before = self.reloads(outcome);
        act();
        wait_for(&format!("a reload with {outcome}"), || (self.reloads(outcome) > before).then_some(()));
    }

    /// Reloads with SIGHUP.
    #[track_caller]
    pub fn reload(&self, setup: Setup) {
        self.expect_reload("success", || {
            self.rewrite(setup);
            self.process.signal(libc::SIGHUP);
        });
    }

    #[track_caller]
    pub fn wait_for_log(&mut self, part: &str) -> String {
        self.process.wait_for_log(part)
    }

    /// Counts spans that the test sends by itself.
    pub fn offer(&self, spans: usize) {
        self.offered.fetch_add(spans as u64, Ordering::Relaxed);
    }

    /// Sends over gRPC, and waits for the answer.
    #[track_caller]
    pub fn send(&self, request: &Request) -> GrpcAnswer {
        self.start_send(request).answer()
    }

    pub fn start_send(&self, request: &Request) -> Pending<GrpcAnswer> {
        self.offer(all(request).len());
        Call::grpc(self.grpc()).start_call(framed(&request.encode_to_vec()))
    }

    /// Sends over HTTP, and waits for the answer.
    #[track_caller]
    pub fn post(&self, request: &Request) -> HttpAnswer {
        self.start_post(request).answer()
    }

    pub fn start_post(&self, request: &Request) -> Pending<HttpAnswer> {
        self.offer(all(request).len());
        Call::http(self.http()).start_post(request.encode_to_vec())
    }

    /// Bytes of memory that the process has, and the most that it ever had.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Every span that was sent is counted as one thing exactly, and nothing is under way.
    #[track_caller]
    fn check_account(&self) {
        let offered = self.offered.load(Ordering::Relaxed);
        let settled = || {
            let metrics = self.metrics();
            let of = |name: &str| metrics.sum(name, &[]);
            let answered = of("otelcol_receiver_accepted_spans") + of("otelcol_receiver_refused_spans");
            let waiting = of("vespid_receiver_in_flight_spans") + of("otelcol_exporter_queue_size");
            let in_flight = of("vespid_account_in_flight_spans");
            let is_settled = waiting + in_flight == 0 && answered + of("vespid_receiver_rejected_spans") == offered;
            is_settled.then_some(metrics)
        };
        let metrics = wait_for(&format!("the receiver's account of {offered} spans"), settled);
        self.check_against(&metrics);
        let of = |name: &str| metrics.sum(name, &[]);
        let refused = of("otelcol_receiver_refused_spans");
        let left_out = of("otelcol_processor_incoming_items") - of("otelcol_processor_outgoing_items");
        let dropped = of("vespid_processor_dropped_spans");
        assert!(dropped == left_out || refused > 0, "{dropped} spans are counted as dropped, {left_out} are missing");
        // With several exporters a span is sent several times.
        if metrics.matching("otelcol_exporter_sent_spans", &[]).count() == 1 {
            let sent = of("otelcol_exporter_sent_spans") + of("vespid_exporter_rejected_spans");
            let failed = of("otelcol_exporter_send_failed_spans") + of("otelcol_exporter_enqueue_failed_spans");
            let received = of("otelcol_receiver_accepted_spans") + refused;
            assert_eq!(sent + failed + left_out, received, "sent {sent}, failed {failed}, left out {left_out}");
        }
    }

    /// The account tells what each component's own counters tell.
    #[track_caller]
    fn check_against(&self, metrics: &Metrics) {
        let Some(pages) = self.process.account else { return };
        let account = Account::read(pages);
        let counted = |names: &[&str]| names.iter().map(|name| metrics.sum(name, &[])).sum::<u64>();
        let same = |what: &str, accounted: u64, names: &[&str]| {
            assert_eq!(accounted, counted(names), "{what}, and {names:?}, of {:#}", account.0);
        };
        let came =
            ["otelcol_receiver_accepted_spans", "otelcol_receiver_refused_spans", "vespid_receiver_rejected_spans"];
        same("received", account.sum("received"), &came);
        same("sent", account.sum("sent"), &["otelcol_exporter_sent_spans"]);
        same("dropped", account.sum("dropped"), &["vespid_processor_dropped_spans"]);
        let partly = account.of("rejected", "exporter:", Some("partial_success"));
        same("rejected in part", partly, &["vespid_exporter_rejected_spans"]);
        let failed = ["otelcol_exporter_send_failed_spans", "otelcol_exporter_enqueue_failed_spans"];
        same("rejected", account.of("rejected", "exporter:", None) - partly, &failed);
        assert_eq!(account.sum("in_flight"), 0, "nothing is under way: {:#}", account.0);
        for state in ["received", "sent", "dropped", "rejected"] {
            let told = metrics.sum("vespid_account_spans", &[("state", state)]);
            assert_eq!(told, account.sum(state), "the metric of what was {state}");
        }
    }

    /// Checks the account, stops the collector with SIGTERM and expects a clean end.
    #[track_caller]
    pub fn finish(self) -> Ended {
        self.check_account();
        self.stop()
    }

    /// The end without the account, for collectors whose test counts for itself.
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.process.signal(libc::SIGTERM);
        let ended = self.process.wait();
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.how, ended.log);
        assert!(ended.log.contains("Shutdown complete"), "{}", ended.log);
        assert!(!ended.log.contains("panicked at host/"), "the collector itself panicked:\n{}", ended.log);
        ended
    }
}
