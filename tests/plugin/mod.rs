//! The plugin interface, by a guest that does what its config lists.

mod bundled;
mod edits;
mod patterns;
mod reads;
