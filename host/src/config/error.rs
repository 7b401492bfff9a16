//! Problems with what the user wrote.
//!
//! Nothing here stops at the first mistake: whoever reads the config adds to one
//! [`Problems`], reading goes on with a default, and the user sees all there is to
//! mend at once, as [`Errors`].

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::node::Position;

/// One mistake (or, among warnings, one remark): where, what, and what to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the setting, such as `processors.wasm/redact.limits.deadline`; empty
    /// when the problem is with a file as a whole.
    pub path: String,
    pub message: String,
    pub at: Option<Position>,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { path: path.into(), message: message.into(), at: None, hint: None }
    }

    pub fn at(mut self, at: &Position) -> Self {
        self.at = Some(at.clone());
        self
    }

    /// An empty hint is no hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        self.hint = (!hint.is_empty()).then_some(hint);
        self
    }

    /// The problem as it is shown when it does not keep the collector from starting.
    pub fn as_warning(&self) -> impl fmt::Display + '_ {
        Rendered { label: "warning", problem: self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Rendered { label: "error", problem: self }.fmt(f)
    }
}

struct Rendered<'a> {
    label: &'static str,
    problem: &'a Problem,
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.label)?;
        if !self.problem.path.is_empty() {
            write!(f, "{}: ", self.problem.path)?;
        }
        f.write_str(&self.problem.message)?;
        if let Some(at) = &self.problem.at {
            write!(f, "\n  --> {at}")?;
        }
        if let Some(hint) = &self.problem.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Collects problems while a config is read. Shared by reference, so that every
/// section of the config can add to it.
#[derive(Debug, Default)]
pub struct Problems {
    // A mutex and not a cell, so that components may be built in `Send` futures.
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Problems {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn error(&self, problem: Problem) {
        self.with(|found| found.errors.push(problem));
    }

    pub fn warning(&self, problem: Problem) {
        self.with(|found| found.warnings.push(problem));
    }

    pub fn has_errors(&self) -> bool {
        self.with(|found| !found.errors.is_empty())
    }

    /// Whether something is wrong with this very setting.
    pub fn has_error_of(&self, path: &str) -> bool {
        self.with(|found| found.errors.iter().any(|problem| problem.path == path))
    }

    /// How many errors there are so far.
    pub fn errors(&self) -> usize {
        self.with(|found| found.errors.len())
    }

    /// Takes the warnings collected so far.
    pub fn take_warnings(&self) -> Vec<Problem> {
        self.with(|found| std::mem::take(&mut found.warnings))
    }

    /// The warnings if nothing was wrong, otherwise all errors in the order in which
    /// they were found.
    pub fn finish(self) -> Result<Vec<Problem>, Errors> {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        if found.errors.is_empty() { Ok(found.warnings) } else { Err(Errors { problems: found.errors }) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Found) -> T) -> T {
        act(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Everything that is wrong with a config; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    problems: Vec<Problem>,
}

impl Errors {
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for Errors {
    fn from(problem: Problem) -> Self {
        Errors { problems: vec![problem] }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline() -> Problem {
        Problem::new("processors.wasm/redact.limits.deadline", "`50` is not a duration")
            .at(&Position::new("collector.yaml", 14, 17))
            .hint("write a unit, such as `50ms`")
    }

    #[test]
    fn an_error_names_the_setting_the_place_and_a_remedy() {
        assert_eq!(
            deadline().to_string(),
            "error: processors.wasm/redact.limits.deadline: `50` is not a duration\n  \
             --> collector.yaml:14:17\nhint: write a unit, such as `50ms`"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let bare = Problem::new("", "there is no file `x`").hint("");
        assert_eq!(bare.to_string(), "error: there is no file `x`");
        assert_eq!(bare.as_warning().to_string(), "warning: there is no file `x`");
    }

    #[test]
    fn several_errors_stand_apart_by_one_blank_line() {
        let problems = Problems::new();
        problems.error(deadline());
        problems.warning(Problem::new("b", "odd"));
        problems.error(Problem::new("a", "wrong"));
        assert!(problems.has_errors());
        let errors = problems.finish().unwrap_err();
        assert_eq!(errors.problems().len(), 2);
        assert!(errors.to_string().ends_with("such as `50ms`\n\nerror: a: wrong"));
    }

    #[test]
    fn warnings_alone_are_not_errors() {
        let problems = Problems::new();
        problems.warning(Problem::new("b", "odd"));
        assert_eq!(problems.finish().map(|warnings| warnings.len()), Ok(1));
    }
}
