//! The plugins inside the binary: ordinary ones, built from `plugins/` with the
//! public SDK, under the names and with the keys of the Collector's processors.

/// Name and module.
const MODULES: [(&str, &[u8]); 3] = [
    ("attributes", include_bytes!(env!("VESPID_BUILTIN_ATTRIBUTES"))),
    ("redaction", include_bytes!(env!("VESPID_BUILTIN_REDACTION"))),
    ("resource", include_bytes!(env!("VESPID_BUILTIN_RESOURCE"))),
];

pub fn names() -> impl Iterator<Item = &'static str> {
    MODULES.iter().map(|(name, _)| *name)
}

pub fn module(name: &str) -> Option<(&'static str, &'static [u8])> {
    MODULES.iter().find(|(known, _)| *known == name).copied()
}
