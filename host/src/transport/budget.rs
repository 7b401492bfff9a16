//! What all requests together may take of the process's memory. A request asks
//! for its bytes as they come, and for what they unpack to before they do; when
//! there are none it is refused, and its sender is asked to try again.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A process that may use so much memory gives this part of it to the bytes of
/// requests. Beside them each request needs room for the index, the edits and the
/// outgoing message: up to four times its bytes; and connections have their buffers.
const SHARE: u64 = 8;

/// No share is smaller: one request of a usual size has to fit.
const LEAST: u64 = 8 << 20;

/// Giving memory back takes a while, so that it is not done more often.
const TIDY_PAUSE: Duration = Duration::from_millis(20);

/// What somebody wants the whole process to stay below, while this lives: requests get
/// a share of it, and of nothing more.
#[derive(Debug)]
pub struct Ceiling(usize);

/// The shares of all ceilings that there are, and the least of them.
static CEILINGS: Mutex<Vec<usize>> = Mutex::new(vec![]);
static LEAST_SHARE: AtomicUsize = AtomicUsize::new(usize::MAX);

fn with_ceilings(change: impl FnOnce(&mut Vec<usize>)) {
    let mut ceilings = CEILINGS.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut ceilings);
    LEAST_SHARE.store(ceilings.iter().copied().min().unwrap_or(usize::MAX), Ordering::Relaxed);
}

impl Ceiling {
    pub fn new(memory: u64) -> Self {
        let share = share_of(memory);
        with_ceilings(|ceilings| ceilings.push(share));
        Self(share)
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        with_ceilings(|ceilings| {
            if let Some(own) = ceilings.iter().position(|share| *share == self.0) {
                ceilings.swap_remove(own);
            }
        });
    }
}

/// What the process gives now to bytes that are held for the same time as requests are.
pub fn share() -> usize {
    static OF_PROCESS: LazyLock<usize> = LazyLock::new(|| share_of(memory_limit()));
    LEAST_SHARE.load(Ordering::Relaxed).min(*OF_PROCESS)
}

fn share_of(memory: u64) -> usize {
    usize::try_from((memory / SHARE).max(LEAST)).unwrap_or(usize::MAX)
}

#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// A share of what this process may use.
    pub fn of_process() -> Arc<Self> {
        Self::new(share_of(memory_limit()))
    }

    fn limit(&self) -> usize {
        self.limit.min(LEAST_SHARE.load(Ordering::Relaxed))
    }

    /// Bytes that requests hold now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether so many bytes would be given now.
    pub fn has(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.limit()
    }

    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease { budget: Arc::clone(self), held: 0, ahead: 0, is_refused: false }
    }
}

/// What one request holds; dropping it gives it back.
#[derive(Debug)]
pub struct Lease {
    budget: Arc<Budget>,
    held: usize,
    /// Of what is held, what is still to come.
    ahead: usize,
    is_refused: bool,
}

impl Lease {
    /// Takes so many bytes that are to come, if there are so many; `grow` takes of them first.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        let taken = self.take(bytes);
        self.ahead += if taken { bytes } else { 0 };
        taken
    }

    /// Takes so many bytes more, if there are so many.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let reserved = self.ahead.min(bytes);
        let taken = self.take(bytes - reserved);
        self.ahead -= if taken { reserved } else { 0 };
        taken
    }

    fn take(&mut self, bytes: usize) -> bool {
        let limit = self.budget.limit();
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= limit);
        let taken = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if taken {
            self.held += bytes;
        }
        self.is_refused |= !taken;
        taken
    }

    /// A lease of its own for work elsewhere, holding nothing yet.
    pub fn split(&self) -> Self {
        self.budget.lease()
    }

    /// Takes over what the other holds.
    pub fn join(&mut self, mut other: Self) {
        self.held += std::mem::take(&mut other.held);
        self.is_refused |= std::mem::take(&mut other.is_refused);
    }

    /// Gives so many bytes back before the request ends.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held);
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        self.held -= bytes;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, Ordering::Relaxed);
        // What it had is freed by now.
        if self.is_refused {
            tidy_up();
        }
    }
}

/// Bytes of memory that this process may use: the least of what the machine has,
/// what its cgroup grants, and what `GOMEMLIMIT` says, which the Operator and the
/// Helm chart set.
pub fn memory_limit() -> u64 {
    let told = std::env::var("GOMEMLIMIT").ok().and_then(|text| go_size(&text));
    let limits = [machine(), cgroup(), told];
    limits.into_iter().flatten().min().unwrap_or(u64::MAX)
}

/// Bytes of memory that this process has now.
pub fn resident_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages = text.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// What was freed goes back to the system.
pub fn give_memory_back() {
    // SAFETY: it takes no pointer and may be called from any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Where requests are refused for their memory, what others left behind is not to stand
/// beside what is held: the allocator keeps it for a while, and each thread has its own.
fn tidy_up() {
    thread_local!(static LAST: Cell<Option<Instant>> = const { Cell::new(None) });
    if LAST.get().is_none_or(|last| last.elapsed() > TIDY_PAUSE) {
        give_memory_back();
        LAST.set(Some(Instant::now()));
    }
}

fn machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The tightest limit on the way from this process's cgroup to the root.
fn cgroup() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    // Version 2 has one line, `0::/path`; version 1 one for each controller.
    let paths = own.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        match controllers {
            "" => Some(("/sys/fs/cgroup", path, "memory.max")),
            _ if controllers.split(',').any(|it| it == "memory") => {
                Some(("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
            }
            _ => None,
        }
    });
    let limits = paths.flat_map(|(root, path, file)| {
        let above = std::path::Path::new(path).ancestors().map(|it| it.to_string_lossy().into_owned());
        let places: Vec<_> = above.map(|it| format!("{root}/{}/{file}", it.trim_start_matches('/'))).collect();
        // `max` is no number, and no limit.
        places.into_iter().filter_map(|place| std::fs::read_to_string(place).ok()?.trim().parse::<u64>().ok())
    });
    limits.min()
}

/// A size as Go's runtime reads it: bytes, or with `KiB`, `MiB`, `GiB`, `TiB`; `off` is none.
fn go_size(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("B", 0)];
    let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    number.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_comes_back_and_no_more_is_given_than_there_is() {
        let budget = Budget::new(100);
        let mut one = budget.lease();
        assert!(one.grow(60) && !one.grow(41) && budget.has(40) && !budget.has(41));
        let mut other = budget.lease();
        assert!(other.grow(40) && !other.grow(1));
        one.shrink(10);
        assert!(other.reserve(10) && !other.reserve(1) && !one.grow(1));
        // What was reserved is there, and counts once.
        assert!(other.grow(4) && other.grow(6) && !other.grow(1) && !other.grow(usize::MAX));
        drop(one);
        assert_eq!(budget.used(), 50);
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_go_runtimes_memory_limit_is_understood() {
        for (text, bytes) in [
            ("1048576", Some(1 << 20)),
            ("64MiB", Some(64 << 20)),
            ("2GiB", Some(2 << 30)),
            ("512B", Some(512)),
            ("off", None),
            ("64MB", None),
            ("-1", None),
            ("99999999TiB", None),
            ("", None),
        ] {
            assert_eq!(go_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn this_process_has_a_limit_of_memory() {
        assert!(memory_limit() > 64 << 20);
        assert!(resident_memory().is_some_and(|bytes| (1 << 20..memory_limit()).contains(&bytes)));
    }
}
