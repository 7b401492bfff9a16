//! How the components are: what the health pages tell beyond ready and not ready.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// How long an error's text may be on a page.
const ERROR_LIMIT: usize = 1024;

/// One component's state. To say that all is well again, as after each request,
/// costs one look at a flag.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ailing: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    /// When it last became well.
    well_since: Mutex<Option<SystemTime>>,
}

/// What is wrong with a component, and may pass.
#[derive(Debug, Clone)]
pub struct Trouble {
    pub error: String,
    /// When it began.
    pub since: SystemTime,
    pub began: Instant,
}

impl Status {
    /// The component's last request has failed.
    pub fn ails(&self, error: &str) {
        let mut trouble = self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let error = error.chars().take(ERROR_LIMIT).collect();
        match trouble.as_mut() {
            Some(trouble) => trouble.error = error,
            None => *trouble = Some(Trouble { error, since: SystemTime::now(), began: Instant::now() }),
        }
        self.0.ailing.store(true, Ordering::Relaxed);
    }

    /// It has done its work.
    pub fn is_well(&self) {
        if self.0.ailing.load(Ordering::Relaxed) {
            let mut trouble = self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            *trouble = None;
            self.0.ailing.store(false, Ordering::Relaxed);
            *self.0.well_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(SystemTime::now());
        }
    }

    pub fn trouble(&self) -> Option<Trouble> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When it last became well, if it ever was not.
    pub fn well_since(&self) -> Option<SystemTime> {
        *self.0.well_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All components' states, by `kind:id`.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<BTreeMap<String, Status>>);

impl Statuses {
    /// The state of a component, which is well at first.
    pub fn of(&self, component: &str) -> Status {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(component.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_keeps_its_beginning_and_ends_with_success() {
        let statuses = Statuses::default();
        let status = statuses.of("exporter:otlp");
        assert!(status.trouble().is_none() && status.well_since().is_none());
        status.ails("one");
        let began = status.trouble().unwrap().began;
        status.ails("two");
        let trouble = statuses.of("exporter:otlp").trouble().unwrap();
        assert_eq!((trouble.began, trouble.error.as_str()), (began, "two"));
        status.is_well();
        assert!(status.trouble().is_none() && status.well_since().is_some());
    }
}
