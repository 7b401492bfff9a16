//! What the redaction of e-mail addresses and card numbers in every text attribute
//! costs per span: searched by the collector, with a prefilter and without, and by
//! an engine that the plugin carries.
//!
//!     cargo bench --bench patterns

#[path = "end_to_end/batches.rs"]
mod batches;
#[path = "end_to_end/guest.rs"]
mod guest;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use vespid::component::Processor as _;
use vespid::plugin::{Clockwork, Limits, Module, OnError, Plugin, PluginSettings, Source};
use vespid::telemetry::Metrics;
use vespid::traces::{Batch, Message, PREFIX};

criterion_group!(benches, redaction);
criterion_main!(benches);

const MAIL: &str = r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}";
const CARD: &str = r"4[0-9]{12}(?:[0-9]{3})?";
/// A pattern's other branch, from which together with the first nothing follows
/// that every match must hold; it matches nothing here.
const NO_PREFILTER: [&str; 2] = [r"[0-9]{40}", r"\x{10FFFF}"];
const SPANS: usize = 512;

fn redaction(criterion: &mut Criterion) {
    // The executable is in `<target>/<profile>/deps`.
    let executable = std::env::current_exe().expect("the benchmark has a path");
    let target = executable.ancestors().nth(3).expect("it is in a target folder");
    let build = |package| guest::build_guest(target, package).expect("the plugin can be built");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let clockwork = Arc::new(Clockwork::new().expect("an engine"));
    let plugin = |package, config: &serde_json::Value| load(&runtime, &clockwork, build(package), config);
    let [mail, card] = [MAIL, CARD];
    let unfiltered = [format!("{mail}|{}", NO_PREFILTER[0]), format!("{card}|{}", NO_PREFILTER[1])];
    let plugins = [
        ("prefilter", plugin("bench-guest", &serde_json::json!({"mode": "redact", "patterns": [mail, card]}))),
        ("text-by-text", plugin("bench-guest", &serde_json::json!({"mode": "redact", "patterns": unfiltered}))),
        ("engine-in-the-plugin", plugin("engine-guest", &serde_json::json!({"patterns": [mail, card]}))),
    ];
    for (name, message) in requests() {
        let receive = || Batch::receive(message.clone(), Arc::default(), true).expect("the request is valid").0;
        let spans = receive().spans();
        let mut group = criterion.benchmark_group(format!("redaction-{name}"));
        group.throughput(Throughput::Elements(spans as u64));
        let redacted =
            |plugin: &Plugin, batch| runtime.block_on(plugin.process(batch)).expect("it does not fail").finish();
        let expected = redacted(&plugins[0].1, receive());
        for (row, plugin) in &plugins {
            let same =
                redacted(plugin, receive()).iter().zip(&expected).all(|(a, b)| a.message.bytes() == b.message.bytes());
            assert!(same, "{row} makes something else of {name}");
            group.bench_function(*row, |bencher| {
                bencher.iter_batched(receive, |batch| redacted(plugin, batch), BatchSize::LargeInput);
            });
        }
        group.finish();
    }
}

fn load(runtime: &Runtime, clockwork: &Arc<Clockwork>, module: PathBuf, config: &serde_json::Value) -> Plugin {
    let settings = PluginSettings {
        module: Source::File(module),
        digest: None,
        config: config.to_string(),
        on_error: OnError::Pass,
        // What is measured here may be slow.
        limits: Limits { deadline: Duration::from_secs(10), memory: 64 << 20 },
        log_rate: 10,
    };
    let loaded = Module::load(clockwork, "redact".into(), settings).expect("the plugin loads");
    runtime.block_on(loaded.plugin("traces", &Metrics::default(), 1)).expect("the plugin starts")
}

/// The load of the end-to-end benchmark, and requests that real clients sent,
/// where they are at hand, each so often that it makes a whole batch.
fn requests() -> Vec<(String, Message)> {
    let framed = batches::prepare().expect("the load can be made").swap_remove(0);
    let mut requests = vec![("shop".to_owned(), Message::copy_of(&framed.slice(PREFIX..)))];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/payloads");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|it| it == "pb")).collect();
    files.sort();
    for path in files {
        let wire = std::fs::read(&path).expect("it can be read");
        let spans =
            Batch::receive(Message::copy_of(&wire), Arc::default(), false).map_or(0, |(batch, _)| batch.spans());
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if spans > 0 {
            requests.push((name, Message::copy_of(&wire.repeat(SPANS.div_ceil(spans)))));
        }
    }
    requests
}
