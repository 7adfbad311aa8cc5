//! The course of one stream: walked, then published or held; others run over its records meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ground::standing::{Kept, SharedState};
use super::ground::targets::Targets;
use super::publish::Published;
use super::run::Run;
use super::stream::Stream;
use crate::failure::Failure;
use crate::store::StoreError;

/// Runs a stream to its end, and says so to those that run over its records.
pub(super) async fn run_stream(
    run: Arc<Run>,
    at: usize,
    targets: Targets,
    kept: Kept,
    state: Option<SharedState>,
) -> Result<Published, Box<Failure>> {
    let published = walk_and_publish(run.clone(), at, targets, kept, state).await;
    let name = &run.plan.streams[at].name;
    if let (Some(feed), Err(failure)) = (run.family.feed(name), &published) {
        feed.over(Err(failure.exit));
    }
    if let Err(failure) = &published {
        run.tables.fail(&run.plan, at, failure.exit);
    }
    run.family.end(name, published.is_ok());
    published
}

async fn walk_and_publish(
    run: Arc<Run>,
    at: usize,
    targets: Targets,
    mut kept: Kept,
    state: Option<SharedState>,
) -> Result<Published, Box<Failure>> {
    let before = |files, owed| Published {
        files,
        before: true,
        owed,
        ..Published::default()
    };
    if let Some(files) = kept.published.take_if(|_| !kept.is_needed) {
        return Ok(before(files, Vec::new()));
    }
    if kept.store.is_published() {
        // Its children go on: they are told of what is here, and nothing of it is published again.
        kept.store.reclaim().map_err(StoreError::into_failure)?;
    }
    let stream = Stream::new(run.clone(), at)
        .recalling(kept.store.recall())
        .with_bodies(kept.store.bodies())
        .keeping_book(&kept.store);
    let stream = Arc::new(stream);
    let work = async {
        let walked = stream.clone().walk(kept.store).await?;
        let mut published = if let Some(files) = kept.published {
            before(files, stream.owed(walked).await?)
        } else {
            stream.parents_published().await?;
            stream.publish(walked, targets, state.clone()).await?
        };
        if let Some(feed) = run.family.feed(&stream.name) {
            feed.over(Ok(()));
        }
        let owed = std::mem::take(&mut published.owed);
        stream.settle(owed, state).await?;
        Ok(published)
    };
    let published: Result<Published, Box<Failure>> = work.await;
    run.unknown.fetch_add(stream.unknown(), Ordering::Relaxed);
    published.map_err(|failure| run.told(&stream.name, failure))
}
