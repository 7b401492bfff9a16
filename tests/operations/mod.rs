//! Operating the collector: its command line, its pages, its start and its end.

mod account;
mod cache;
mod commands;
mod logs;
mod memory;
mod metrics;
mod pages;
mod push;
mod reload;
mod shutdown;
mod sources;
mod watch;
mod why;
