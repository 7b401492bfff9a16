//! Builds the plugins that are shipped inside the binary, for wasm32-wasip2, and
//! tells `plugin::builtin` where they are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A package of `plugins/` and so the name of a module.
const PLUGINS: [&str; 3] = ["attributes", "redaction", "resource"];

const TARGET: &str = "wasm32-wasip2";

/// What cargo sets for this build and what must not reach the other one.
const NOT_INHERITED: [&str; 8] = [
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_TARGET_DIR",
];

fn main() {
    let variable = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}")));
    let root = variable("CARGO_MANIFEST_DIR").join("..");
    for source in ["plugins", "plugin-sdk/rust/src", "plugin-sdk/rust/Cargo.toml", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    // The guests' own target folder, beside this build's: every profile shares it.
    let out = variable("OUT_DIR");
    let target = out.ancestors().nth(4).unwrap_or(&out).join("guests");
    build(&variable("CARGO"), &root, &target);
    for plugin in PLUGINS {
        let module = target.join(TARGET).join("release").join(format!("{plugin}.wasm"));
        println!("cargo::rustc-env=VESPID_BUILTIN_{}={}", plugin.to_uppercase(), module.display());
    }
}

fn build(cargo: &Path, root: &Path, target: &Path) {
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET, "--manifest-path"])
        .arg(root.join("plugins/Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    let built = command.status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "the bundled plugins could not be built; is their target there? `rustup target add {TARGET}`"
    );
}
