//! The `nop` receiver: it opens nothing and receives nothing, for pipelines that
//! something else feeds or that are not to receive yet.

use crate::config::Section;

/// Nothing can be set.
pub fn read(section: Section<'_>) {
    section.finish();
}
