//! The plugins that tests load, built from source once for each run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

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

/// `tidy` or `fails` in another language, which `.ci/languages.sh` builds; an
/// error says why there is none.
pub fn in_language(language: &str, name: &str) -> Result<PathBuf, String> {
    let module = target().join("languages").join(language).join(format!("{name}.wasm"));
    let Some(built) = changed(&module) else {
        return Err(format!("examples/{language}-plugin is not built; run `.ci/languages.sh {language}`"));
    };
    let sources = [format!("examples/{language}-plugin"), "tests/guests/fails".into(), "wit".into()];
    match sources.iter().find_map(|folder| newer(&root().join(folder), built)) {
        None => Ok(module),
        Some(newer) => Err(format!(
            "{} is newer than what was built of it; run `.ci/languages.sh {language}`",
            newer.strip_prefix(root()).unwrap_or(&newer).display()
        )),
    }
}

fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|about| about.modified()).ok()
}

/// A source below this folder that was written after this time.
fn newer(folder: &Path, than: SystemTime) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).find_map(|path| match is_no_source(&path) {
        true => None,
        false if path.is_dir() => newer(&path, than),
        false => (changed(&path)? > than).then_some(path),
    })
}

/// What no module is made from: what a build made, as the `.gitignore` files say, and documents.
fn is_no_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folders = [".build", "node_modules", "__pycache__", "wit_exports.go"];
    folders.contains(&&*name) || name.starts_with("vespid_plugin_") || name.ends_with(".wasm") || name.ends_with(".md")
}

fn build() -> PathBuf {
    cargo(&root().join("tests/guests/Cargo.toml"), &["--package=fails", "--package=hostile", "--package=script"]);
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
