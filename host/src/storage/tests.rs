//! The log on a real disk.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn settings(folder: &Path) -> LogSettings {
    LogSettings {
        folder: folder.join("queue"),
        parents: None,
        patience: Duration::from_secs(5),
        segment_bytes: 2000,
        max_bytes: 1 << 20,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn open(folder: &Path) -> Opened {
    Log::open(settings(folder)).unwrap()
}

/// Appends records with these payloads.
async fn fill(log: &Log, payloads: impl IntoIterator<Item = Vec<u8>>) -> Vec<Stored> {
    let mut stored = vec![];
    for payload in payloads {
        stored.push(log.append(vec![Bytes::from(payload)], 1, 2).await.unwrap().keep().unwrap());
    }
    stored
}

fn payload(number: usize) -> Vec<u8> {
    format!("payload {number} ").repeat(20).into_bytes()
}

/// All files of an extension, sorted.
fn files(folder: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder.join("queue")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    found.sort();
    found
}

#[test]
fn what_was_appended_comes_back_in_order_after_a_restart() {
    let (folder, runtime) = (TempDir::new().unwrap(), runtime());
    let opened = open(folder.path());
    assert!(opened.stored.is_empty() && opened.damages.is_empty());
    let stored = runtime.block_on(fill(&opened.log, (0..20).map(payload)));
    assert!(files(folder.path(), "log").len() > 2, "there are several segments");
    assert!(opened.log.bytes() > 20 * 200);
    drop(opened);
    let opened = open(folder.path());
    assert_eq!(opened.stored, stored);
    for (number, stored) in stored.into_iter().enumerate() {
        assert_eq!(runtime.block_on(opened.log.read(stored)).unwrap(), payload(number));
    }
}

#[test]
fn settled_records_do_not_come_back_and_their_segments_go() {
    let (folder, runtime) = (TempDir::new().unwrap(), runtime());
    let opened = open(folder.path());
    let stored = runtime.block_on(fill(&opened.log, (0..20).map(payload)));
    let before = files(folder.path(), "log").len();
    for number in [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 19] {
        opened.log.settle(stored[number]);
    }
    runtime.block_on(opened.log.flush());
    assert!(files(folder.path(), "log").len() < before);
    drop(opened);
    let opened = open(folder.path());
    let left: Vec<u64> = opened.stored.iter().map(|it| it.sequence).collect();
    let expected: Vec<u64> =
        (0..20).filter(|it| *it > 8 && *it != 11 && *it != 19).map(|it| stored[it].sequence).collect();
    assert_eq!(left, expected);
    opened.stored.iter().for_each(|it| opened.log.settle(*it));
    runtime.block_on(opened.log.flush());
    assert_eq!(files(folder.path(), "log").len() + files(folder.path(), "settled").len(), 0);
    assert_eq!(opened.log.bytes(), 0);
}

#[test]
fn a_record_that_nobody_waits_for_any_more_is_not_kept() {
    let (folder, runtime) = (TempDir::new().unwrap(), runtime());
    let opened = open(folder.path());
    runtime.block_on(async {
        drop(opened.log.append(vec![Bytes::from_static(b"gone")], 1, 1).await.unwrap());
        fill(&opened.log, [payload(1)]).await;
        opened.log.flush().await;
    });
    drop(opened);
    assert_eq!(open(folder.path()).stored.len(), 1);
}

#[test]
fn numbers_go_on_after_a_restart_and_old_files_speak_for_no_new_record() {
    let (folder, runtime) = (TempDir::new().unwrap(), runtime());
    let opened = open(folder.path());
    let first = runtime.block_on(fill(&opened.log, [payload(0)]))[0];
    drop(opened);
    let opened = open(folder.path());
    let second = runtime.block_on(fill(&opened.log, [payload(1)]))[0];
    assert!(second.sequence > first.sequence && second.segment != first.segment);
    drop(opened);
    // The segment is gone, and what was settled of it is not.
    let log = files(folder.path(), "log").pop().unwrap();
    fs::remove_file(&log).unwrap();
    fs::write(log.with_extension("settled"), format::settled_entry(second.sequence, 1)).unwrap();
    let opened = open(folder.path());
    assert_eq!(opened.stored, [first]);
    assert!(files(folder.path(), "settled").is_empty());
}

#[test]
fn a_second_owner_is_kept_out_while_the_first_one_lives() {
    let folder = TempDir::new().unwrap();
    let first = open(folder.path());
    let impatient = LogSettings { patience: Duration::from_millis(30), ..settings(folder.path()) };
    let error = Log::open(impatient.clone()).err().unwrap();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    drop(first);
    open(folder.path());
}

#[test]
fn the_limit_on_the_disk_holds_and_what_is_settled_makes_room() {
    let (folder, runtime) = (TempDir::new().unwrap(), runtime());
    let small = LogSettings { max_bytes: 5000, ..settings(folder.path()) };
    let opened = Log::open(small).unwrap();
    runtime.block_on(async {
        let stored = fill(&opened.log, vec![vec![1; 900]; 5]).await;
        let full = opened.log.append(vec![vec![1; 900].into()], 1, 1).await;
        assert!(matches!(full, Err(StorageError::Full(_))), "{full:?}");
        stored.into_iter().for_each(|it| opened.log.settle(it));
        fill(&opened.log, vec![vec![2; 900]; 4]).await;
    });
}

#[test]
fn a_folder_that_goes_away_refuses_until_it_is_back() {
    let (folder, runtime) = (TempDir::new().unwrap(), runtime());
    let opened = open(folder.path());
    runtime.block_on(async {
        let stored = fill(&opened.log, [payload(0)]).await;
        fs::remove_dir_all(folder.path().join("queue")).unwrap();
        for _ in 0..2 {
            let gone = opened.log.append(vec![payload(1).into()], 1, 1).await;
            assert!(matches!(gone, Err(StorageError::Unusable { .. })), "{gone:?}");
        }
        let lost = opened.log.read(stored[0]).await;
        assert!(matches!(lost, Err(StorageError::Damaged { .. })), "{lost:?}");
        fs::create_dir(folder.path().join("queue")).unwrap();
        fill(&opened.log, [payload(2)]).await;
    });
}

#[test]
fn a_damaged_segment_is_set_aside_when_its_other_records_are_settled() {
    let (folder, runtime) = (TempDir::new().unwrap(), runtime());
    let opened = open(folder.path());
    let stored = runtime.block_on(fill(&opened.log, (0..3).map(payload)));
    drop(opened);
    let path = files(folder.path(), "log").pop().unwrap();
    let mut content = fs::read(&path).unwrap();
    content[stored[1].at as usize + 2] ^= 1;
    content[stored[2].at as usize + 60] ^= 1;
    fs::write(&path, content).unwrap();
    let opened = open(folder.path());
    assert_eq!(opened.damages.len(), 1, "{:?}", opened.damages);
    assert_eq!((&opened.damages[0].file, opened.damages[0].is_torn), (&path, false));
    assert_eq!(opened.stored, [stored[0], stored[2]]);
    runtime.block_on(async {
        assert_eq!(opened.log.read(stored[0]).await.unwrap(), payload(0));
        let damaged = opened.log.read(stored[2]).await;
        assert!(matches!(damaged, Err(StorageError::Damaged { .. })), "{damaged:?}");
        opened.log.set_aside(stored[2]);
        opened.log.settle(stored[0]);
        opened.log.flush().await;
    });
    assert!(files(folder.path(), "log").is_empty());
    assert_eq!(files(folder.path(), "damaged").len(), 1);
}

#[test]
fn a_torn_tail_is_told_once() {
    let (folder, runtime) = (TempDir::new().unwrap(), runtime());
    let opened = open(folder.path());
    let stored = runtime.block_on(fill(&opened.log, (0..2).map(payload)));
    drop(opened);
    let path = files(folder.path(), "log").pop().unwrap();
    let length = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 7).unwrap();
    let opened = open(folder.path());
    assert!(opened.damages.len() == 1 && opened.damages[0].is_torn, "{:?}", opened.damages);
    assert_eq!(opened.stored, stored[..1]);
    drop(opened);
    assert!(open(folder.path()).damages.is_empty());
}

#[test]
fn foreign_files_are_no_obstacle() {
    let (folder, runtime) = (TempDir::new().unwrap(), runtime());
    let queue = folder.path().join("queue");
    fs::create_dir(&queue).unwrap();
    fs::write(queue.join("00000000000000000005.log"), "what is this?").unwrap();
    fs::write(queue.join("notes.txt"), "mine").unwrap();
    fs::create_dir(queue.join("folder")).unwrap();
    let opened = open(folder.path());
    assert_eq!(opened.damages.len(), 1);
    let stored = runtime.block_on(fill(&opened.log, [payload(0)]));
    assert!(stored[0].sequence > 5);
    assert_eq!(fs::read(queue.join("notes.txt")).unwrap(), b"mine");
    assert_eq!(files(folder.path(), "damaged").len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever bytes of a queue's files change or are cut off: it opens, and every
    /// record of an untouched file comes back as it was, or was settled.
    #[test]
    fn no_damage_keeps_it_from_starting(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), flip in any::<u8>(), cut in any::<bool>()
    ) {
        let (folder, runtime) = (TempDir::new().unwrap(), runtime());
        let opened = open(folder.path());
        let stored = runtime.block_on(fill(&opened.log, (0..12).map(payload)));
        [1, 5, 6].iter().for_each(|number: &usize| opened.log.settle(stored[*number]));
        runtime.block_on(opened.log.flush());
        drop(opened);
        let mut all = files(folder.path(), "log");
        all.extend(files(folder.path(), "settled"));
        let path = which.get(&all);
        let mut content = fs::read(path).unwrap();
        let place = at.index(content.len());
        content[place] ^= flip;
        if cut {
            content.truncate(place);
        }
        fs::write(path, &content).unwrap();
        let hit: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let opened = open(folder.path());
        for (number, expected) in stored.iter().enumerate() {
            let is_settled = [1, 5, 6].contains(&number);
            let found = opened.stored.contains(expected);
            prop_assert!(found != is_settled || expected.segment == hit, "{number}");
            if found && let Ok(read) = runtime.block_on(opened.log.read(*expected)) {
                prop_assert_eq!(read, payload(number));
            }
        }
        runtime.block_on(fill(&opened.log, [payload(99)]));
    }
}
