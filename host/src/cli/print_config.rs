//! `vespid print-config`: the config as it is once it is merged and filled in.

use clap::{Args, ValueEnum};

use super::{ConfigArgs, read};
use crate::config::{Problems, Secrets};

#[derive(Debug, Args)]
pub(super) struct PrintConfigArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Whether secrets are hidden
    #[arg(long, value_enum, default_value_t = Mode::Redacted)]
    mode: Mode,
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// Values of headers, passwords, tokens, keys and the like are `[REDACTED]`
    Redacted,
    Unredacted,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// Prints also what has errors, which is when one wants to see it; then it fails.
pub(super) fn execute(args: &PrintConfigArgs) -> anyhow::Result<()> {
    let problems = Problems::new();
    let Some(config) = read(&args.config, &|_, _| {}, &problems) else {
        problems.finish()?;
        anyhow::bail!("the config cannot be read");
    };
    let merged = config.merged(match args.mode {
        Mode::Redacted => Secrets::Hidden,
        Mode::Unredacted => Secrets::Shown,
    });
    match args.format {
        Format::Yaml => print!("{}", serde_yaml::to_string(&serde_yaml::Value::from(&merged))?),
        Format::Json => println!("{}", serde_json::to_string_pretty(&merged.to_json("", &problems))?),
    }
    for warning in config.warnings.iter().chain(&problems.take_warnings()) {
        eprintln!("{}\n", warning.as_warning());
    }
    problems.finish()?;
    Ok(())
}
