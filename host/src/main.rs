//! The `vespid` command.

use std::process::ExitCode;

/// Batches are allocated and freed at every step; this allocator makes a tenth
/// of the difference (`cargo bench --bench end_to_end`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    vespid::cli::main()
}
