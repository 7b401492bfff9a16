//! The error that a plugin returns.

use std::error::Error;
use std::fmt;

/// An error that a plugin returns: from [`new`](crate::Processor::new) it fails
/// the configuration, from [`process`](crate::Processor::process) it takes the
/// batch the way that the plugin's `on_error` says. Its text reaches the log
/// and the account.
///
/// Every [`Error`] turns into one by `?`, its causes after it. (It is therefore
/// not an `Error` itself.)
#[derive(Clone, PartialEq, Eq)]
pub struct Rejection {
    text: String,
}

impl Rejection {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// Says what to try, on a line of its own, where the collector shows hints.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.text = format!("{}\nhint: {hint}", self.text);
        self
    }

    /// Several mistakes as one rejection; `None` without any. Each that begins with
    /// the path of its setting, `rules[1].key: …`, is shown with file, line and column.
    pub fn all(rejections: Vec<Self>) -> Option<Self> {
        let texts: Vec<_> = rejections.into_iter().map(|rejection| rejection.text).collect();
        (!texts.is_empty()).then(|| Self { text: texts.join("\n") })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    // Only a component's exports hand the text over as such.
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

impl<E: Error> From<E> for Rejection {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self { text }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
