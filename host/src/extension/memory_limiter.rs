//! The `memory_limiter`: watches what the process has of the machine's memory, and
//! refuses spans while that is too much. As a processor it refuses batches, as an
//! extension that a receiver's `middlewares` name it refuses requests before their
//! bodies are read. Beside it requests are limited as they are without it, to a share of
//! the limiter's limit where that is less.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::component::{BoxFuture, ConsumeError, Gate, Id, Processor, Task};
use crate::config::{Section, Value};
use crate::telemetry::{LimiterMetrics, ProcessorMetrics, reason};
use crate::traces::Batch;
use crate::transport::budget::{Ceiling, give_memory_back, memory_limit, resident_memory};
use crate::transport::status::RETRY_AFTER;

/// In bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimiterSettings {
    interval: Duration,
    /// With more than this nothing is taken.
    soft: u64,
    /// What the process is to stay below.
    limit: u64,
}

const MIB: u64 = 1 << 20;
/// To measure more often than this is of no use.
const SHORTEST: Duration = Duration::from_millis(10);

impl LimiterSettings {
    pub fn read(mut section: Section<'_>) -> Self {
        let interval = read_interval(&mut section);
        // When Go collects garbage: there is none here.
        for limit in ["soft_limited", "hard_limited"] {
            for bound in ["min_gc_interval_when", "max_gc_interval_when"] {
                section.duration(&format!("{bound}_{limit}"));
            }
        }
        let mut of = |key: &str| section.u64_or(key, 0);
        let [limit, spike] = ["limit_mib", "spike_limit_mib"].map(&mut of);
        let [limit_percentage, spike_percentage] = ["limit_percentage", "spike_limit_percentage"].map(of);
        let (limit, spike, unit) = match limit {
            0 => (limit_percentage, spike_percentage, "percentage"),
            _ => (limit, spike, "mib"),
        };
        if limit == 0 {
            let hint = "write `limit_percentage: 80` and `spike_limit_percentage: 20`";
            section.problem("'limit_mib' or 'limit_percentage' must be greater than zero", hint);
        } else if limit_percentage > 100 || spike_percentage > 100 {
            let keys = "'limit_percentage' and 'spike_limit_percentage'";
            section.problem(format!("{keys} must be greater than zero and less than or equal to hundred"), "");
        } else if spike >= limit {
            let key = format!("spike_limit_{unit}");
            let message = format!("'{key}' must be smaller than 'limit_{unit}'");
            section.problem_at(&key, message, "a fifth of the limit is usual");
        }
        section.finish();
        let bytes = |amount: u64| match unit {
            "mib" => amount.saturating_mul(MIB),
            _ => share(memory_limit(), amount),
        };
        let limit = bytes(limit);
        let spike = if spike == 0 { limit / 5 } else { bytes(spike) };
        Self { interval, soft: limit.saturating_sub(spike), limit }
    }
}

fn read_interval(section: &mut Section<'_>) -> Duration {
    const KEY: &str = "check_interval";
    // A number alone is nanoseconds to Go, and stands in configs that mean seconds.
    if let Some(Value::Integer(1..)) = section.node(KEY).map(|node| &node.value) {
        section.warning_at(KEY, "is a number without a unit, which the Collector reads as nanoseconds", "write `1s`");
        return SHORTEST;
    }
    let interval = section.duration_or(KEY, Duration::ZERO);
    if interval.is_zero() && !section.problems().has_error_of(&section.path_of(KEY)) {
        section.problem_at(KEY, "'check_interval' must be greater than zero", "write `1s`");
    }
    interval.max(SHORTEST)
}

fn share(of: u64, percentage: u64) -> u64 {
    let share = u128::from(of) * u128::from(percentage) / 100;
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// Measures, for all who ask.
pub struct Limiter {
    state: Arc<State>,
    _watch: Task,
    /// What comes between two measurements has a bound too.
    _ceiling: Ceiling,
}

struct State {
    id: Id,
    soft: u64,
    refuses: AtomicBool,
}

impl Limiter {
    /// Measures at once, and then after each interval.
    pub fn new(id: Id, settings: &LimiterSettings) -> Self {
        let state = Arc::new(State { id, soft: settings.soft, refuses: AtomicBool::new(false) });
        state.measure();
        let (watched, interval) = (Arc::clone(&state), settings.interval);
        let watch = Task::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                watched.measure();
            }
        });
        Self { state, _watch: watch, _ceiling: Ceiling::new(settings.limit) }
    }
}

impl State {
    fn measure(&self) {
        let Some(mut resident) = resident_memory() else { return };
        if resident > self.soft {
            // What nobody uses is no reason to refuse anything.
            give_memory_back();
            resident = resident_memory().unwrap_or(resident);
        }
        let refuses = resident > self.soft;
        if refuses == self.refuses.swap(refuses, Ordering::Relaxed) {
            return;
        }
        let (id, cur_mem_mib) = (&self.id, resident / MIB);
        if refuses {
            tracing::warn!(component = %id, cur_mem_mib, "Memory usage is above soft limit. Refusing data.");
        } else {
            tracing::info!(
                component = %id, cur_mem_mib,
                "Memory usage back within limits. Resuming normal operation."
            );
        }
    }
}

impl Gate for Limiter {
    fn admit(&self) -> Result<(), ConsumeError> {
        if self.state.refuses.load(Ordering::Relaxed) {
            let refused = ConsumeError::retryable("data refused due to high memory usage");
            return Err(refused.after(Some(RETRY_AFTER)));
        }
        Ok(())
    }
}

/// The processor, in its place in a pipeline.
pub struct MemoryLimiter {
    pub limiter: Arc<Limiter>,
    pub processor_metrics: ProcessorMetrics,
    pub metrics: LimiterMetrics,
}

impl MemoryLimiter {
    fn check(&self, mut batch: Batch) -> Result<Batch, ConsumeError> {
        let spans = batch.spans() as u64;
        self.processor_metrics.incoming.inc_by(spans);
        self.limiter.admit().inspect_err(|_| {
            self.metrics.refused.inc_by(spans);
            batch.held.all_rejected(&self.processor_metrics.clerk, reason::MEMORY_LIMIT);
        })?;
        self.metrics.accepted.inc_by(spans);
        self.processor_metrics.outgoing.inc_by(spans);
        Ok(batch)
    }
}

impl Processor for MemoryLimiter {
    fn process(&self, batch: Batch) -> BoxFuture<'_, Result<Batch, ConsumeError>> {
        Box::pin(std::future::ready(self.check(batch)))
    }

    fn looks_inside(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_memory_that_nobody_knows_is_no_limit() {
        assert_eq!(share(1000, 80), 800);
        assert_eq!(share(u64::MAX, 100), u64::MAX);
        assert!(share(u64::MAX, 99) > 1 << 60);
    }
}
