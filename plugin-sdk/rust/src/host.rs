//! What else the collector lends a plugin. In a native test, log lines go to
//! standard error, and those of a [`run`](crate::testing::run) also, with its
//! metrics, into the [`Outcome`](crate::testing::Outcome).

use crate::raw::host as raw;
use crate::types::Label;

pub use crate::types::LogLevel;

/// Writes to the collector's log under the plugin's id. A flood is thinned and
/// counted. The macros [`info!`](crate::info) and its siblings format first.
pub fn log(level: LogLevel, message: &str) {
    raw::log(level, message);
}

/// Adds to a counter on the collector's metrics endpoint; `amount` is finite
/// and not negative.
pub fn count(name: &str, labels: &[(&str, &str)], amount: f64) {
    raw::counter_add(name, &owned(labels), amount);
}

/// Records a value in a histogram on the collector's metrics endpoint.
pub fn record(name: &str, labels: &[(&str, &str)], value: f64) {
    raw::histogram_record(name, &owned(labels), value);
}

/// Nanoseconds since the Unix epoch.
pub fn now() -> u64 {
    raw::now()
}

/// A random number, uniform over all of `u32`; not for secrets.
pub fn random() -> u32 {
    raw::random()
}

fn owned(labels: &[(&str, &str)]) -> Vec<Label> {
    let labels = labels.iter().map(|&(name, value)| Label { name: name.to_owned(), value: value.to_owned() });
    labels.collect()
}

/// Logs a formatted line at a [`LogLevel`].
#[macro_export]
macro_rules! log {
    ($level:expr, $($message:tt)+) => {
        $crate::host::log($level, &::std::format!($($message)+))
    };
}

/// Logs a formatted line at trace level.
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => { $crate::log!($crate::host::LogLevel::Trace, $($message)+) };
}

/// Logs a formatted line at debug level.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log!($crate::host::LogLevel::Debug, $($message)+) };
}

/// Logs a formatted line at info level.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log!($crate::host::LogLevel::Info, $($message)+) };
}

/// Logs a formatted line at warn level.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log!($crate::host::LogLevel::Warn, $($message)+) };
}

/// Logs a formatted line at error level.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log!($crate::host::LogLevel::Error, $($message)+) };
}
