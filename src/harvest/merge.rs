//! `mode: merge`: the newest version of every record, gathered over all runs.
//!
//! The base of the last publish and the records of this run, both in the order of their keys, are
//! read side by side into a new base; the output is made from that alone. A new base counts only
//! when the state points to it.

pub(super) mod gathered;
pub(super) mod newest;
pub(super) mod versions;

use std::cmp::Ordering;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use self::gathered::{Before, Gathered, Head, member_of};
use self::versions::{Liner, Origins, Version};
use super::publish::fitting;
use super::publish::formatted::formatted;
use super::publish::key::Key;
use super::publish::outgoing::{Outgoing, columns};
use super::publish::rows::{Member, Placed, Ranks, Rows};
use super::publish::{Output, PublishError, read_end};
use crate::count::plural;
use crate::disk::DiskError;
use crate::failure::Exit;
use crate::json;
use crate::plan::sink::SinkPlan;
use crate::sink::{self, Columns, Target};
use crate::store::base::{self, BaseError, BaseReader, BaseWriter};
use crate::store::cursors::Base;
use crate::store::sorter::{Sorted, Sorter};

/// Why records cannot be merged.
#[derive(Debug, thiserror::Error)]
pub(super) enum MergeError {
    /// The base cannot be read or written.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Records cannot be read, or a template of the key failed.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A record without a key would come again with every run.
    #[error(
        "{} without `key: {key}`, so it cannot be told what they are new versions of: {sample}", plural(*count, "record")
    )]
    Keyless {
        /// How many.
        count: u64,
        /// The key.
        key: String,
        /// One of them.
        sample: String,
    },
}

impl MergeError {
    /// The exit code that it calls for, and what to do.
    pub(super) fn end(&self) -> (Exit, Option<&'static str>) {
        match self {
            Self::Disk(error) | Self::Base(BaseError::Disk(error)) if !error.is_missing() => {
                (Exit::Disk, Some(error.hint()))
            }
            Self::Disk(_) | Self::Base(BaseError::Disk(_) | BaseError::Damaged { .. }) => (
                Exit::Failed,
                Some(
                    "the old file stays; bring .gleaner/base back from a backup, or forget what was gathered and fetch it again: `gleaner state reset NAME --base`",
                ),
            ),
            Self::Base(BaseError::Newer { .. }) => (Exit::Failed, Some("use the later version")),
            Self::Keyless { .. } => (
                Exit::Held,
                Some("the old file stays; correct `key`, or leave such records out in the request"),
            ),
            Self::Read(error) => read_end(error),
        }
    }
}

/// A base with all records that are known.
#[derive(Debug)]
pub(super) struct Merged {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What the state must point to; none where it points there already.
    pub(super) new: Option<Base>,
    /// Records of this run that gave way to others of it, for each stream.
    pub(super) repeats: Vec<u64>,
}

/// The base of the last publish, and the stream that wrote it where its lines do not say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Old {
    /// The base.
    pub(super) base: Base,
    /// The stream.
    pub(super) owner: String,
}

/// Merges the records of this run into what was gathered before: in one base, or in several where
/// streams that had tables of their own write one now.
pub(super) fn merge(rows: &Rows<'_>, old: &[Old], spills: &Path) -> Result<Merged, MergeError> {
    let run = rows.run;
    let place = base::folder(&run.world.root);
    let table = Gathered::of(rows);
    if let [old] = old
        && rows.records() == 0
        && table.is_made_so(rows, &place.join(&old.base.file))?
    {
        return Ok(Merged {
            path: place.join(&old.base.file),
            new: None,
            repeats: vec![0; rows.members.len()],
        });
    }
    let name = rows.members.first().map_or("", |m| m.plan.name.as_str());
    let mut sorter = Sorter::new(&run.world.disk, spills, &format!("{name}.sort"));
    let mut of_before = Before::default();
    // The later one is newer.
    let mut by_age: Vec<&Old> = old.iter().collect();
    by_age.sort_by_key(|old| old.base.run.clone());
    for (age, one) in (0..).zip(by_age) {
        let is_only = old.len() == 1;
        of_before = Before::open(rows, one, &table, is_only, age, &mut sorter)?;
    }
    push_run(rows, &mut sorter)?;
    let mut of_run = OfRun {
        sorted: sorter.finish()?,
        repeats: vec![0; rows.members.len()],
        next: None,
    };

    let generation = old.iter().map(|old| old.base.generation + 1).max();
    let generation = generation.unwrap_or(1);
    let file = base::name(&run.plan.name, name, generation);
    let path = place.join(&file);
    let mut out = BaseWriter::create(&run.world.disk, &path, &table.definition)?;
    of_before.advance()?;
    let mut newest = of_run.next()?;
    loop {
        let order = match (&of_before.head, &newest) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(new)) => before.key.cmp(&new.key),
        };
        match order {
            Ordering::Less => of_before.keep(&mut out)?,
            // The same record: the later counts, unless it is older by its cursor (a server that
            // answers from a copy that lags).
            Ordering::Equal => {
                let is_older =
                    |before: &Head| newest.as_ref().is_some_and(|new| new.rank < before.rank);
                if of_before.head.as_ref().is_some_and(is_older) {
                    of_before.keep(&mut out)?;
                } else {
                    write(newest.as_ref(), &mut out)?;
                    of_before.advance()?;
                }
                newest = of_run.next()?;
            }
            Ordering::Greater => {
                write(newest.as_ref(), &mut out)?;
                newest = of_run.next()?;
            }
        }
    }
    out.finish()?;
    Ok(Merged {
        path,
        new: Some(Base {
            file,
            generation,
            run: run.id.clone(),
        }),
        repeats: of_run.repeats,
    })
}

fn write(newest: Option<&Newest>, out: &mut BaseWriter) -> Result<(), MergeError> {
    match newest {
        Some(newest) => Ok(out.line(&newest.line)?),
        None => Ok(()),
    }
}

/// Hands every record of the run to the sorter: by key, then cursor, then place.
fn push_run(rows: &Rows<'_>, sorter: &mut Sorter) -> Result<(), MergeError> {
    let mut keys = keys(rows);
    let ranks = Ranks::of(&rows.members);
    let is_shared = rows.members.len() > 1;
    let liner = |member: &Member<'_>| {
        let stream = is_shared.then_some(member.plan.name.as_str());
        Liner::new(rows.run.started, stream)
    };
    let mut liners: Vec<Liner> = rows.members.iter().map(liner).collect();
    let (mut order, mut line) = (Vec::new(), Vec::new());
    let mut keyless: Option<MergeError> = None;
    rows.each(&mut |placed, partition| {
        let at = placed.member;
        let (Some(key), Some(liner), Some(member)) =
            (keys.get_mut(at), liners.get_mut(at), rows.members.get(at))
        else {
            return Ok(());
        };
        order.clear();
        let has_key = key
            .push(placed.json, partition, placed.in_page, &mut order)
            .map_err(io::Error::other)?;
        if !has_key {
            let first = keyless.get_or_insert_with(|| MergeError::Keyless {
                count: 0,
                key: member.plan.key.join(", "),
                sample: placed.json.chars().take(120).collect(),
            });
            if let MergeError::Keyless { count, .. } = first {
                *count += 1;
            }
            return Ok(());
        }
        line.clear();
        line.extend(length(order.len()).to_le_bytes());
        ranks.push_old(member.plan, placed.json, &mut order);
        line.extend(length(order.len()).to_le_bytes());
        line.extend(length(at).to_le_bytes());
        // What an earlier run brought comes before.
        order.push(1);
        ranks.push(member.plan, at, placed.json, &mut order);
        order.extend(placed.ordinal.to_be_bytes());
        liner.push(partition, placed.in_page, placed.json, &mut line);
        sorter.push(&order, &line).map_err(io::Error::other)
    })?;
    keyless.map_or(Ok(()), Err)
}

/// The key of each stream of a table.
pub(super) fn keys<'a>(rows: &Rows<'a>) -> Vec<Key<'a>> {
    let keys = rows
        .members
        .iter()
        .map(|one| Key::new(one.plan, &rows.run.names));
    keys.flatten().collect()
}

pub(super) fn length(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// The newest version of a record in this run.
#[derive(Debug, Default)]
struct Newest {
    key: Vec<u8>,
    rank: Vec<u8>,
    /// The stream that brought it.
    member: u32,
    line: Vec<u8>,
}

/// In place of a stream: it came with an earlier run.
pub(super) const OF_BEFORE: u32 = u32::MAX;

/// Versions of this run, in order of their keys.
struct OfRun {
    sorted: Sorted,
    repeats: Vec<u64>,
    /// The first of the next key.
    next: Option<Newest>,
}

impl OfRun {
    /// The newest version of the next record.
    fn next(&mut self) -> Result<Option<Newest>, MergeError> {
        let mut newest = self.next.take();
        while let Some((order, value)) = self.sorted.next()? {
            let Some(one) = take(order, value) else {
                continue;
            };
            match &newest {
                Some(known) if known.key != one.key => {
                    self.next = Some(one);
                    break;
                }
                // Of an earlier run: nothing of this one was left out.
                Some(known) if known.member == OF_BEFORE => {}
                Some(known) => {
                    if let Some(count) = self.repeats.get_mut(known.member as usize) {
                        *count += 1;
                    }
                }
                None => {}
            }
            newest = Some(one);
        }
        Ok(newest)
    }
}

/// What [`push_run`] handed to the sorter.
fn take(order: &[u8], value: &[u8]) -> Option<Newest> {
    let (key_end, rest) = value.split_first_chunk::<4>()?;
    let (rank_end, rest) = rest.split_first_chunk::<4>()?;
    let (member, line) = rest.split_first_chunk::<4>()?;
    let key_end = u32::from_le_bytes(*key_end) as usize;
    let rank_end = u32::from_le_bytes(*rank_end) as usize;
    Some(Newest {
        key: order.get(..key_end)?.to_vec(),
        rank: order.get(key_end..rank_end)?.to_vec(),
        member: u32::from_le_bytes(*member),
        line: line.to_vec(),
    })
}

/// Builds an output from a base.
pub(super) fn project(
    rows: &Rows<'_>,
    base: &Path,
    sink: &SinkPlan,
    target: &Target,
) -> Result<Output, PublishError> {
    let rejects = fitting::rejects(target, sink.mode);
    let rejects = rejects.as_ref();
    let columns = columns(rows);
    let columns = Columns::of(&columns);
    let written = sink::write::<PublishError>(
        &formatted(rows, sink),
        target,
        columns,
        rejects,
        &mut |each| each_row(rows, base, None, each),
    )?;
    Ok(written.into())
}

/// Every record of a base with what stands beside it, or those that the run brought which started at
/// `only`.
pub(super) fn each_row(
    rows: &Rows<'_>,
    base: &Path,
    only: Option<Timestamp>,
    each: &mut sink::Each<'_, PublishError>,
) -> Result<(), PublishError> {
    let only = only.map(|started| json::quoted(&started.to_string()));
    let (mut reader, _) = BaseReader::open(&rows.run.world.disk, base).map_err(MergeError::from)?;
    let mut origins = Origins::default();
    let mut outgoing = Outgoing::of(rows);
    while let Some(line) = reader.next().map_err(MergeError::from)? {
        let damaged = || {
            MergeError::Base(BaseError::Damaged {
                path: base.to_owned(),
                what: "a line is no record",
            })
        };
        let version = Version::parse(line).ok_or_else(damaged)?;
        if only.as_ref().is_some_and(|only| version.started != only) {
            continue;
        }
        let partition = origins.of(&version).ok_or_else(damaged)?;
        let Some(member) = member_of(rows, version.stream) else {
            continue;
        };
        let placed = Placed {
            member,
            ordinal: 0,
            page: None,
            in_page: version.in_page,
            json: version.record,
        };
        outgoing
            .row(placed, partition, each)
            .map_err(io::Error::other)??;
    }
    Ok(())
}
