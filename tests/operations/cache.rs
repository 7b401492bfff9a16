//! Compiled plugins on disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::support::spans::{names, spans};
use crate::support::{Collector, Setup, Sink, request, script};

struct Cached {
    folder: TempDir,
    sink: Sink,
}

impl Cached {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        Self { folder, sink: Sink::start() }
    }

    fn setup(&self, folder: &Path) -> Setup {
        let edit = script(json!([{"op": "set-names", "rows": [0], "names": ["edited"]}]));
        Setup::line(&self.sink).processor("wasm/edit", edit).cache(folder)
    }

    /// Starts, sees the plugin work, and ends; answers with the log and the CPU time of the start.
    fn run(&self) -> (String, f64) {
        self.run_with(self.folder.path())
    }

    fn run_with(&self, folder: &Path) -> (String, f64) {
        let collector: Collector = self.setup(folder).start();
        let cpu = collector.metrics().matching("otelcol_process_cpu_seconds", &[]).next().unwrap().value;
        let before = self.sink.received().len();
        collector.send(&request(spans(1))).expect_ok();
        assert_eq!(names(&self.sink.wait(before + 1)[before].request()), ["edited"]);
        (collector.finish().log, cpu)
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// The one compiled module that there is.
    fn file(&self) -> PathBuf {
        let mut files = self.files();
        files.retain(|file| file.extension().is_some_and(|it| it == "cwasm"));
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }
}

#[test]
fn the_second_start_does_not_compile() {
    let cached = Cached::new();
    let (_, first) = cached.run();
    let file = cached.file();
    let written = fs::metadata(&file).unwrap().modified().unwrap();
    let (_, second) = cached.run();
    assert_eq!(fs::metadata(cached.file()).unwrap().modified().unwrap(), written);
    assert!(second < first / 2.0, "the first start took {first} s of CPU, the second {second} s");
}

#[test]
fn a_damaged_file_is_compiled_again_and_mended() {
    let cached = Cached::new();
    cached.run();
    let whole = fs::read(cached.file()).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [flipped, whole[..whole.len() / 2].to_vec(), vec![]] {
        fs::write(cached.file(), damaged).unwrap();
        let (log, _) = cached.run();
        let warning = log.lines().find(|line| line.contains("a cached module is damaged; it is compiled again"));
        assert!(warning.is_some_and(|line| line.contains("\twarn\t")), "{log}");
        assert!(fs::read(cached.file()).unwrap() == whole, "the file is not mended");
    }
    assert!(!cached.run().0.contains("damaged"));
}

#[test]
fn a_folder_that_others_can_write_to_is_not_used() {
    let cached = Cached::new();
    fs::set_permissions(cached.folder.path(), Permissions::from_mode(0o777)).unwrap();
    cached.run();
    assert_eq!(cached.files(), [] as [PathBuf; 0]);
    // Nor is what lies there looked at.
    fs::set_permissions(cached.folder.path(), Permissions::from_mode(0o700)).unwrap();
    cached.run();
    fs::write(cached.file(), "a trap").unwrap();
    fs::set_permissions(cached.folder.path(), Permissions::from_mode(0o777)).unwrap();
    let (log, _) = cached.run();
    assert!(!log.contains("damaged"), "{log}");
    assert_eq!(fs::read(cached.file()).unwrap(), b"a trap");
}

#[test]
fn a_cache_that_cannot_be_written_keeps_nobody_from_starting() {
    let cached = Cached::new();
    let file = cached.folder.path().join("file");
    fs::write(&file, "").unwrap();
    cached.run_with(&file.join("cache"));
}
