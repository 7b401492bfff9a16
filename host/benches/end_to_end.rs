//! CPU time per span and peak memory of a collector, against a raw byte
//! forwarder on the same gRPC library in the same run:
//!
//! ```sh
//! cargo bench -p vespid --bench end_to_end -- --help
//! ```
//!
//! The collector is a process of its own on the first CPU; the load and the
//! sink are threads of this one on the others. Systems take turns within each
//! round, so that a noisy neighbour meets them all, and a ratio compares two
//! runs of the same round. It reports and asserts nothing: figures depend on the
//! machine. `cargo test` runs it as well; without `--bench` it ends at once.

#[path = "end_to_end/batches.rs"]
mod batches;
#[path = "end_to_end/forwarder.rs"]
mod forwarder;
#[path = "end_to_end/guest.rs"]
mod guest;
#[path = "end_to_end/loader.rs"]
mod loader;
#[path = "end_to_end/machine.rs"]
mod machine;
#[path = "end_to_end/report.rs"]
mod report;
#[path = "end_to_end/sink.rs"]
mod sink;
#[path = "end_to_end/systems.rs"]
mod systems;
#[path = "end_to_end/wire.rs"]
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::{Parser, ValueEnum as _};
use serde_json::json;

use loader::{Load, Loader};
use machine::{Cpus, Process, free_address};
use report::{Measurement, Row};
use sink::Sink;
use systems::{FORWARDER, Places, Scenario, System};

// The forwarder is this executable too, and held to the collector's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// HTTP/2 windows of everything but the collectors, in bytes: at its default of
/// 64 KiB a sender waits more than it sends.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const STARTS: usize = 11;

/// Spans a second that the sink of an overload takes.
const SLOW: f64 = 10_000.0;
/// What the late sink takes for an answer: longer than a queue on the disk waits before it writes.
const LATE: Duration = Duration::from_millis(150);
/// Spans in the queue of a restart.
const QUEUED: u64 = 1_000_000;
const FILL_DEADLINE: Duration = Duration::from_secs(60);

/// Measures collectors: CPU time per span, peak memory, time to start
#[derive(Parser)]
#[command(name = "end_to_end")]
struct Options {
    /// How often each system is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one measurement takes
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// How long the load runs before it
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Only these scenarios
    #[arg(long, value_enum, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Only these systems, by name
    #[arg(long, value_delimiter = ',')]
    systems: Vec<String>,
    /// Requests under way at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    streams: u16,
    /// The longest DATA frame the load sends, in bytes (Go's clients: 16384); without it, what the receiver allows
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    frame: Option<u32>,
    /// Spans a second that the sink takes; without it, all
    #[arg(long)]
    sink_rate: Option<f64>,
    /// Vespid's binary; without it, the one that cargo built
    #[arg(long)]
    vespid: Option<PathBuf>,
    /// Another collector that takes the OpenTelemetry Collector's configuration
    #[arg(long, value_name = "NAME=BINARY")]
    other: Vec<String>,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
    /// What test runners add
    #[arg(long, hide = true)]
    test: bool,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, listen, destination] = arguments.as_slice()
        && role == FORWARDER
    {
        return forwarder::run(listen.parse()?, destination);
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let options = Options::parse();
    if options.test {
        return Ok(());
    }
    run(&options)
}

fn run(options: &Options) -> Result<()> {
    let systems = choose_systems(options)?;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("no target folder")?;
    let guest = if systems.iter().any(System::has_plugins) {
        guest::build_guest(target, "bench-guest")?
    } else {
        PathBuf::new()
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let cpus = Cpus::divide()?;
    // After the guest's build, which may use every CPU; all threads inherit it.
    cpus.pin_load()?;
    let bench = Bench {
        options,
        batches: Arc::new(batches::prepare()?),
        sink: Sink::start(options.sink_rate, Duration::ZERO)?,
        slow: Sink::start(Some(SLOW), Duration::ZERO)?,
        late: Sink::start(None, LATE)?,
        places: Places { folder: folder.path().to_owned(), guest },
        cpus,
    };
    let bytes: usize = bench.batches.iter().map(Bytes::len).sum();
    let span_bytes = bytes as f64 / (bench.batches.len() as f64 * batches::SPANS as f64);
    println!(
        "\n{}; {} spans a batch, {span_bytes:.0} bytes a span, {} streams, {} rounds of {} s\n",
        machine::processor(),
        batches::SPANS,
        options.streams,
        options.rounds,
        options.seconds,
    );
    let rows = bench.measure_all(&systems);
    println!("{}", report::markdown(&rows));
    if let Some(file) = &options.json {
        let conditions = json!({
            "processor": machine::processor(), "spans_per_batch": batches::SPANS, "bytes_per_span": span_bytes,
            "streams": options.streams, "frame": options.frame, "rounds": options.rounds, "seconds": options.seconds,
        });
        let text = serde_json::to_string_pretty(&report::json(&rows, conditions))?;
        std::fs::write(file, text).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    Ok(())
}

fn choose_systems(options: &Options) -> Result<Vec<System>> {
    let mut systems = vec![System::forwarder()];
    let built = option_env!("CARGO_BIN_EXE_vespid").map(PathBuf::from);
    systems.extend(options.vespid.clone().or(built).map(System::vespid));
    for other in &options.other {
        let (name, binary) = other.split_once('=').context("`--other` takes NAME=BINARY")?;
        systems.push(System::collector(name.to_owned(), binary.into()));
    }
    if let Some(unknown) = options.systems.iter().find(|name| !systems.iter().any(|system| system.name == **name)) {
        bail!(
            "`{unknown}` is none of the systems: {}",
            systems.iter().map(|s| &*s.name).collect::<Vec<_>>().join(", ")
        );
    }
    if !options.systems.is_empty() {
        systems.retain(|system| options.systems.contains(&system.name));
    }
    Ok(systems)
}

struct Bench<'a> {
    options: &'a Options,
    batches: Arc<Vec<Bytes>>,
    sink: Sink,
    /// One that takes [`SLOW`] spans a second.
    slow: Sink,
    /// One that answers after [`LATE`].
    late: Sink,
    places: Places,
    cpus: Cpus,
}

impl Bench<'_> {
    fn measure_all(&self, systems: &[System]) -> Vec<Row> {
        let mut scenarios = Scenario::value_variants().to_vec();
        if !self.options.scenario.is_empty() {
            scenarios.retain(|scenario| self.options.scenario.contains(scenario));
        }
        let pairs = scenarios.into_iter().flat_map(|scenario| systems.iter().map(move |system| (scenario, system)));
        let mut runs: Vec<(&System, Row)> = pairs
            .filter(|(scenario, system)| system.runs(*scenario))
            .map(|(scenario, system)| (system, Row::new(&system.name, scenario)))
            .collect();
        // Caches are filled before anything counts: compiling a plugin takes more
        // memory than running it.
        for (system, row) in &mut runs {
            let ready = if row.scenario == Scenario::Restart {
                self.fill_queue(system)
            } else {
                self.time_start(system, row.scenario).map(drop)
            };
            row.failure = ready.err().map(|error| format!("{error:#}"));
        }
        for round in 1..=self.options.rounds {
            for (system, row) in runs.iter_mut().filter(|(_, row)| !row.scenario.is_start() && row.failure.is_none()) {
                eprintln!("round {round}: {} {}", row.scenario.name(), system.name);
                match self.measure(system, row.scenario) {
                    Ok(measurement) => row.rounds.push(measurement),
                    Err(error) => row.failure = Some(format!("{error:#}")),
                }
            }
        }
        for _ in 0..STARTS {
            for (system, row) in runs.iter_mut().filter(|(_, row)| row.scenario.is_start() && row.failure.is_none()) {
                match self.time_start(system, row.scenario) {
                    Ok((time, peak)) => {
                        row.starts.push(time.as_secs_f64() * 1e3);
                        row.peaks.push(peak as f64 / f64::from(1 << 20));
                    }
                    Err(error) => row.failure = Some(format!("{error:#}")),
                }
            }
        }
        runs.into_iter().map(|(_, row)| row).collect()
    }

    /// Starts the system, loads it, and measures once it is warm.
    fn measure(&self, system: &System, scenario: Scenario) -> Result<Measurement> {
        let listen = free_address()?;
        let mut process = self.start(system, scenario, listen)?;
        process.wait_until_accepting(listen)?;
        let sink = self.sink(scenario);
        let delivered_before = sink.counts.spans.load(Ordering::Relaxed);
        let load = Load {
            streams: scenario.streams().unwrap_or(self.options.streams.into()),
            rate: scenario.rate(),
            frame: self.options.frame.map(|frame| frame as usize),
            wire: scenario.wire(),
        };
        let bodies = Arc::new(wire::on_wire(&self.batches, scenario.wire())?);
        let bytes_before = sink.counts.bytes.load(Ordering::Relaxed);
        let loader = Loader::start(listen, load, bodies)?;
        thread::sleep(Duration::from_secs_f64(self.options.warm_up));

        let acknowledged = || loader.outcome.acknowledged.load(Ordering::Relaxed);
        let (started, cpu_before, spans_before) = (Instant::now(), process.cpu_time()?, acknowledged());
        thread::sleep(Duration::from_secs_f64(self.options.seconds));
        let (elapsed, cpu_after, spans_after) = (started.elapsed(), process.cpu_time()?, acknowledged());

        let peak = process.peak_memory().with_context(|| process.end_of_output())?;
        let outcome = loader.finish()?;
        let spans = (spans_after - spans_before) as f64;
        ensure!(spans > 0.0, "nothing was acknowledged: {}", outcome.first_failure().unwrap_or_default());
        if let Some(failure) = outcome.first_failure() {
            eprintln!("  {failure}");
        }
        let delivered = sink.counts.spans.load(Ordering::Relaxed) - delivered_before;
        let bytes = sink.counts.bytes.load(Ordering::Relaxed) - bytes_before;
        let cpu = cpu_after - cpu_before;
        Ok(Measurement {
            cpu_us_per_span: cpu.as_secs_f64() * 1e6 / spans,
            spans_per_second: spans / elapsed.as_secs_f64(),
            cpu_percent: 100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64(),
            peak_mib: peak as f64 / f64::from(1 << 20),
            bytes_per_span: bytes as f64 / delivered.max(1) as f64,
            failed: outcome.failed.load(Ordering::Relaxed),
            lost: outcome.acknowledged.load(Ordering::Relaxed).saturating_sub(delivered),
        })
    }

    /// Where a scenario's spans go.
    fn sink(&self, scenario: Scenario) -> &Sink {
        match scenario {
            Scenario::Overload => &self.slow,
            Scenario::LateEarly | Scenario::LatePersistent => &self.late,
            _ => &self.sink,
        }
    }

    /// Fills the queue on the disk of a collector whose destination is down, and kills it.
    fn fill_queue(&self, system: &System) -> Result<()> {
        let (listen, scenario) = (free_address()?, Scenario::Restart);
        let mut process = self.start(system, scenario, listen)?;
        process.wait_until_accepting(listen)?;
        let bodies = Arc::new(wire::on_wire(&self.batches, scenario.wire())?);
        let load = Load { streams: 8, rate: None, frame: None, wire: scenario.wire() };
        let loader = Loader::start(listen, load, bodies)?;
        let began = Instant::now();
        while loader.outcome.acknowledged.load(Ordering::Relaxed) < QUEUED {
            ensure!(began.elapsed() < FILL_DEADLINE, "the queue was not filled: {}", process.end_of_output());
            thread::sleep(Duration::from_millis(20));
        }
        drop(loader.finish()?);
        Ok(())
    }

    /// From the start of the process to its first answer to a request, and its peak memory then.
    fn time_start(&self, system: &System, scenario: Scenario) -> Result<(Duration, u64)> {
        let listen = free_address()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let started = Instant::now();
        let mut process = self.start(system, scenario, listen)?;
        process.wait_until_accepting(listen)?;
        runtime.block_on(loader::first_answer(listen, scenario.wire())).with_context(|| process.end_of_output())?;
        let time = started.elapsed();
        Ok((time, process.peak_memory()?))
    }

    fn start(&self, system: &System, scenario: Scenario, listen: std::net::SocketAddr) -> Result<Process> {
        let destination = if scenario == Scenario::Restart { free_address()? } else { self.sink(scenario).address };
        let mut command = system.command(scenario, listen, destination, &self.places)?;
        Process::start(&mut command, &self.cpus, &self.places.folder.join("output"))
    }
}
