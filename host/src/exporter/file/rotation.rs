//! A full file is moved aside under a name with the time, and old ones go.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use crate::config::Section;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A record that is larger by itself gets a file of its own.
    pub max_bytes: u64,
    /// None keeps files whatever their age.
    max_age: Option<Duration>,
    /// 0 keeps all.
    max_backups: usize,
}

const MILLISECOND: Duration = Duration::from_millis(1);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Rotation {
    pub fn read(mut section: Section<'_>) -> Self {
        let megabytes = section.u64_or("max_megabytes", 100);
        if megabytes == 0 {
            section.problem_at("max_megabytes", "must be larger than 0", "");
        }
        let days = u32::try_from(section.u64_or("max_days", 0)).unwrap_or(u32::MAX);
        let max_backups = section.usize_or("max_backups", 100);
        if section.boolean_or("localtime", false) {
            let why = "has no effect: names of rotated files are in UTC";
            section.warning_at("localtime", why, "remove it");
        }
        section.finish();
        let max_age = (days > 0).then(|| DAY.saturating_mul(days));
        Self { max_bytes: megabytes.saturating_mul(1 << 20), max_age, max_backups }
    }

    /// Moves the file aside and removes backups that are too many or too old;
    /// answers the time in the new name, which is later than `last`.
    pub fn rotate(self, path: &Path, last: SystemTime) -> io::Result<SystemTime> {
        // Names have milliseconds, and two rotations may happen within one.
        let time = SystemTime::now().max(last + MILLISECOND);
        let mut times = (0..1000).map(|more| time + MILLISECOND * more);
        let free = times.find(|&time| !backup(path, time).exists()).ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(path, backup(path, free))?;
        if let Err(error) = self.clean(path, free) {
            tracing::warn!(path = %path.display(), %error, "old files cannot be removed");
        }
        Ok(free)
    }

    fn clean(self, path: &Path, now: SystemTime) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut backups = vec![];
        for entry in fs::read_dir(folder)? {
            let found = entry?.path();
            if let Some(time) = time_of(path, &found) {
                backups.push((time, found));
            }
        }
        backups.sort_by_key(|(time, _)| Reverse(*time));
        for (newer, (time, backup)) in backups.into_iter().enumerate() {
            let too_many = self.max_backups > 0 && newer >= self.max_backups;
            let too_old = self.max_age.is_some_and(|limit| now.duration_since(time).is_ok_and(|age| age > limit));
            if too_many || too_old {
                fs::remove_file(backup)?;
            }
        }
        Ok(())
    }
}

/// `traces-2018-02-14T00-28-07.133.json` of `traces.json`.
fn backup(path: &Path, time: SystemTime) -> PathBuf {
    let text = humantime::format_rfc3339_millis(time).to_string().replace(':', "-");
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-");
    name.push(text.trim_end_matches('Z'));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// When the file was moved aside, if it is a backup of the one at `path`.
fn time_of(path: &Path, found: &Path) -> Option<SystemTime> {
    let text = |name: Option<&OsStr>| name.map(|name| name.to_string_lossy().into_owned());
    let mut name = text(found.file_name())?;
    if let Some(extension) = text(path.extension()) {
        name = name.strip_suffix(&format!(".{extension}"))?.to_owned();
    }
    let time = name.strip_prefix(&format!("{}-", text(path.file_stem())?))?;
    let (date, clock) = time.split_once('T')?;
    humantime::parse_rfc3339(&format!("{date}T{}Z", clock.replace('-', ":"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::file::writer::Writer;

    #[test]
    fn a_backup_is_named_by_its_time_and_known_by_its_name() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_518_568_087_133);
        for (path, name) in [
            ("/var/log/traces.json", "/var/log/traces-2018-02-14T00-28-07.133.json"),
            ("traces", "traces-2018-02-14T00-28-07.133"),
            ("a.b/x.y.z", "a.b/x.y-2018-02-14T00-28-07.133.z"),
        ] {
            assert_eq!(backup(Path::new(path), time), Path::new(name));
            assert_eq!(time_of(Path::new(path), Path::new(name)), Some(time));
        }
        for other in [
            "traces.json",
            "traces-.json",
            "traces-2018.json",
            "other-2018-02-14T00-28-07.133.json",
            "traces-2018-02-14T00-28-07.133",
        ] {
            assert_eq!(time_of(Path::new("traces.json"), Path::new(other)), None, "{other}");
        }
    }

    fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn full_files_are_moved_aside_and_only_so_many_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces.json");
        fs::write(folder.path().join("traces-other.json"), "not ours").unwrap();
        let rotation = Rotation { max_bytes: 10, max_age: None, max_backups: 2 };
        let mut writer = Writer::new(path.clone(), false, Some(rotation), None);
        for record in ["aaaa\n", "bbbb\n", "cccc\n", "a record of its own size\n", "dddd\n", "eeee\n", "ffff\n"] {
            writer.write(record.as_bytes()).unwrap();
        }
        let kept: Vec<Vec<u8>> = files(folder.path()).into_iter().map(|(_, content)| content).collect();
        // Backups by their time, then the others by name.
        assert_eq!(kept, [&b"a record of its own size\n"[..], b"dddd\neeee\n", b"not ours", b"ffff\n"]);
        // A start appends.
        Writer::new(path.clone(), false, Some(rotation), None).write(b"gggg\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ffff\ngggg\n");
    }

    #[test]
    fn backups_older_than_the_limit_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces.json");
        let now = SystemTime::now();
        for days in [1, 3, 5] {
            fs::write(backup(&path, now - DAY * days), days.to_string()).unwrap();
        }
        Rotation { max_bytes: 10, max_age: Some(DAY * 4), max_backups: 0 }.clean(&path, now).unwrap();
        let kept: Vec<Vec<u8>> = files(folder.path()).into_iter().map(|(_, content)| content).collect();
        assert_eq!(kept, [b"3", b"1"]);
    }
}
