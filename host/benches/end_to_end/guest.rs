//! The plugin that both benchmarks run, `tests/guests/bench`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Builds a plugin under measurement, a package of `tests/guests`, and returns its file.
pub fn build_guest(target: &Path, package: &str) -> Result<PathBuf> {
    let manifest = fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/guests/Cargo.toml"))
        .context("the benchmark's plugin is not there")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = target.join("guests");
    let built = Command::new(cargo)
        .args(["build", "--release", "--target", "wasm32-wasip2", "-p", package, "--manifest-path"])
        .arg(manifest)
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "the plugin `{package}` cannot be built");
    Ok(target.join("wasm32-wasip2/release").join(package.replace('-', "_") + ".wasm"))
}
