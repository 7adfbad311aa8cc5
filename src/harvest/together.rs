//! Streams that write one table: each is walked by itself, and all are published at once when the last
//! of them is whole. If one fails, the others are held.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::ground::standing::SharedState;
use super::ground::targets::Targets;
use super::partitions::family::Family;
use super::publish::{self, AtFault, Published, Whole};
use super::stream::Stream;
use crate::event::Name;
use crate::failure::{Exit, Failure};
use crate::plan::Plan;
use crate::store::stream::StreamStore;

/// The tables of a run that several of its streams write.
#[derive(Debug, Default)]
pub(super) struct Tables(Vec<Table>);

#[derive(Debug)]
struct Table {
    /// Places of its streams in the plan, in the order of the file.
    streams: Vec<usize>,
    gathered: Mutex<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    /// Those that are whole, in order of arrival.
    whole: Vec<Arrived>,
    /// The one that failed first.
    failed: Option<(String, Exit)>,
}

#[derive(Debug)]
struct Arrived {
    at: usize,
    whole: Whole,
    done: oneshot::Sender<Result<Published, Box<Failure>>>,
}

impl Tables {
    /// Of the streams that were asked for; those that run for their children alone write nothing.
    pub(super) fn new(plan: &Plan, family: &Family) -> Self {
        let is_chosen = |at: &usize| {
            let stream = plan.streams.get(*at);
            stream.is_some_and(|stream| family.is_chosen(&stream.name))
        };
        let tables = (0..plan.streams.len()).filter_map(|at| {
            let mut streams = plan.table(at);
            streams.retain(is_chosen);
            (streams.len() > 1 && streams.first() == Some(&at)).then(|| Table {
                streams,
                gathered: Mutex::default(),
            })
        });
        Self(tables.collect())
    }

    /// The places of their streams in the plan.
    pub(super) fn all(&self) -> impl Iterator<Item = &[usize]> {
        self.0.iter().map(|table| table.streams.as_slice())
    }

    /// Whether two streams write one table.
    pub(super) fn share(&self, one: usize, other: usize) -> bool {
        self.of(one)
            .is_some_and(|table| table.streams.contains(&other))
    }

    /// The first stream of the table that a stream writes, where that is another one.
    pub(super) fn first_beside(&self, plan: &Plan, stream: &str) -> Option<Name> {
        let at = plan.streams.iter().position(|plan| plan.name == stream)?;
        let first = *self.of(at)?.streams.first()?;
        let first = plan.streams.get(first).filter(|_| first != at)?;
        Some(first.name.as_str().into())
    }

    fn of(&self, at: usize) -> Option<&Table> {
        self.0.iter().find(|table| table.streams.contains(&at))
    }

    /// A stream has ended without being whole: those that wait for it are told.
    pub(super) fn fail(&self, plan: &Plan, at: usize, exit: Exit) {
        let Some(table) = self.of(at) else { return };
        let name = plan.streams.get(at).map_or("", |plan| plan.name.as_str());
        let waiting = {
            let mut gathered = table.gathered();
            gathered
                .failed
                .get_or_insert_with(|| (name.to_owned(), exit));
            std::mem::take(&mut gathered.whole)
        };
        for one in waiting {
            // One that waits no more has been stopped.
            let _ = one.done.send(Err(held(&one.whole.stream, name, exit)));
        }
    }
}

impl Table {
    fn gathered(&self) -> std::sync::MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// Publishes its table, or waits until that is done by the last of its streams.
    pub(super) async fn publish(
        self: &Arc<Self>,
        store: StreamStore,
        targets: Targets,
        state: Option<SharedState>,
    ) -> Result<Published, Box<Failure>> {
        let stream = Arc::clone(self);
        let whole = Whole { stream, store };
        let Some(table) = self.run.tables.of(self.at) else {
            let published = publish::publish(vec![whole], targets, state).await;
            let published = published.map_err(|(_, failure)| failure)?;
            return Ok(published.into_iter().next().unwrap_or_default());
        };
        let (done, mut result) = oneshot::channel();
        let all = {
            let mut gathered = table.gathered();
            if let Some((name, exit)) = &gathered.failed {
                return Err(held(self, name, *exit));
            }
            gathered.whole.push(Arrived {
                at: self.at,
                whole,
                done,
            });
            let is_whole = gathered.whole.len() == table.streams.len();
            is_whole.then(|| std::mem::take(&mut gathered.whole))
        };
        if let Some(mut all) = all {
            all.sort_by_key(|one| one.at);
            let (wholes, done): (Vec<_>, Vec<_>) =
                all.into_iter().map(|one| (one.whole, one.done)).unzip();
            let streams: Vec<_> = wholes.iter().map(|whole| whole.stream.clone()).collect();
            match publish::publish(wholes, targets, state).await {
                Ok(published) => {
                    for (done, published) in done.into_iter().zip(published) {
                        let _ = done.send(Ok(published));
                    }
                }
                Err(fault) => tell(&streams, done, fault),
            }
        }
        match (&mut result).await {
            Ok(published) => published,
            // Who had to tell was stopped.
            Err(_) => Err(super::run::interrupted()),
        }
    }
}

/// The one at fault hears why, the others which it was.
fn tell(
    streams: &[Arc<Stream>],
    done: Vec<oneshot::Sender<Result<Published, Box<Failure>>>>,
    (at, failure): AtFault,
) {
    let name = streams.get(at).map(|stream| stream.name.to_string());
    let (exit, mut failure) = (failure.exit, Some(failure));
    for (nth, (stream, done)) in streams.iter().zip(done).enumerate() {
        let why = (nth == at).then(|| failure.take()).flatten();
        let why = why.unwrap_or_else(|| held(stream, name.as_deref().unwrap_or_default(), exit));
        let _ = done.send(Err(why));
    }
}

/// A stream that is whole while another one of its table is not.
fn held(stream: &Stream, other: &str, exit: Exit) -> Box<Failure> {
    if exit == Exit::Interrupted {
        return super::run::interrupted();
    }
    Box::new(Failure {
        exit,
        message: format!(
            "{}: held, for `{other}` of the same table is not published",
            stream.name
        ),
        causes: Vec::new(),
        hint: None,
    })
}
