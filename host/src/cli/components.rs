//! `vespid components`: what a config may name, as YAML of the Collector's form.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::registry::{ALIASES, CONNECTORS, EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS};

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
    module: &'static str,
    /// The name to use in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecated_alias_of: Option<&'static str>,
    stability: Stability,
}

/// What a component works on, and how far it is: `traces: Beta`.
type Stability = BTreeMap<&'static str, &'static str>;

const MODULE: &str = concat!("github.com/vespid/vespid v", env!("CARGO_PKG_VERSION"));
const LEVEL: &str = "Beta";

pub(super) fn execute() -> anyhow::Result<()> {
    let list = |names: &[&'static str], works_on: &'static str, aliases: &[(&str, &'static str)]| {
        let component = |&name: &&'static str| {
            let alias_of = aliases.iter().find(|(alias, _)| *alias == name).map(|(_, name)| *name);
            let stability = [(works_on, if alias_of.is_some() { "Deprecated" } else { LEVEL })].into();
            Component { name, module: MODULE, deprecated_alias_of: alias_of, stability }
        };
        names.iter().map(component).collect()
    };
    let components = Components {
        buildinfo: BuildInfo {
            command: "vespid",
            description: env!("CARGO_PKG_DESCRIPTION"),
            version: env!("CARGO_PKG_VERSION"),
        },
        receivers: list(RECEIVERS, "traces", &[]),
        processors: list(PROCESSORS, "traces", &[]),
        exporters: list(EXPORTERS, "traces", ALIASES),
        connectors: list(CONNECTORS, "traces-to-traces", &[]),
        extensions: list(EXTENSIONS, "extension", &[]),
    };
    print!("{}", serde_yaml::to_string(&components)?);
    Ok(())
}
