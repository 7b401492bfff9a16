//! The Rust side of `wit/`, made by wasmtime's generator.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "span-processor",
    imports: { default: trappable },
    exports: { default: async },
});

/// The optional export, looked up by name because one linker serves both worlds.
pub const TIMER: &str = "vespid:plugin/timer@0.1.0";
