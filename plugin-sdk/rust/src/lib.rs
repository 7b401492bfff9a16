//! Write processors for the Vespid trace collector.
//!
//! A plugin is a type that implements [`Processor`], made into a WebAssembly
//! component by [`export!`]. For each batch of spans it reads columns from
//! [`Batch`] and orders changes in [`Edits`]; the batch itself never leaves the
//! collector, so that a plugin costs what it looks at.
//!
//! ```
//! use vespid_plugin::{Batch, Edits, Owner, Processor, Rejection, export};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     environment: String,
//! }
//!
//! struct Tidy {
//!     config: Config,
//! }
//!
//! impl Processor for Tidy {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self, Rejection> {
//!         Ok(Self { config })
//!     }
//!
//!     fn process(&mut self, batch: &Batch, edits: &mut Edits) -> Result<(), Rejection> {
//!         edits.drop_spans(&batch.rows_named(|name| name == "GET /healthz"), "health check");
//!         let rows: Vec<u32> = batch.rows().collect();
//!         edits.set(Owner::Span, &rows, "deployment.environment", &self.config.environment);
//!         Ok(())
//!     }
//! }
//!
//! export!(Tidy);
//! # fn main() {}
//! ```
//!
//! Everything but the exports also builds natively, where [`testing`] runs a
//! plugin over batches in memory.

mod batch;
// Public, since the export macros name it from the plugin's crate.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[allow(clippy::all)]
pub mod bindings;
mod columns;
// Off wasm32 only `testing` and unit tests read configs.
mod config;
mod edits;
#[cfg(target_arch = "wasm32")]
mod guest;
pub mod host;
#[cfg(not(target_arch = "wasm32"))]
mod memory;
pub mod patterns;
mod rejection;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod types;

#[cfg(target_arch = "wasm32")]
use bindings as raw;
#[cfg(not(target_arch = "wasm32"))]
use memory as raw;

pub use batch::{Batch, SpanKind, StatusCode};
pub use columns::{Changed, Column, Id, Ids, SpanId, TextColumn, Texts, TraceId};
pub use edits::Edits;
pub use patterns::Pattern;
pub use rejection::Rejection;
pub use serde;
pub use types::{ChangedColumn, Found, KeyValue, Owner, Value, ValueKind};

/// A plugin that edits or drops spans.
pub trait Processor: Sized {
    /// The plugin's `config`, as its user writes it. [`NoConfig`] for none;
    /// `#[serde(deny_unknown_fields)]` catches misspelt settings.
    type Config: serde::de::DeserializeOwned;

    /// Called once for each instance, before any batch; the collector runs
    /// several instances at a time. A rejection fails the configuration.
    fn new(config: Self::Config) -> Result<Self, Rejection>;

    /// Called once for each batch. After a rejection or a panic the batch is as
    /// it was; after a panic the instance is replaced by a new one.
    fn process(&mut self, batch: &Batch, edits: &mut Edits) -> Result<(), Rejection>;
}

/// A processor that also acts between batches; exported by
/// `export!(Type with timer)`.
pub trait Timer: Processor {
    /// Called about once a second, never during `process`. There is no batch:
    /// log, count, forget what is old.
    fn tick(&mut self) -> Result<(), Rejection>;
}

/// The config of a plugin that has no settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Makes a [`Processor`] the plugin of this crate, which must be a `cdylib`:
/// `export!(Tidy)`, or `export!(Tidy with timer)` for one that is a [`Timer`] as
/// well. On other targets than wasm32 it only checks the type.
#[macro_export]
macro_rules! export {
    ($plugin:ident) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__export_processor!($plugin);
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::__private::is_processor::<$plugin>;
    };
    ($plugin:ident with timer) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__export_processor!($plugin);

            impl $crate::__private::TimerGuest for Component {
                fn tick() -> ::std::result::Result<(), ::std::string::String> {
                    INSTANCE.with(|instance| instance.tick())
                }
            }

            $crate::__private::bindings::timed::export_timer!(
                Component with_types_in $crate::__private::bindings::timed
            );
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::__private::is_timer::<$plugin>;
    };
}

/// The part that both forms of `export!` share.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_processor {
    ($plugin:ident) => {
        struct Component;

        ::std::thread_local! {
            static INSTANCE: $crate::__private::Instance<$plugin> =
                const { $crate::__private::Instance::empty() };
        }

        impl $crate::__private::ProcessorGuest for Component {
            fn configure(
                config: ::std::string::String,
            ) -> ::std::result::Result<(), ::std::string::String> {
                INSTANCE.with(|instance| instance.configure(&config))
            }

            fn process() -> ::std::result::Result<(), ::std::string::String> {
                INSTANCE.with(|instance| instance.process())
            }
        }

        $crate::__private::bindings::export_processor!(
            Component with_types_in $crate::__private::bindings
        );
    };
}

/// For the macros alone.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::{
        bindings::{
            self, exports::vespid::plugin::processor::Guest as ProcessorGuest,
            timed::exports::vespid::plugin::timer::Guest as TimerGuest,
        },
        guest::Instance,
    };

    pub fn is_processor<P: crate::Processor>() {}
    pub fn is_timer<P: crate::Timer>() {}
}

/// The plugin in the project's README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
