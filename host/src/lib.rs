//! Vespid: a trace collector whose processors are WebAssembly components.
//! `host/ARCHITECTURE.md` is the map.

pub mod component;
pub mod config;
pub mod plugin;
pub mod telemetry;
pub mod traces;
