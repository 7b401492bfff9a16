//! What the same plugin costs in each language: the examples' `tidy` on batches
//! of 512 spans, one row for each language whose module is built.
//!
//!     .ci/languages.sh && cargo bench --bench languages
//!     cargo bench --bench languages -- go --batches 100000

#[path = "end_to_end/batches.rs"]
mod batches;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::{Builder, Runtime};
use vespid::component::Processor as _;
use vespid::plugin::{Clockwork, Limits, Module, OnError, Plugin, PluginSettings, Source};
use vespid::telemetry::Metrics;
use vespid::traces::{Batch, Message, PREFIX};

const LANGUAGES: [&str; 4] = ["rust", "python", "javascript", "go"];
const CONFIG: &str = r#"{"set": {"key": "deployment.environment.name", "value": "production"}}"#;

fn main() -> Result<()> {
    let (languages, batches) = arguments()?;
    // The executable is in `<target>/release/deps`.
    let executable = std::env::current_exe()?;
    let target = executable.ancestors().nth(3).context("the executable is in no target folder")?;
    // Compiling is a part of what is measured, so nothing is kept of earlier runs.
    let cache = tempfile::tempdir()?;
    // SAFETY: there is no other thread yet.
    unsafe { std::env::set_var("VESPID_CACHE_DIR", cache.path()) };
    let messages: Vec<Message> =
        batches::prepare()?.iter().map(|framed| Message::copy_of(framed.get(PREFIX..).unwrap_or_default())).collect();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    println!("{:<12} {:>10} {:>10} {:>34} {:>26}", "", "", "", "µs of CPU a call of 512 spans", "MiB of linear memory");
    println!(
        "{:<12} {:>10} {:>10} {:>10} {:>11} {:>11} {:>12} {:>13}",
        "language", "file, KiB", "compile, s", "median", "99 of 100", "mean", "first call", "last call"
    );
    for language in languages {
        match module(&language, target)? {
            Some(module) => measure(&language, module, &messages, &runtime, batches)?,
            None => println!("{language:<12} is not built; run `.ci/languages.sh {language}`"),
        }
    }
    Ok(())
}

/// Languages, and how many batches each is called with.
fn arguments() -> Result<(Vec<String>, usize)> {
    let (mut languages, mut batches) = (vec![], 20_000);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--batches" => batches = arguments.next().context("`--batches` needs a number")?.parse()?,
            // `cargo bench` says so to every benchmark.
            "--bench" => {}
            language => {
                ensure!(LANGUAGES.contains(&language), "`{language}` is none of {}", LANGUAGES.join(", "));
                languages.push(language.to_owned());
            }
        }
    }
    ensure!(batches > 0, "`--batches` needs at least 1");
    if languages.is_empty() {
        languages = LANGUAGES.map(str::to_owned).to_vec();
    }
    Ok((languages, batches))
}

/// The example of a language, where it is built; the Rust one is built here.
fn module(language: &str, target: &Path) -> Result<Option<PathBuf>> {
    let guests = target.join("guests");
    if language != "rust" {
        let module = guests.join("languages").join(language).join("tidy.wasm");
        return Ok(module.is_file().then_some(module));
    }
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--release", "--target", "wasm32-wasip2", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/rust-plugin/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &guests)
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "examples/rust-plugin cannot be built");
    Ok(Some(guests.join("wasm32-wasip2/release/tidy.wasm")))
}

fn measure(language: &str, module: PathBuf, messages: &[Message], runtime: &Runtime, batches: usize) -> Result<()> {
    let size = std::fs::metadata(&module)?.len() / 1024;
    let clockwork = Arc::new(Clockwork::new().map_err(|error| anyhow::anyhow!("{error:#}"))?);
    let settings = PluginSettings {
        module: Source::File(module),
        digest: None,
        config: CONFIG.into(),
        // A failure is to end the measurement.
        on_error: OnError::Refuse,
        limits: Limits { deadline: Duration::from_secs(10), memory: 64 << 20 },
        log_rate: 10,
    };
    let began = Instant::now();
    let loaded = Module::load(&clockwork, "wasm/tidy".into(), settings)?;
    let compiled = began.elapsed();
    let plugin = runtime.block_on(loaded.plugin("traces", &Metrics::default(), 1))?;
    let mut spent = Vec::with_capacity(batches);
    let mut first_memory = 0;
    for (number, message) in messages.iter().cycle().take(batches).enumerate() {
        spent.push(call(&plugin, message, runtime)?);
        if number == 0 {
            first_memory = plugin.memory();
        }
    }
    let mean = spent.iter().sum::<Duration>() / spent.len() as u32;
    spent.sort_unstable();
    let of = |part: f64| micros(spent.get((spent.len() as f64 * part) as usize).copied().unwrap_or_default());
    println!(
        "{language:<12} {size:>10} {:>10.2} {:>10.0} {:>11.0} {:>11.0} {:>12.1} {:>13.1}",
        compiled.as_secs_f64(),
        of(0.5),
        of(0.99),
        micros(mean),
        mebibytes(first_memory),
        mebibytes(plugin.memory()),
    );
    Ok(())
}

/// The thread's CPU time in one call: the plugin's reads and edits, and their
/// place in the batch; neither the receipt nor the index, which all plugins share.
fn call(plugin: &Plugin, message: &Message, runtime: &Runtime) -> Result<Duration> {
    let (mut batch, _) = Batch::receive(message.clone(), Arc::default(), true)?;
    batch.index()?;
    let before = thread_time()?;
    let processed = runtime.block_on(plugin.process(batch)).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let spent = thread_time()? - before;
    ensure!(processed.spans() > 0, "the plugin dropped all");
    Ok(spent)
}

fn thread_time() -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to a timespec that lives on this stack.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    ensure!(done == 0, "there is no clock of the thread's CPU time");
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
