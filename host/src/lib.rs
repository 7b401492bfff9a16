//! Vespid: a trace collector whose processors are WebAssembly components.
//! `host/ARCHITECTURE.md` is the map.

pub mod cli;
pub mod collector;
pub mod component;
pub mod config;
pub mod connector;
pub mod exporter;
pub mod extension;
pub mod pipeline;
pub mod plugin;
pub mod receiver;
pub mod registry;
pub mod storage;
pub mod telemetry;
pub mod traces;
pub mod transport;
