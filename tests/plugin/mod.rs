//! The plugin interface, by a guest that does what its config lists.

mod bundled;
mod edits;
mod languages;
mod neighbours;
mod patterns;
mod reads;
