//! `vespid validate`: everything that a start would check, and no port opened.

use super::ConfigArgs;
use super::run::{build, runtime};
use crate::collector;

pub(super) fn execute(args: &ConfigArgs) -> anyhow::Result<()> {
    let config = runtime(1)?.block_on(async {
        let (_, config) = build(args, 1, false).await?;
        anyhow::Ok(config)
    })?;
    print!("{}", collector::describe(&config));
    Ok(())
}
