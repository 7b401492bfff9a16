//! `vespid components`: what a config may name, as YAML.

use serde::Serialize;

use crate::registry::{EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS};

#[derive(Serialize)]
struct Components {
    buildinfo: BuildInfo,
    receivers: Vec<Component>,
    processors: Vec<Component>,
    exporters: Vec<Component>,
    connectors: Vec<Component>,
    extensions: Vec<Component>,
}

#[derive(Serialize)]
struct BuildInfo {
    command: &'static str,
    description: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Component {
    name: &'static str,
    stability: Stability,
}

#[derive(Serialize)]
struct Stability {
    traces: &'static str,
}

pub(super) fn execute() -> anyhow::Result<()> {
    let list = |names: &[&'static str]| {
        names.iter().map(|&name| Component { name, stability: Stability { traces: "Beta" } }).collect()
    };
    let components = Components {
        buildinfo: BuildInfo {
            command: "vespid",
            description: env!("CARGO_PKG_DESCRIPTION"),
            version: env!("CARGO_PKG_VERSION"),
        },
        receivers: list(RECEIVERS),
        processors: list(PROCESSORS),
        exporters: list(EXPORTERS),
        connectors: vec![],
        extensions: list(EXTENSIONS),
    };
    print!("{}", serde_yaml::to_string(&components)?);
    Ok(())
}
