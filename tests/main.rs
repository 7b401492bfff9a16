//! What users are promised, shown on the real binary over real sockets.

mod architecture;
mod clients;
mod config;
mod conformance;
mod connector;
mod delivery;
mod exporter;
mod faults;
mod hostile;
mod line;
mod operations;
mod plugin;
mod receiver;
mod support;
