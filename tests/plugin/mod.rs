//! The plugin interface, by a guest that does what its config lists.

mod edits;
mod languages;
mod reads;
