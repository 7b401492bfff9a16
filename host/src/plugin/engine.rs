//! One engine for all plugins: its settings, the clock behind deadlines, and
//! the cache of compiled modules.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_64;
use wasmtime::component::Component;
use wasmtime::{Config, Engine, Inlining, OptLevel};

/// How often a running guest is asked whether its time is up, and so how long
/// it can keep a worker from other work.
pub const TICK: Duration = Duration::from_millis(5);

/// After this many ticks without a call the clock stops until the next one.
const IDLE_TICKS: u32 = 200;

/// What a guest's stack may take; a deeper recursion traps.
const GUEST_STACK: usize = 512 << 10;

/// The engine and the thread that advances its epoch while guests run.
pub struct Clockwork {
    pub engine: Engine,
    clock: Arc<Clock>,
}

struct Clock {
    running: AtomicUsize,
    parked: AtomicBool,
    thread: OnceLock<Thread>,
}

/// A guest is running for as long as this lives.
pub struct Running<'a>(&'a Clock);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Clockwork {
    pub fn new() -> wasmtime::Result<Self> {
        let engine = Engine::new(&config())?;
        let clock =
            Arc::new(Clock { running: AtomicUsize::new(0), parked: AtomicBool::new(false), thread: OnceLock::new() });
        let weak = (engine.weak(), Arc::clone(&clock));
        let thread = std::thread::Builder::new().name("plugin-clock".into()).spawn(move || {
            let (engine, clock) = weak;
            let mut idle = 0;
            loop {
                std::thread::sleep(TICK);
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
                idle = if clock.running.load(Ordering::Relaxed) > 0 { 0 } else { idle + 1 };
                if idle > IDLE_TICKS {
                    clock.parked.store(true, Ordering::SeqCst);
                    // A call that began before it could see `parked` is seen here.
                    if clock.running.load(Ordering::SeqCst) == 0 {
                        std::thread::park_timeout(Duration::from_secs(60));
                    }
                    clock.parked.store(false, Ordering::SeqCst);
                    idle = 0;
                }
            }
        })?;
        let _ = clock.thread.set(thread.thread().clone());
        Ok(Self { engine, clock })
    }

    /// Keeps the clock going while a guest runs.
    pub fn run(&self) -> Running<'_> {
        self.clock.running.fetch_add(1, Ordering::SeqCst);
        if self.clock.parked.load(Ordering::SeqCst)
            && let Some(thread) = self.clock.thread.get()
        {
            thread.unpark();
        }
        Running(&self.clock)
    }

    /// Compiles a module, or takes it from the cache. What the cache holds
    /// depends on the module's content, on this version of wasmtime, on the
    /// target and on the engine's settings, and its name says all of them.
    pub fn compile(&self, wasm: &[u8], digest: &[u8]) -> wasmtime::Result<Component> {
        let file = self.cache_file(digest);
        if let Some(file) = file.as_deref().filter(|file| is_whole(file)) {
            // SAFETY: the file is in a folder that only this user can write to
            // (`private`), was written whole by `write_cached`, whose checksum
            // matched, and is named for this very engine. It is mapped, so that
            // only the pages that run take memory.
            match unsafe { Component::deserialize_file(&self.engine, file) } {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!(%error, "a cached module cannot be used; it is compiled again"),
            }
        }
        let compiled = Self::precompile(wasm)?;
        if let Some(file) = file
            && let Err(error) = write_cached(&file, &compiled)
        {
            tracing::debug!(%error, file = %file.display(), "the compiled module is not kept");
        }
        // SAFETY: the bytes were made by this engine a moment ago.
        unsafe { Component::deserialize(&self.engine, &compiled) }
    }

    /// Compiles by an engine and on threads that end with it: an engine keeps
    /// Cranelift's working memory for the next module, hundreds of MiB of it.
    fn precompile(wasm: &[u8]) -> wasmtime::Result<Vec<u8>> {
        let engine = Engine::new(&config())?;
        match rayon::ThreadPoolBuilder::new().thread_name(|at| format!("compile-{at}")).build() {
            Ok(pool) => pool.install(|| engine.precompile_component(wasm)),
            Err(_) => engine.precompile_component(wasm),
        }
    }

    fn cache_file(&self, digest: &[u8]) -> Option<PathBuf> {
        let folder = cache_folder()?;
        let mut hasher = Sha256::new();
        hasher.update(digest);
        let mut settings = Hashed(Sha256::new());
        std::hash::Hash::hash(&self.engine.precompile_compatibility_hash(), &mut settings);
        hasher.update(settings.0.finalize());
        Some(folder.join(format!("{}.cwasm", hex(&hasher.finalize()))))
    }
}

/// The settings of every engine: a module that one compiled runs on another.
fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .compiler_inlining(Inlining::Yes)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(2 * GUEST_STACK + (256 << 10))
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(32));
    config
}

/// Feeds what wasmtime says of its compatibility into a digest that is the same in every process.
struct Hashed(Sha256);

impl std::hash::Hasher for Hashed {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// `VESPID_CACHE_DIR`, else the user's cache folder; `None` where there is neither.
fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("VESPID_CACHE_DIR").or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(cache.join("vespid"))
    })
}

/// The checksum's file beside a compiled module's.
fn checksum_file(file: &Path) -> PathBuf {
    file.with_extension("xxh3")
}

/// Whether a compiled module is as it was written: a torn or flipped file is never run.
fn is_whole(file: &Path) -> bool {
    if !file.parent().is_some_and(private) {
        return false;
    }
    let Ok(mut module) = fs::File::open(file) else { return false };
    let mut hasher = XxHash3_64::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        match module.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => std::hash::Hasher::write(&mut hasher, piece.get(..read).unwrap_or_default()),
            Err(_) => return false,
        }
    }
    let written = fs::read(checksum_file(file));
    let whole = written.is_ok_and(|sum| sum == std::hash::Hasher::finish(&hasher).to_le_bytes());
    if !whole {
        tracing::warn!(file = %file.display(), "a cached module is damaged; it is compiled again");
    }
    whole
}

/// Writes to files of their own and renames, so that no reader sees half of one.
fn write_cached(file: &Path, compiled: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    create_private(folder)?;
    if !private(folder) {
        return Err(std::io::Error::other("others can write to the cache folder"));
    }
    let draft = folder.join(format!(".{}-{:016x}", std::process::id(), fastrand::u64(..)));
    let write = |target: &Path, bytes: &[u8]| fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, target));
    let sum = XxHash3_64::oneshot(compiled).to_le_bytes();
    // A new module beside an old sum is taken for damaged, and made anew: never the other way round.
    write(file, compiled).and_then(|()| write(&checksum_file(file), &sum)).inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}

fn create_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether nobody else can put a file there: what is in it is run as it is.
fn private(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let ours = rustix::process::geteuid().as_raw();
    fs::metadata(folder).is_ok_and(|found| found.mode() & 0o022 == 0 && found.uid() == ours)
}
