//! How the last reload went, under the names that Prometheus and Alloy have for it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

use super::instrument::{Counter, Kind, Point, Snapshot, Value};

/// A start is the first load, and it went well.
#[derive(Debug)]
pub struct Reloads {
    last: Mutex<Last>,
    succeeded: Counter,
    failed: Counter,
}

#[derive(Debug)]
struct Last {
    succeeded: bool,
    success: SystemTime,
}

impl Default for Reloads {
    fn default() -> Self {
        let last = Mutex::new(Last { succeeded: true, success: SystemTime::now() });
        Self { last, succeeded: Counter::default(), failed: Counter::default() }
    }
}

impl Reloads {
    /// The config that was read now is the one that runs.
    pub fn succeeded(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Last { succeeded: true, success: SystemTime::now() };
        self.succeeded.inc();
    }

    /// The former config runs on.
    pub fn failed(&self) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).succeeded = false;
        self.failed.inc();
    }

    pub(super) fn gather(&self) -> [Snapshot; 3] {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let family =
            |name: &str, help, unit, kind, points| Snapshot { name: name.to_owned(), help, unit, kind, points };
        let gauge = |value| vec![Point { labels: vec![], value }];
        let success = last.success.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let outcome = |outcome: &str, counter: &Counter| Point {
            labels: vec![("outcome".to_owned(), outcome.to_owned())],
            value: Value::Integer(i64::try_from(counter.get()).unwrap_or(i64::MAX)),
        };
        let reloads = vec![outcome("success", &self.succeeded), outcome("failure", &self.failed)];
        [
            family(
                "vespid_config_last_reload_successful",
                "Whether the last attempt to load the config succeeded",
                "",
                Kind::Gauge,
                gauge(Value::Integer(i64::from(last.succeeded))),
            ),
            family(
                "vespid_config_last_reload_success_timestamp_seconds",
                "When the config that runs was loaded",
                "s",
                Kind::Gauge,
                gauge(Value::Float(success)),
            ),
            family("vespid_config_reloads", "Reloads by what became of them", "{reload}", Kind::Counter, reloads),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_the_time_of_the_last_success() {
        let reloads = Reloads::default();
        let values = || reloads.gather().map(|family| family.points.into_iter().map(|it| it.value).collect::<Vec<_>>());
        let [successful, time, counts] = values();
        assert_eq!((successful, counts), (vec![Value::Integer(1)], vec![Value::Integer(0); 2]));
        reloads.failed();
        let [successful, later, counts] = values();
        assert_eq!((successful, later), (vec![Value::Integer(0)], time));
        assert_eq!(counts, [Value::Integer(0), Value::Integer(1)]);
        reloads.succeeded();
        assert_eq!(values()[0], [Value::Integer(1)]);
    }
}
