//! Real clients and real back ends. What a machine lacks for them (a `tempo`
//! binary, Jaeger, Python, an image) is said loudly, once, and its tests pass.

mod apps;
mod container;
mod jaeger;
mod sdk_go;
mod sdk_rust;
pub mod server;
mod shop;
mod tempo;
