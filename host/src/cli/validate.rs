//! `vespid validate`: everything that a start would check, and no port opened.

use super::ConfigArgs;
use super::load::{Purpose, load};
use super::run::runtime;
use crate::collector;

pub(super) fn execute(args: &ConfigArgs) -> anyhow::Result<()> {
    let config = runtime(1)?.block_on(async { anyhow::Ok(load(args, 1, Purpose::Check).await?.outcome?.config) })?;
    print!("{}", collector::describe(&config));
    Ok(())
}
