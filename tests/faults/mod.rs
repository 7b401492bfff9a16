//! The fault harness: the real binary between senders that know each of their spans
//! and destinations that fail, is killed, restarted and reloaded, and its files are
//! damaged, at moments that a seed decides upon. Afterwards every span that a sender
//! got an OK for has arrived, none twice without a reason, the account balances and
//! memory stayed bounded.
//!
//! `two_hundred_seeded_runs` is the whole of it. `VESPID_FAULT_RUNS` makes it longer
//! or shorter, `VESPID_FAULT_SEED` repeats the same runs, and `VESPID_FAULT_BINARY`
//! does the same to another collector, of which it then tells what it lost.

mod damage;
mod loader;
mod overload;
mod plan;
mod subject;
mod target;

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use regex::Regex;
use tempfile::TempDir;

use crate::support::collector::Ended;
use crate::support::disk::SmallDisk;
use crate::support::{scratch, wait_within};

use loader::{Ledger, Loader};
use plan::{Fault, Mode, Plan};
use subject::{Life, Subject};
use target::{Arrivals, Target};

/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(20);
/// A step comes after this time at the latest, however little was acknowledged.
const STEP: Duration = Duration::from_millis(300);
/// The most memory that the collector may ever have had.
const MEMORY: u64 = 96 << 20;
const AT_ONCE: usize = 4;

/// What a run came to.
#[derive(Debug, Default, Clone)]
struct Report {
    acknowledged: usize,
    refused: usize,
    restarts: usize,
    /// Acknowledged spans that some destination does not have, and why that may be.
    lost: usize,
    twice: usize,
    damaged: usize,
    memory: u64,
}

/// Where a queue is kept.
enum Storage {
    Folder(TempDir),
    Small(SmallDisk),
}

impl Storage {
    fn path(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder.path(),
            Self::Small(disk) => disk.path(),
        }
    }
}

struct Run<'a> {
    plan: &'a Plan,
    subject: &'a Subject,
    deadline: Instant,
    storage: Storage,
    /// Where no small disk can be had, files must not grow beyond this.
    file_limit: Option<u64>,
    targets: Vec<Target>,
    loader: Loader,
    life: Option<Life>,
    reloads: usize,
    is_full: bool,
    /// Spans that a SIGKILL may have taken from memory with it.
    killed: HashSet<u64>,
    /// Of each destination's queue, spans whose records were damaged.
    damaged: Vec<HashSet<u64>>,
    /// Some of that damage cannot be told.
    is_invisible: bool,
    /// Spans that collectors which shut down told to be rejected.
    given_up: u64,
    log: String,
    report: Report,
}

impl<'a> Run<'a> {
    fn begin(plan: &'a Plan, subject: &'a Subject) -> Self {
        let small = if plan.small_disk { SmallDisk::new() } else { None };
        let file_limit = (plan.small_disk && small.is_none()).then_some(96 << 10);
        let storage = small.map_or_else(|| Storage::Folder(TempDir::new().unwrap()), Storage::Small);
        let targets: Vec<_> = (0..plan.destinations).map(|_| Target::start(plan.outgoing, plan.seed)).collect();
        let mut run = Self {
            plan,
            subject,
            deadline: Instant::now() + LIMIT,
            storage,
            file_limit,
            targets,
            loader: Loader::start(plan),
            life: None,
            reloads: 0,
            is_full: false,
            killed: HashSet::new(),
            damaged: vec![HashSet::new(); plan.destinations],
            is_invisible: false,
            given_up: 0,
            log: String::new(),
            report: Report::default(),
        };
        run.start();
        run
    }

    fn start(&mut self) {
        let life = self.subject.start(self.plan, &self.addresses(), self.storage.path(), self.file_limit);
        self.loader.send_to(Some(life.address(self.plan.incoming)));
        self.life = Some(life);
    }

    fn addresses(&self) -> Vec<String> {
        self.targets.iter().map(|target| target.address.to_string()).collect()
    }

    fn all(&mut self) -> Report {
        let plan = self.plan;
        for step in &plan.steps {
            let (began, before) = (Instant::now(), self.loader.acknowledged());
            self.wait("the next step", |run| {
                let is_time = began.elapsed() > STEP || run.loader.is_done();
                is_time || run.loader.acknowledged() >= before + step.after
            });
            self.apply(&step.fault);
        }
        self.free_disk();
        self.targets.iter_mut().for_each(Target::up);
        self.wait("the end of all senders", |run| run.loader.is_done());
        self.drain();
        let is_alone = self.report.restarts == 0;
        if let (true, Some(Life::Vespid(collector))) = (is_alone, &self.life) {
            let sent = collector.account().sum("sent") as usize;
            let arrivals: Vec<_> = self.targets.iter().map(Target::arrivals).collect();
            if arrivals.iter().all(|it| it.forgiven.is_empty()) {
                let came: usize = arrivals.iter().flat_map(|it| it.spans.values()).sum();
                assert_eq!(sent, came, "what was sent by the account, and what came");
            }
        }
        self.end(libc::SIGTERM);
        self.check();
        self.report.clone()
    }

    /// The logs of all its lives.
    fn log(&self) -> String {
        let last = match &self.life {
            Some(Life::Vespid(collector)) => collector.log(),
            Some(Life::Other { process, .. }) => process.log(),
            None => String::new(),
        };
        format!("{}{last}", self.log)
    }

    #[track_caller]
    fn wait(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        wait_within(left, what, || is_so(self).then_some(()));
    }

    fn apply(&mut self, fault: &Fault) {
        match fault {
            Fault::Kill(damages) => {
                self.end(libc::SIGKILL);
                for (number, exporter) in self.plan.exporters("otlp", "otlphttp").iter().enumerate() {
                    let queue = self.storage.path().join(format!("exporter_{}", exporter.replace('/', "~2f")));
                    for damage in damages {
                        self.is_invisible |= damage.is_invisible(&queue);
                        self.damaged[number].extend(damage.strike(&queue, self.plan.seed));
                    }
                }
                self.start();
                // A request that it had sent may have come only now.
                self.targets.iter_mut().for_each(Target::forgive);
                self.killed.extend(self.loader.ledger().acknowledged);
                self.report.restarts += 1;
            }
            Fault::Terminate => {
                self.end(libc::SIGTERM);
                if self.is_full {
                    // What was settled could not be written down.
                    self.targets.iter_mut().for_each(Target::forgive);
                }
                self.start();
                self.report.restarts += 1;
            }
            Fault::Reload => self.reload(),
            Fault::Down(which) => self.targets[*which].down(),
            Fault::Up(which) => self.targets[*which].up(),
            Fault::Answers(which, replies) => self.targets[*which].answer_next(replies.clone()),
            Fault::FillDisk => self.fill_disk(),
            Fault::FreeDisk => self.free_disk(),
        }
    }

    fn end(&mut self, signal: i32) {
        // Those who are connected go on; a new connection could be another process's.
        self.loader.send_to(None);
        let life = self.life.take().expect("it lives");
        if let Life::Vespid(collector) = &life {
            collector.account();
            self.report.memory = self.report.memory.max(collector.memory().1);
        }
        let Ended { code, how, log, .. } = life.end(signal);
        self.log.push_str(&log);
        self.log.push_str(&format!("--- {how}\n"));
        if signal == libc::SIGTERM && matches!(self.subject, Subject::Vespid) {
            assert_eq!(code, Some(0), "{how}");
            assert!(log.contains("Shutdown complete"), "there is no last word");
            self.given_up += rejected(&log);
        }
        assert!(!log.contains("panicked at host/"), "the collector itself panicked");
    }

    fn reload(&mut self) {
        let Some(Life::Vespid(collector)) = &self.life else { return };
        self.reloads += 1;
        collector.reload(self.plan.setup(&self.addresses(), self.storage.path(), self.reloads));
    }

    fn filler(&self) -> PathBuf {
        self.storage.path().join("filler")
    }

    fn fill_disk(&mut self) {
        use std::io::Write as _;
        if let Storage::Small(_) = self.storage {
            let mut file = std::fs::File::create(self.filler()).unwrap();
            for size in [4096, 1] {
                while file.write_all(&vec![1; size]).is_ok() {}
            }
            self.is_full = true;
        }
    }

    fn free_disk(&mut self) {
        if std::mem::take(&mut self.is_full) {
            std::fs::remove_file(self.filler()).unwrap();
        }
    }

    /// Waits until nothing is under way.
    fn drain(&mut self) {
        let mut last = (0, Instant::now());
        self.wait("the end of all that is queued", |run| match &run.life {
            Some(Life::Vespid(collector)) => {
                let metrics = collector.metrics();
                let of = |name: &str| metrics.sum(name, &[]);
                of("otelcol_exporter_queue_size") + of("vespid_account_in_flight_spans") == 0
            }
            // It does not say so: nothing has come for long.
            _ => {
                let came: usize = run.targets.iter().map(|target| target.arrivals().spans.len()).sum();
                if came != last.0 {
                    last = (came, Instant::now());
                }
                last.1.elapsed() > Duration::from_millis(700)
            }
        });
    }

    fn check(&mut self) {
        let ledger = self.loader.ledger();
        self.report.acknowledged = ledger.acknowledged.len();
        self.report.refused = ledger.refused.len();
        let mut given_up = 0;
        for (number, target) in self.targets.iter().enumerate() {
            let arrivals = target.arrivals();
            let missing: Vec<u64> =
                ledger.acknowledged.iter().copied().filter(|it| is_missing(*it, &arrivals)).collect();
            self.report.lost += missing.len();
            let damaged = missing.iter().filter(|it| self.damaged[number].contains(it)).count();
            self.report.damaged += damaged;
            let twice = arrivals.spans.iter().filter(|(_, count)| **count > 1).map(|(span, _)| *span);
            let twice: Vec<u64> = twice.filter(|it| !self.may_be_twice(*it, &ledger, &arrivals)).collect();
            self.report.twice += twice.len();
            if !matches!(self.subject, Subject::Vespid) {
                continue;
            }
            let is_excused = |span: &u64| self.may_be_lost(*span, number);
            let lost: Vec<_> = missing.into_iter().filter(|it| !is_excused(it)).collect();
            given_up += lost.len() as u64;
            let is_early = self.plan.mode == Mode::Early;
            assert!(is_early || lost.is_empty(), "acknowledged, and not at destination {number}: {lost:x?}");
            assert!(twice.is_empty(), "twice at destination {number}: {twice:x?}");
            let is_told = self.is_invisible || tells_damage(&self.log);
            assert!(damaged == 0 || is_told, "{damaged} spans are lost, and the log tells no damage");
        }
        // What an early OK was given for, and could not be sent at the shutdown, is told.
        assert!(given_up <= self.given_up, "{given_up} spans are lost, and {} told", self.given_up);
        assert!(self.report.memory < MEMORY, "it had {} bytes of memory", self.report.memory);
    }

    fn may_be_lost(&self, span: u64, number: usize) -> bool {
        match self.plan.mode {
            Mode::Direct | Mode::Waiting => false,
            Mode::Early => self.killed.contains(&span),
            Mode::Persistent => self.damaged[number].contains(&span),
        }
    }

    fn may_be_twice(&self, span: u64, ledger: &Ledger, arrivals: &Arrivals) -> bool {
        let restarts = self.plan.has(|fault| matches!(fault, Fault::Kill(_) | Fault::Terminate | Fault::Reload));
        // A part was delivered, and then the whole once more.
        let in_parts = self.plan.has_parts() && (restarts || ledger.repeated.contains(&span));
        // What a destination has already, only the same process remembers.
        let elsewhere = self.plan.destinations > 1 && restarts && ledger.repeated.contains(&span);
        arrivals.forgiven.contains(&span) || ledger.ambiguous.contains(&span) || in_parts || elsewhere
    }
}

fn is_missing(span: u64, arrivals: &Arrivals) -> bool {
    !arrivals.spans.contains_key(&span) && !arrivals.refused.contains(&span)
}

fn tells_damage(log: &str) -> bool {
    ["the queue is damaged", "and its file set aside", "was cut short"].iter().any(|told| log.contains(told))
}

/// What the last words tell of spans that were rejected.
fn rejected(log: &str) -> u64 {
    let line = log.lines().find(|line| line.contains("The account of all spans")).unwrap_or_default();
    let number = Regex::new("\"rejected\": ?(\\d+)").unwrap();
    number.captures(line).map_or(0, |found| found[1].parse().unwrap())
}

/// Does one run; an error tells what failed, and where its log is.
fn run(plan: &Plan, subject: &Subject) -> Result<Report, String> {
    let mut run = None;
    let done = catch_unwind(AssertUnwindSafe(|| {
        let run = run.insert(Run::begin(plan, subject));
        run.all()
    }));
    done.map_err(|failure| {
        let text = failure.downcast_ref::<String>().cloned();
        let text = text.or_else(|| failure.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_default();
        let log = run.as_ref().map(Run::log).unwrap_or_default();
        let path = scratch().join(format!("faults-{}.log", plan.seed));
        std::fs::write(&path, format!("{plan:#?}\n{text}\n{log}")).unwrap();
        format!("{text}\nplan and log: {}", path.display())
    })
}

/// What many runs came to: by mode, and the seeds that failed.
#[derive(Default)]
struct Outcome {
    reports: BTreeMap<Mode, Vec<Report>>,
    failures: Vec<(u64, String)>,
}

/// Does so many runs from this seed on, several at once.
fn runs(base: u64, count: usize, subject: &Subject) -> Outcome {
    let (next, outcome) = (AtomicUsize::new(0), Mutex::<Outcome>::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(count) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let plan = Plan::new(base.wrapping_add(number as u64));
                    if !subject.can_do(&plan) {
                        continue;
                    }
                    let done = run(&plan, subject);
                    let mut outcome = outcome.lock().unwrap();
                    match done {
                        Ok(report) => outcome.reports.entry(plan.mode).or_default().push(report),
                        Err(failure) => outcome.failures.push((plan.seed, failure)),
                    }
                }
            });
        }
    });
    outcome.into_inner().unwrap()
}

/// A line for each mode.
fn summary(reports: &BTreeMap<Mode, Vec<Report>>) -> String {
    let line = |(mode, reports): (&Mode, &Vec<Report>)| {
        let sum = |of: fn(&Report) -> usize| reports.iter().map(of).sum::<usize>();
        let losing = reports.iter().filter(|report| report.lost > report.damaged).count();
        let memory = reports.iter().map(|report| report.memory).max().unwrap_or_default() >> 20;
        format!(
            "faults: {mode:?}: {} runs, {} restarts, {} spans acknowledged, {} refused; lost {} (in {losing} runs), of \
             damaged records {}; twice without a reason {}; at most {memory} MiB\n",
            reports.len(),
            sum(|it| it.restarts),
            sum(|it| it.acknowledged),
            sum(|it| it.refused),
            sum(|it| it.lost - it.damaged),
            sum(|it| it.damaged),
            sum(|it| it.twice),
        )
    };
    reports.iter().map(line).collect()
}

fn number_in_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("`{name}` is a number")))
}

#[test]
fn two_hundred_seeded_runs_lose_nothing_that_was_acknowledged() {
    let count = number_in_environment("VESPID_FAULT_RUNS").unwrap_or(200) as usize;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let base = number_in_environment("VESPID_FAULT_SEED").unwrap_or(now.as_millis() as u64);
    println!("faults: base seed {base}");
    let (began, subject) = (Instant::now(), Subject::of_environment());
    let Outcome { reports, failures } = runs(base, count, &subject);
    println!("{}faults: {count} runs in {:?}", summary(&reports), began.elapsed());
    let told = failures.iter().map(|(seed, failure)| {
        let replay = "cargo test -p vespid --test vespid_tests -- faults::one_seed_again --nocapture";
        format!("--- seed {seed}: {failure}\nreplay: VESPID_FAULT_SEED={seed} {replay}\n")
    });
    let told: String = told.collect();
    if matches!(subject, Subject::Vespid) {
        assert!(failures.is_empty(), "{} of {count} runs failed\n{told}", failures.len());
    } else {
        println!("{told}");
    }
}

/// Runs in which something was wrong once, or the one that the environment names.
#[test]
fn one_seed_again() {
    let seeds = number_in_environment("VESPID_FAULT_SEED").map_or(SEEDS.to_vec(), |seed| vec![seed]);
    for seed in seeds {
        let plan = Plan::new(seed);
        println!("{plan:#?}");
        let report = run(&plan, &Subject::of_environment()).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        println!("{report:#?}");
    }
}

/// Queues on the disk, of those who wait, and with early OKs; then the run that showed
/// that a part refused for good took the other parts of its request with it.
const SEEDS: &[u64] = &[1, 2, 4, 1795549592717];
