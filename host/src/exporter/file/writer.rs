//! The file itself: whole records in it, or none of a record.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::SystemTime;

use super::rotation::Rotation;

#[derive(Debug, thiserror::Error)]
#[error("{} cannot be {what}: {cause}", path.display())]
pub struct WriteError {
    path: PathBuf,
    what: &'static str,
    cause: io::Error,
}

/// Where records go. The file is opened with the first of them, since checking
/// a config must not empty it.
pub struct Writer {
    path: PathBuf,
    /// Whether what is in the file when it is opened stays.
    append: bool,
    rotation: Option<Rotation>,
    /// The mode of folders that are made where they are missing.
    folders: Option<u32>,
    /// The time in the name of the last backup.
    rotated: SystemTime,
    file: Option<Open>,
}

struct Open {
    file: File,
    /// None where the path names a pipe or a device, which is only written to.
    size: Option<u64>,
    identity: (u64, u64),
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Writer {
    pub fn new(path: PathBuf, append: bool, rotation: Option<Rotation>, folders: Option<u32>) -> Self {
        // What is rotated away must not be lost at a start.
        let append = append || rotation.is_some();
        Self { path, append, rotation, folders, rotated: SystemTime::UNIX_EPOCH, file: None }
    }

    /// Appends a record. Blocks.
    pub fn write(&mut self, record: &[u8]) -> Result<(), WriteError> {
        let mut open = match self.file.take() {
            Some(open) if self.is_in_place(&open) => open,
            _ => self.open()?,
        };
        if let (Some(rotation), Some(size)) = (self.rotation, open.size)
            && size > 0
            && size + record.len() as u64 > rotation.max_bytes
        {
            drop(open);
            self.rotated = rotation.rotate(&self.path, self.rotated).map_err(|cause| self.error("rotated", cause))?;
            open = self.open()?;
        }
        if let Err(cause) = open.file.write_all(record) {
            // What of the record is in the file goes, so that the next one starts on a line
            // of its own; the file is opened anew for it.
            let cut = open.size.map(|size| open.file.set_len(size));
            if let Some(Err(error)) = cut {
                tracing::warn!(path = %self.path.display(), %error, "part of a request stays in the file");
            }
            return Err(self.error("written", cause));
        }
        open.size = open.size.map(|size| size + record.len() as u64);
        self.file = Some(open);
        Ok(())
    }

    /// Whether the path still leads to the open file: someone may have moved it away.
    fn is_in_place(&self, open: &Open) -> bool {
        open.size.is_none() || self.path.metadata().is_ok_and(|found| identity(&found) == open.identity)
    }

    fn open(&mut self) -> Result<Open, WriteError> {
        if let (Some(mode), Some(folder)) = (self.folders, self.path.parent())
            && !folder.as_os_str().is_empty()
        {
            let made = DirBuilder::new().recursive(true).mode(mode).create(folder);
            made.map_err(|cause| self.error("put into its folder", cause))?;
        }
        // Spans hold what is nobody else's business.
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let file = options.open(&self.path).map_err(|cause| self.error("opened", cause))?;
        let metadata = file.metadata().map_err(|cause| self.error("opened", cause))?;
        let mut size = metadata.is_file().then_some(metadata.len());
        if !self.append && size.is_some_and(|size| size > 0) {
            file.set_len(0).map_err(|cause| self.error("emptied", cause))?;
            size = Some(0);
        }
        // It is emptied once; what is opened later may hold records of ours.
        self.append = true;
        Ok(Open { file, size, identity: identity(&metadata) })
    }

    fn error(&self, what: &'static str, cause: io::Error) -> WriteError {
        WriteError { path: self.path.clone(), what, cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_emptied_once_and_found_again_where_it_was_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces.json");
        fs::write(&path, "old").unwrap();
        let mut writer = Writer::new(path.clone(), false, None, None);
        writer.write(b"a").unwrap();
        writer.write(b"b").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ab");
        fs::rename(&path, folder.path().join("moved")).unwrap();
        writer.write(b"c").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"c");
        fs::write(&path, "from elsewhere,").unwrap();
        writer.write(b"d").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"from elsewhere,d");
        let mut writer = Writer::new(path.clone(), true, None, None);
        writer.write(b"e").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"from elsewhere,de");
    }

    #[test]
    fn a_lost_folder_is_an_error_that_passes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/traces.json");
        let mut writer = Writer::new(path.clone(), false, None, None);
        let error = writer.write(b"a").unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} cannot be opened: ", path.display())), "{error}");
        fs::create_dir(folder.path().join("sub")).unwrap();
        writer.write(b"a").unwrap();
        fs::remove_dir_all(folder.path().join("sub")).unwrap();
        writer.write(b"b").unwrap_err();
        let mut writer = Writer::new(path.clone(), false, None, Some(0o700));
        writer.write(b"c").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"c");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_full_device_is_an_error_with_its_path() {
        let mut writer = Writer::new("/dev/full".into(), false, None, None);
        let error = writer.write(b"a").unwrap_err().to_string();
        assert!(error.starts_with("/dev/full cannot be written: "), "{error}");
    }
}
