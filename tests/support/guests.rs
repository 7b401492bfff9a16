//! The plugins that tests load, built from source once for each run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::root;

const TARGET: &str = "wasm32-wasip2";

/// A guest of `tests/guests`, or `tidy`, the example plugin.
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).join(format!("{name}.wasm"))
}

/// The build's folder; the tests' own temporary one lies in it.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("guests")
}

fn build() -> PathBuf {
    cargo(&root().join("tests/guests/Cargo.toml"), &["--package=hostile", "--package=script"]);
    cargo(&root().join("examples/rust-plugin/Cargo.toml"), &[]);
    target().join(TARGET).join("release")
}

fn cargo(manifest: &Path, more: &[&str]) {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--release", "--target", TARGET, "--manifest-path"]).arg(manifest).args(more);
    command.env("CARGO_TARGET_DIR", target());
    // Flags for the native build are none for this one.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    let output = command.output().expect("cargo can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    let missing = said.contains("target may not be installed") || said.contains("can't find crate for `core`");
    assert!(!missing, "the guests cannot be built; run `rustup target add {TARGET}`\n{said}");
    assert!(output.status.success(), "{} cannot be built:\n{said}", manifest.display());
}
