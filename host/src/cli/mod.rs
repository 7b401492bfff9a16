//! The command line: the Collector's flags, and a module for each subcommand.

mod components;
mod quickstart;
mod run;
mod sample;
mod send;
mod validate;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "vespid",
    version,
    about = "A trace collector whose processors are WebAssembly components",
    args_conflicts_with_subcommands = true
)]
struct Command {
    #[command(subcommand)]
    subcommand: Option<Subcommands>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Check a config whole, plugins compiled and configured, without opening a port
    Validate(ConfigArgs),
    /// List the components that exist
    Components,
    /// Send sample spans to a collector
    Send(send::SendArgs),
    /// See a plugin at work, with sample spans and nothing else needed
    Quickstart(quickstart::QuickstartArgs),
}

/// Where the config comes from.
#[derive(Debug, Clone, Args)]
struct ConfigArgs {
    /// A config: a path, `file:PATH`, `env:NAME` or `yaml:TEXT`; several are merged
    #[arg(long, value_name = "URI")]
    config: Vec<String>,
    /// A setting over all configs, such as `--set=exporters.otlp.timeout=2s`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Taken for compatibility: there are no gates
    #[arg(long, value_name = "GATES", value_delimiter = ',', allow_hyphen_values = true)]
    feature_gates: Vec<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How long a shutdown may take
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = humantime::parse_duration)]
    grace_period: Duration,
}

/// The whole program.
pub fn main() -> ExitCode {
    let command = Command::parse();
    let done = match command.subcommand {
        None => run::execute(&command.run),
        Some(Subcommands::Validate(args)) => validate::execute(&args),
        Some(Subcommands::Components) => components::execute(),
        Some(Subcommands::Send(args)) => send::execute(&args),
        Some(Subcommands::Quickstart(args)) => quickstart::execute(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What a person sees names the component, the place and the fix already.
            let text = format!("{error:#}");
            eprintln!("{}{text}", if text.starts_with("error: ") { "" } else { "error: " });
            ExitCode::FAILURE
        }
    }
}
