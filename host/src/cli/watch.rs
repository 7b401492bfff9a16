//! `--watch`: looks at the files that a config was made of, and at its plugins.
//!
//! Contents are compared. That works wherever a file can be read, on network file
//! systems and under the symbolic links that Kubernetes swaps, and what is written
//! again without a change is none.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// A load that has failed is tried again after this, and later after twice as long
/// each time: a port that was taken may be free, a file may be there by now.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A digest; `None` where there is nothing to be read.
pub(super) type Digest = Option<[u8; 32]>;

pub(super) type Files = BTreeMap<PathBuf, Digest>;

/// What files hold.
pub(super) struct Content;

impl Content {
    /// Reads a file of any size piece by piece.
    pub(super) fn of(path: &Path) -> Digest {
        let mut file = std::fs::File::open(path).ok().filter(|file| file.metadata().is_ok_and(|it| it.is_file()))?;
        let (mut hasher, mut piece) = (Sha256::new(), vec![0; 64 << 10]);
        loop {
            match file.read(&mut piece).ok()? {
                0 => return Some(hasher.finalize().into()),
                read => hasher.update(piece.get(..read)?),
            }
        }
    }
}

/// What tells a change without reading: device, inode, size, and both times.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// A file was changed so long ago that a second change has another time.
const SETTLED: Duration = Duration::from_secs(3);

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(found.ctime()).ok()?);
    let is_settled = SystemTime::now().duration_since(changed).is_ok_and(|age| age > SETTLED);
    let times = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    is_settled.then_some((found.dev(), found.ino(), found.size(), times.0, times.1))
}

/// Looks at files again and again.
pub(super) struct Watcher {
    /// What the last load was made of.
    loaded: Files,
    /// What the last look found.
    found: Looked,
    /// When a load that has failed is tried again, and how long that was waited for.
    retry: Option<(Instant, Duration)>,
}

/// A look at all files.
#[derive(Clone, Default)]
struct Looked {
    files: Files,
    stamps: BTreeMap<PathBuf, Stamp>,
}

impl Looked {
    /// Looks again; what its stamp vouches for is not read.
    fn again(&self) -> Self {
        let mut next = Self::default();
        for (path, before) in &self.files {
            let stamp = stamp(path);
            let same = stamp.is_some() && self.stamps.get(path) == stamp.as_ref();
            next.files.insert(path.clone(), if same { *before } else { Content::of(path) });
            next.stamps.extend(stamp.map(|stamp| (path.clone(), stamp)));
        }
        next
    }
}

impl Watcher {
    pub(super) fn new(loaded: Files) -> Self {
        let found = Looked { files: loaded.clone(), stamps: BTreeMap::new() };
        Self { loaded, found, retry: None }
    }

    /// What was loaded now, and whether it runs.
    pub(super) fn loaded(&mut self, files: Files, succeeded: bool) {
        // A source that is never reached is as good as it was: without it nobody would see
        // how it changes.
        let mut files = files;
        if !succeeded {
            for (path, digest) in &self.loaded {
                files.entry(path.clone()).or_insert(*digest);
            }
        }
        let pause = match self.retry {
            Some((_, pause)) if files == self.loaded => pause.saturating_mul(2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        self.retry = (!succeeded).then(|| (Instant::now() + pause, pause));
        self.found = Looked { files: files.clone(), stamps: BTreeMap::new() };
        self.loaded = files;
    }

    /// Waits until there is something new to load. An editor may write in several
    /// steps: what counts is what two looks in a row have found.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let before = self.found.clone();
            let looked = tokio::task::spawn_blocking(move || (before.again(), before)).await;
            let Ok((found, before)) = looked else { continue };
            let is_stable = found.files == before.files;
            self.found = found;
            let is_due = self.retry.is_some_and(|(at, _)| at <= Instant::now());
            if is_stable && (self.found.files != self.loaded || is_due) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_finds_what_was_written_in_place_and_what_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collector.yaml");
        std::fs::write(&path, "a").unwrap();
        let loaded = Files::from([(path.clone(), Content::of(&path))]);
        let first = Looked { files: loaded.clone(), ..Looked::default() }.again();
        assert_eq!(first.files, loaded);
        // As long as before, and within the same tick of many clocks.
        std::fs::write(&path, "b").unwrap();
        let second = first.again();
        assert_ne!(second.files, loaded);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(second.again().files, Files::from([(path.clone(), None)]));
        std::fs::write(&path, "a").unwrap();
        assert_eq!(second.again().files, loaded, "the same content is no change");
    }

    #[test]
    fn a_failure_is_tried_again_after_longer_and_longer() {
        let files = Files::from([("a".into(), None)]);
        let mut watcher = Watcher::new(files.clone());
        let pause = |watcher: &Watcher| watcher.retry.map(|(_, pause)| pause.as_secs());
        watcher.loaded(files.clone(), false);
        assert_eq!(pause(&watcher), Some(5));
        watcher.loaded(files.clone(), false);
        assert_eq!(pause(&watcher), Some(10));
        (0..9).for_each(|_| watcher.loaded(files.clone(), false));
        assert_eq!(pause(&watcher), Some(60));
        watcher.loaded(Files::from([("a".into(), Some([0; 32]))]), false);
        assert_eq!(pause(&watcher), Some(5), "another content is another matter");
        watcher.loaded(files, true);
        assert_eq!(pause(&watcher), None);
    }

    #[test]
    fn files_that_a_failed_load_did_not_come_to_stay_watched() {
        let mut watcher = Watcher::new(Files::from([("a".into(), None), ("plugin.wasm".into(), None)]));
        watcher.loaded(Files::from([("a".into(), Some([1; 32]))]), false);
        assert_eq!(watcher.loaded.len(), 2);
    }
}
