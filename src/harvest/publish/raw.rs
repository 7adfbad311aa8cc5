//! `keep: raw`: the answers of a published stream in a file of their own, with a line for each that says
//! what it is. They come from the part, so a publish that is done again does this again too.

use std::collections::{HashMap, HashSet};
use std::io;

use serde::Serialize;
use serde_json::value::RawValue;

use super::rows::{Member, Rows};
use super::{Whole, disk_failure, failure};
use crate::disk::DiskError;
use crate::failure::Failure;
use crate::harvest::pages::digest::is_split;
use crate::harvest::partitions::Partition;
use crate::harvest::stream::Stream;
use crate::json;
use crate::store::StoreError;
use crate::store::came::Writer;
use crate::store::index::PageRow;
use crate::store::ledger::Place;
use crate::store::row::{Came, Page, Row};
use crate::store::stream::StreamStore;

/// Where an answer lies in the part, what it answers, and where its row stands.
#[derive(Clone, Copy)]
struct Answer {
    start: u64,
    len: u32,
    print: u64,
    place: Place,
}

/// What is said of an answer.
#[derive(Serialize)]
struct Line<'a> {
    /// From 1, in its partition.
    page: u32,
    #[serde(rename = "for")]
    variables: Box<RawValue>,
    records: u32,
    at: u64,
    bytes: u32,
    #[serde(flatten)]
    came: &'a Came,
}

/// Writes the answers of a stream, if it keeps them.
pub(in crate::harvest) fn keep(Whole { stream, store }: &Whole) -> Result<(), Box<Failure>> {
    let run = &stream.run;
    if !stream.plan().keeps_raw || !run.options.leaves_trace() {
        return Ok(());
    }
    let disk = |error: DiskError| disk_failure(&error);
    let answers = answers(store).map_err(StoreError::into_failure)?;
    let (root, pipeline) = (&run.world.root, &run.plan.name);
    let mut writer =
        Writer::create(&run.world.disk, root, pipeline, &run.id, &stream.name).map_err(disk)?;
    let own = Rows {
        run,
        members: vec![Member::of(stream.plan(), store)],
        most: u64::MAX,
    };
    let part = store.part().file();
    let mut take = |row: &PageRow, partition: &Partition| -> io::Result<()> {
        // A window that was halved stands there without an answer.
        let Some(answer) = answers.get(&row.row_at) else {
            return Ok(());
        };
        let row_of = store.row(answer.place).map_err(io::Error::other)?;
        let Row::Page(Page { facts, .. }) = row_of else {
            return Ok(());
        };
        let Some(came) = &facts.came else {
            return Ok(());
        };
        let at = writer.frame(part, answer.start, answer.len);
        let line = Line {
            page: row.page.saturating_add(1),
            variables: variables(stream, partition)?,
            records: row.records,
            at: at.map_err(io::Error::other)?,
            bytes: answer.len,
            came,
        };
        let line = serde_json::to_string(&line)?;
        writer.line(&line).map_err(io::Error::other)
    };
    let written = own
        .members
        .iter()
        .try_for_each(|member| own.each_page(member, &mut take));
    written.map_err(|error| failure(stream, error.into()))?;
    writer.finish().map_err(disk)
}

fn variables(stream: &Stream, partition: &Partition) -> io::Result<Box<RawValue>> {
    let all = partition
        .scalars()
        .map(|(name, value)| format!("{}:{value}", json::quoted(name)));
    let all: Vec<String> = all.collect();
    let text = stream.run.secrets.scrub(&format!("{{{}}}", all.join(",")));
    Ok(RawValue::from_string(text)?)
}

/// The answer of each page that has one, by where the page's row stands: the last that came to its
/// request before it.
fn answers(store: &StreamStore) -> Result<HashMap<u64, Answer>, StoreError> {
    let counts = store.index().rows().iter().map(|row| row.row_at);
    let counts: HashSet<u64> = counts.collect();
    let (mut latest, mut of_rows) = (HashMap::new(), HashMap::new());
    store.each_row(&mut |place, page| {
        let of = (page.partition, page.page);
        if page.facts.came.is_some() {
            let answer = Answer {
                start: page.start,
                len: u32::try_from(page.end.saturating_sub(page.start)).unwrap_or(u32::MAX),
                print: page.request,
                place,
            };
            latest.insert(of, answer);
        } else if let Some(answer) = latest.get(&of)
            && answer.print == page.request
            && !is_split(&page.facts)
            && counts.contains(&place.at)
        {
            of_rows.insert(place.at, *answer);
        }
    })?;
    Ok(of_rows)
}
