//! The plugin interface, by a guest that does what its config lists.

mod edits;
mod patterns;
mod reads;
