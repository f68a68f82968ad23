//! What vacuum once deleted though readers needed it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::batch_events::State;
use super::batch_site::BatchSite;
use super::seed;
use super::site::Place;

/// After a rollback, the tail begins earlier. Compaction may have replaced its files already.
#[tokio::test(flavor = "multi_thread")]
async fn vacuum_keeps_the_tail_of_a_run_that_was_rolled_back_to() -> Result<()> {
    let site = BatchSite::new(Place::Folder, seed()?).await?;
    let adlake = site.program("adlake", Duration::ZERO)?;
    for _ in 0..2 {
        site.ingest_round(&adlake)?;
        adlake.ok(["batch", "run", "--quiet"]);
    }
    let compacted = adlake.ok(["batch", "compact", "--format", "json", "--quiet"]);
    ensure!(compacted.contains("raw/impressions"), "nothing of raw/impressions was compacted: {compacted}");
    for job in [&["rollback", "--to", "1"][..], &["vacuum"], &["run"], &["vacuum"]] {
        adlake.ok([&["batch"], job].concat());
        let state = site.ask(&adlake).with_context(|| format!("after {job:?}"))?;
        ensure!(state == State::of(2), "after {job:?}: {state:?}");
    }
    Ok(())
}
