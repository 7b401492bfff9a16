//! The gate that thins what a plugin may write into the log.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tracing::Level;

/// Longer messages are cut.
const MESSAGE_LIMIT: usize = 8192;

/// Lets through so many messages a second, and says how many it held back.
pub struct LogGate {
    rate: f64,
    /// The pipeline in which the plugin stands.
    pipeline: String,
    state: Mutex<GateState>,
}

struct GateState {
    allowance: f64,
    filled: Instant,
    held_back: u64,
}

impl LogGate {
    pub fn new(per_second: u32, pipeline: &str) -> Self {
        let rate = f64::from(per_second);
        let state = GateState { allowance: rate.max(1.0), filled: Instant::now(), held_back: 0 };
        Self { rate, pipeline: pipeline.to_owned(), state: Mutex::new(state) }
    }

    /// The messages held back since the last that passed, if one more may pass now.
    fn pass(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let gained = now.duration_since(state.filled).as_secs_f64() * self.rate;
        state.allowance = (state.allowance + gained).min(self.rate.max(1.0));
        state.filled = now;
        if state.allowance < 1.0 {
            state.held_back += 1;
            return None;
        }
        state.allowance -= 1.0;
        Some(std::mem::take(&mut state.held_back))
    }

    /// Logs a plugin's message under its id.
    pub fn write(&self, id: &str, level: Level, message: &str) {
        let Some(held_back) = self.pass() else { return };
        let pipeline = self.pipeline.as_str();
        if held_back > 0 {
            tracing::warn!(
                processor = id,
                pipeline,
                held_back,
                "the plugin logged more than `limits.log_rate` lets through"
            );
        }
        let mut end = message.len().min(MESSAGE_LIMIT);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let message = message.get(..end).unwrap_or_default();
        match level {
            Level::ERROR => tracing::error!(processor = id, pipeline, "{message}"),
            Level::WARN => tracing::warn!(processor = id, pipeline, "{message}"),
            Level::INFO => tracing::info!(processor = id, pipeline, "{message}"),
            Level::DEBUG => tracing::debug!(processor = id, pipeline, "{message}"),
            Level::TRACE => tracing::trace!(processor = id, pipeline, "{message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_a_burst_through_and_counts_the_rest() {
        let gate = LogGate::new(3, "traces");
        let passed = (0..10).filter(|_| gate.pass().is_some()).count();
        assert_eq!(passed, 3);
        assert_eq!(gate.state.lock().unwrap().held_back, 7);
    }
}
