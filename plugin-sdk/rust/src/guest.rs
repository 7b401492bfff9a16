//! What `export!` expands to: one instance of a plugin behind the component's
//! exports. Exists on wasm32 only.

use std::cell::RefCell;
use std::panic;

use crate::batch::Batch;
use crate::edits::Edits;
use crate::{Processor, Timer, config, error};

/// Holds the plugin from `configure` on.
pub struct Instance<P> {
    plugin: RefCell<Option<P>>,
}

impl<P: Processor> Instance<P> {
    pub const fn empty() -> Self {
        Self { plugin: RefCell::new(None) }
    }

    pub fn configure(&self, text: &str) -> Result<(), String> {
        log_panics();
        let plugin = config::read(text).and_then(P::new);
        *self.plugin.borrow_mut() = Some(plugin.map_err(|rejection| rejection.into_text())?);
        Ok(())
    }

    pub fn process(&self) -> Result<(), String> {
        let mut plugin = self.plugin.borrow_mut();
        let plugin = plugin.as_mut().ok_or(NOT_CONFIGURED)?;
        let done = plugin.process(&Batch::current(), &mut Edits::current());
        done.map_err(|rejection| rejection.into_text())
    }
}

impl<P: Timer> Instance<P> {
    pub fn tick(&self) -> Result<(), String> {
        let mut plugin = self.plugin.borrow_mut();
        let done = plugin.as_mut().ok_or(NOT_CONFIGURED)?.tick();
        done.map_err(|rejection| rejection.into_text())
    }
}

const NOT_CONFIGURED: &str = "called before it was configured";

/// A panic is told with its place in a line of its own: by itself it is a bare trap.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("(no text)");
        match panic.location() {
            Some(place) => error!("panicked at {}:{}: {message}", place.file(), place.line()),
            None => error!("panicked: {message}"),
        }
    }));
}
