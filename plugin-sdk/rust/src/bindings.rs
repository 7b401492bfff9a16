//! The interface as `wit-bindgen` reads it from `wit/`; exists on wasm32 only.
//! Its native twin, with the same signatures, is `memory`.

wit_bindgen::generate!({
    path: "../../wit",
    world: "span-processor",
    pub_export_macro: true,
    export_macro_name: "export_processor",
    default_bindings_module: "vespid_plugin::__private::bindings",
    with: { "vespid:plugin/types@0.1.0": crate::types },
});

pub use vespid::plugin::{batch, edits, host, patterns};

/// The timer's export alone. A plugin that has one exports both worlds, and
/// the linker makes their union of them, which is `timed-span-processor`; a
/// second set of bindings for that world would define the processor twice.
pub mod timed {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package vespid:sdk;
            world timer-alone { export vespid:plugin/timer@0.1.0; }
        ",
        world: "vespid:sdk/timer-alone",
        pub_export_macro: true,
        export_macro_name: "export_timer",
        default_bindings_module: "vespid_plugin::__private::bindings::timed",
    });
}
