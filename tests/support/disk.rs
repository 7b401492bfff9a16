//! Disks that are small, and can turn read-only.

use std::path::Path;

use tempfile::TempDir;

/// A small disk of its own, if this process may make one.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(flags: libc::c_ulong, options: &std::ffi::CStr, folder: &Path) -> bool {
        let path = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
        let tmpfs = c"tmpfs".as_ptr();
        // SAFETY: a system call with texts that end in zeros.
        unsafe { libc::mount(tmpfs, path.as_ptr(), tmpfs, flags, options.as_ptr().cast()) == 0 }
    }

    /// `None` where nothing may be mounted.
    pub fn new() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        Self::mount(0, c"size=1m", folder.path()).then_some(Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn read_only(&self, is_read_only: bool) {
        let flags = libc::MS_REMOUNT | if is_read_only { libc::MS_RDONLY } else { 0 };
        assert!(Self::mount(flags, c"size=1m", self.0.path()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let path = std::ffi::CString::new(self.0.path().to_str().unwrap()).unwrap();
        // SAFETY: a system call with a text that ends in zero; the folder is our own.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}
