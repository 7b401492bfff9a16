//! The command line: the Collector's flags, and a module for each subcommand.

mod components;
mod gates;
mod load;
mod print_config;
mod quickstart;
mod run;
mod sample;
mod send;
mod signals;
mod validate;
mod watch;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::config::{self, Config, Problems, Sources};
use crate::transport::fetch::fetch;
use gates::Gates;

#[derive(Debug, Parser)]
#[command(
    name = "vespid",
    version,
    disable_version_flag = true,
    about = "A trace collector whose processors are WebAssembly components",
    args_conflicts_with_subcommands = true
)]
struct Command {
    #[command(subcommand)]
    subcommand: Option<Subcommands>,
    #[command(flatten)]
    run: RunArgs,
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Check a config whole, plugins compiled and configured, without opening a port
    Validate(ConfigArgs),
    /// List the components that exist
    Components,
    /// List the feature gates that have an effect
    Featuregate {
        /// This one alone
        id: Option<String>,
    },
    /// Print the config, merged and filled in, with its secrets hidden
    PrintConfig(print_config::PrintConfigArgs),
    /// Ask a running collector what became of a trace's spans, and why
    Why(why::WhyArgs),
    /// Send sample spans to a collector
    Send(send::SendArgs),
    /// See a plugin at work, with sample spans and nothing else needed
    Quickstart(quickstart::QuickstartArgs),
}

/// Where the config comes from.
#[derive(Debug, Clone, Args)]
struct ConfigArgs {
    /// A config: a path, `file:PATH`, `env:NAME`, `yaml:TEXT` or a URL; several are merged
    #[arg(long, value_name = "URI")]
    config: Vec<String>,
    /// A setting over all configs, such as `--set=exporters.otlp.timeout=2s`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Switches of the Collector, such as `a,-b,+c`; those not known here have no effect
    #[arg(long, value_name = "GATES", allow_hyphen_values = true)]
    feature_gates: Vec<String>,
    /// Leave out pipelines of metrics, logs and profiles, and what only they use
    #[arg(long)]
    traces_only: bool,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Reload when the config's files or its plugins change, as SIGHUP does
    #[arg(long)]
    watch: bool,
    /// How long a shutdown may take, and requests that a reload finds under way
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = humantime::parse_duration)]
    grace_period: Duration,
}

/// Flags that may be written with one dash, as programs in Go take them.
const FLAGS: [&str; 6] = ["config", "set", "feature-gates", "traces-only", "grace-period", "watch"];

/// `-config=x` as `--config=x`.
fn with_two_dashes(argument: OsString) -> OsString {
    let flag = argument.to_str().and_then(|text| text.strip_prefix('-'));
    let name = flag.map(|flag| flag.split('=').next().unwrap_or_default());
    if name.is_some_and(|name| FLAGS.contains(&name)) {
        let mut longer = OsString::from("-");
        longer.push(argument);
        return longer;
    }
    argument
}

/// Reads what the flags name, up to its shape.
fn read(args: &ConfigArgs, seen: &dyn Fn(&str, Option<&[u8]>), problems: &Problems) -> Option<Config> {
    let gates = Gates::read(&args.feature_gates, problems);
    let fetch = |url: &str, limit: usize| fetch(url, limit).map_err(|error| error.to_string());
    let sources = Sources {
        uris: &args.config,
        sets: &args.set,
        append_lists: gates.append_lists,
        traces_only: args.traces_only,
        fetch: &fetch,
        seen,
    };
    config::read(sources, problems)
}

/// The whole program.
pub fn main() -> ExitCode {
    let command = Command::parse_from(std::env::args_os().map(with_two_dashes));
    let done = match command.subcommand {
        None => run::execute(&command.run),
        Some(Subcommands::Validate(args)) => validate::execute(&args),
        Some(Subcommands::Components) => components::execute(),
        Some(Subcommands::Featuregate { id }) => gates::execute(id.as_deref()),
        Some(Subcommands::PrintConfig(args)) => print_config::execute(&args),
        Some(Subcommands::Why(args)) => why::execute(&args),
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
