//! `appsockets-node apply`: resources from a file into a node's database, in the manner of `kubectl apply`.

use std::path::Path;

use anyhow::Context;

use crate::{
    settings::{self, Settings, file},
    store,
};

/// Writes all resources of the file, which must hold what they refer to. Hubs come first, so that their order in the file does not matter.
pub async fn apply(data: &Path, path: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    let mut resources = file::parse(&text).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        anyhow::anyhow!("{} is not valid:{}", path.display(), lines.concat())
    })?;
    resources.sort_by_key(|resource| resource.id().kind);
    let database = store::open(data).await.with_context(|| format!("no database in {}", data.display()))?;
    let settings = Settings::open(settings::Options::default(), database.writer().clone()).await?;
    for resource in resources {
        let id = resource.id();
        settings.apply(resource).await.with_context(|| format!("{id} was not applied"))?;
        println!("{id} applied");
    }
    database.close().await;
    Ok(())
}
