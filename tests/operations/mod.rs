//! Operating the collector: its command line, its pages, its start and its end.

mod cache;
mod commands;
mod pages;
mod shutdown;
