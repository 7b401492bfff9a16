//! The two steps of a Go plugin's build that Go itself has no tool for.
//!
//!     componentize bindings WIT-FOLDER WORLD OUT-FOLDER
//!     componentize component WIT-FOLDER WORLD MODULE OUT-FILE
//!
//! They are the libraries behind `wit-bindgen go` and `wasm-tools component`, in
//! one small program: it builds in a fraction of the time of those two.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::{Resolve, WorldId};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["bindings", wit, world, out] => bindings(wit, world, Path::new(out)),
        ["component", wit, world, module, out] => component(wit, world, module, out),
        _ => Err("write `bindings WIT WORLD OUT` or `component WIT WORLD MODULE OUT`".into()),
    }
}

fn read(wit: &str, world: &str) -> Result<(Resolve, WorldId), Box<dyn Error>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    Ok((resolve, world))
}

/// Writes the Go packages that lend the world's imports and expect its exports.
fn bindings(wit: &str, world: &str, out: &Path) -> Done {
    let (mut resolve, world) = read(wit, world)?;
    let mut files = Files::default();
    wit_bindgen_go::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    for (name, content) in files.iter() {
        // The plugin has a go.mod of its own, whose sums are known.
        if name != "go.mod" {
            let path = out.join(name);
            fs::create_dir_all(path.parent().ok_or("a file has no folder")?)?;
            fs::write(path, content)?;
        }
    }
    Ok(())
}

/// Makes a component of the module that `GOOS=wasip1 go build` gives.
fn component(wit: &str, world: &str, module: &str, out: &str) -> Done {
    let (resolve, world) = read(wit, world)?;
    let mut module = fs::read(module)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module)?;
    encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    fs::write(out, encoder.validate(true).encode()?)?;
    Ok(())
}
