//! `vespid validate`: everything that a start would check, and no port opened.

use super::ConfigArgs;
use super::run::{build, runtime};

pub(super) fn execute(args: &ConfigArgs) -> anyhow::Result<()> {
    let shown = runtime(1)?.block_on(async {
        let (graph, config) = build(args, 1, false).await?;
        anyhow::Ok(graph.describe(&config))
    })?;
    print!("{shown}");
    Ok(())
}
