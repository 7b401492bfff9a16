//! The `pprof` extension: known, so that configs that carry it still run. It reads
//! Go's runtime, which is not here.

use crate::config::{Problem, Section};

/// Says so, once.
pub fn read(mut section: Section<'_>) {
    for key in ["endpoint", "dialer", "block_profile_fraction", "mutex_profile_fraction", "save_to_file"] {
        section.ignore(key);
    }
    let mut warning = Problem::new(section.path(), "has no effect: there is no Go runtime to profile")
        .hint("remove it; `perf record -g` profiles this process, and `zpages` shows what it is doing");
    warning.at = section.at().cloned();
    section.problems().warning(warning);
    section.finish();
}
