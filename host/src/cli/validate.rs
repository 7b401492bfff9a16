//! `vespid validate`: everything that a start would check, and no port opened.

use super::ConfigArgs;
use super::load::{Purpose, load};
use super::run::runtime;

pub(super) fn execute(args: &ConfigArgs) -> anyhow::Result<()> {
    let shown = runtime(1)?.block_on(async {
        let loaded = load(args, 1, Purpose::Check).await?.outcome?;
        anyhow::Ok(loaded.graph.describe(&loaded.config))
    })?;
    print!("{shown}");
    Ok(())
}
