//! Programs that are no part of the tree: where they are found, and ports for
//! those that cannot choose their own.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::support::scratch;

/// Says that a suite is skipped: once for each reason, and past the test
/// harness, which hides what a passing test prints.
pub fn skipped(why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(why.to_owned()) {
        tell(&format!("SKIPPED: {why}"));
    }
}

/// A line that is seen although its test passes.
pub fn tell(line: &str) {
    let _ = std::io::stderr().write_all(format!("\n{line}\n").as_bytes());
}

/// Where `.ci/jaeger.sh` and `.ci/python.sh` put what they make.
pub fn cache() -> PathBuf {
    let named = std::env::var_os("VESPID_TEST_CACHE").filter(|value| !value.is_empty());
    named.map_or_else(|| scratch().parent().unwrap().join("test-servers"), PathBuf::from)
}

/// A program by its variable, or else on the PATH.
pub fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = &named {
        assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
    }
    named.or_else(|| std::env::split_paths(&std::env::var_os("PATH")?).map(|it| it.join(name)).find(|it| it.is_file()))
}

/// Ports that are free, for programs that cannot be told "any". They lie below
/// those that the system hands out, so that no socket of another test gets one.
pub fn free_ports<const N: usize>() -> [u16; N] {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs side by side begin at different places.
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    std::array::from_fn(|_| {
        loop {
            let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return port;
            }
        }
    })
}

/// What a command prints, if it ends well.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
