//! `mode: merge`: the newest version of every record, gathered over all runs.
//!
//! The base of the last publish and the records of this run, both in the order of their keys, are
//! read side by side into a new base; the output is made from that alone. A new base counts only
//! when the state points to it.

use std::cmp::Ordering;
use std::io;
use std::path::{Path, PathBuf};

use super::fitting;
use super::formatted::formatted;
use super::key::Key;
use super::outgoing::{Outgoing, columns};
use super::publish::{Output, PublishError, read_end};
use super::rows::{Member, Placed, Ranks, Rows};
use super::versions::{Liner, Origins, Version, push_of};
use crate::disk::DiskError;
use crate::failure::Exit;
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
        "{count} record(s) have none of `key: {key}`, so it cannot be told which they are new versions of: {sample}"
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
fn keys<'a>(rows: &Rows<'a>) -> Vec<Key<'a>> {
    let keys = rows
        .members
        .iter()
        .map(|one| Key::new(one.plan, &rows.run.names));
    keys.flatten().collect()
}

fn length(of: usize) -> u32 {
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
const OF_BEFORE: u32 = u32::MAX;

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

/// What a base says of the table that it gathers.
struct Gathered {
    /// What its keys are made of, and of which streams it is, where there are several.
    definition: String,
    is_shared: bool,
}

impl Gathered {
    fn of(rows: &Rows<'_>) -> Self {
        let mut keys: Vec<String> = Vec::new();
        for member in &rows.members {
            let key = Key::definition(member.plan);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let is_shared = rows.members.len() > 1;
        let names: Vec<&str> = rows.members.iter().map(|m| m.plan.name.as_str()).collect();
        let of = if is_shared {
            format!("{}: ", names.join(" + "))
        } else {
            String::new()
        };
        Self {
            definition: format!("{of}{}", keys.join(" | ")),
            is_shared,
        }
    }

    /// Whether a base is of this table already.
    fn is_made_so(&self, rows: &Rows<'_>, path: &Path) -> Result<bool, MergeError> {
        let (_, head) = BaseReader::open(&rows.run.world.disk, path)?;
        Ok(head.key == self.definition)
    }
}

/// Which stream of the table a line of its base is of. Of a stream that is in the pipeline no more
/// the records stay, and count as the first one's; those of one that writes elsewhere now do not.
pub(super) fn member_of(rows: &Rows<'_>, stream: Option<&str>) -> Option<usize> {
    let Some(name) = stream else { return Some(0) };
    let place = rows.members.iter().position(|one| one.plan.name == name);
    let is_there = || rows.run.plan.streams.iter().any(|plan| plan.name == name);
    place.or_else(|| (!is_there()).then_some(0))
}

/// The base of the last publish, in order of its keys.
#[derive(Default)]
struct Before<'r, 'a> {
    reader: Option<BaseReader>,
    rows: Option<&'r Rows<'a>>,
    keys: Vec<Key<'a>>,
    /// The stream of lines that do not say whose they are.
    owner: Option<usize>,
    origins: Origins,
    head: Option<Head>,
    /// What the key is made of.
    definition: String,
    is_shared: bool,
}

/// Its next record.
#[derive(Default)]
struct Head {
    key: Vec<u8>,
    rank: Vec<u8>,
    line: Vec<u8>,
}

impl<'r, 'a> Before<'r, 'a> {
    /// Opens a base. One of another table, or whose keys were made of something else, is sorted anew,
    /// with the run; so is one that is not the only one.
    fn open(
        rows: &'r Rows<'a>,
        old: &Old,
        table: &Gathered,
        is_only: bool,
        age: u64,
        sorter: &mut Sorter,
    ) -> Result<Self, MergeError> {
        let path = base::folder(&rows.run.world.root).join(&old.base.file);
        let (reader, head) = BaseReader::open(&rows.run.world.disk, &path)?;
        let mut before = Self {
            reader: Some(reader),
            rows: Some(rows),
            keys: keys(rows),
            owner: rows.members.iter().position(|m| m.plan.name == old.owner),
            origins: Origins::default(),
            head: None,
            definition: table.definition.clone(),
            is_shared: table.is_shared,
        };
        if is_only && head.key == table.definition {
            return Ok(before);
        }
        let (mut ordinal, mut order, mut value) = (0_u64, Vec::new(), Vec::new());
        while before.read()? {
            let Some(head) = &before.head else { break };
            order.clear();
            order.extend_from_slice(&head.key);
            value.clear();
            value.extend(length(order.len()).to_le_bytes());
            order.extend_from_slice(&head.rank);
            value.extend(length(order.len()).to_le_bytes());
            value.extend(OF_BEFORE.to_le_bytes());
            order.push(0);
            order.extend(age.to_be_bytes());
            order.extend(ordinal.to_be_bytes());
            value.extend_from_slice(&head.line);
            sorter.push(&order, &value)?;
            ordinal += 1;
        }
        Ok(Self::default())
    }

    /// Moves to the next record, which must come later in the order.
    fn advance(&mut self) -> Result<(), MergeError> {
        let last = self.head.take();
        self.read()?;
        if let (Some(last), Some(head)) = (&last, &self.head)
            && last.key >= head.key
        {
            return Err(self.damaged("its records are not in order"));
        }
        Ok(())
    }

    fn read(&mut self) -> Result<bool, MergeError> {
        self.head = None;
        let (Some(reader), Some(rows)) = (&mut self.reader, self.rows) else {
            return Ok(false);
        };
        loop {
            let Some(line) = reader.next()? else {
                return Ok(false);
            };
            let version = Version::parse(line);
            let known = version.and_then(|version| Some((version, self.origins.of(&version)?)));
            let Some((version, partition)) = known else {
                return Err(self.damaged("a line is no record"));
            };
            let at = match version.stream {
                None => self.owner.or(Some(0)),
                Some(_) => member_of(rows, version.stream),
            };
            let Some(at) = at else { continue };
            let (Some(key), Some(member)) = (self.keys.get_mut(at), rows.members.get(at)) else {
                return Ok(false);
            };
            let mut head = Head::default();
            if self.is_shared && version.stream.is_none() {
                push_of(&member.plan.name, line, &mut head.line);
            } else {
                head.line.extend_from_slice(line.as_bytes());
            }
            let has_key = key
                .push(version.record, partition, version.in_page, &mut head.key)
                .map_err(io::Error::other)?;
            if !has_key {
                return Err(MergeError::Keyless {
                    count: 1,
                    key: self.definition.clone(),
                    sample: version.record.chars().take(120).collect(),
                });
            }
            let ranks = Ranks::of(&rows.members);
            ranks.push_old(member.plan, version.record, &mut head.rank);
            self.head = Some(head);
            return Ok(true);
        }
    }

    /// Keeps its record, and moves on.
    fn keep(&mut self, out: &mut BaseWriter) -> Result<(), MergeError> {
        if let Some(head) = &self.head {
            out.line(&head.line)?;
        }
        self.advance()
    }

    fn damaged(&self, what: &'static str) -> MergeError {
        let path = self.reader.as_ref().map(|reader| reader.path().to_owned());
        MergeError::Base(BaseError::Damaged {
            path: path.unwrap_or_default(),
            what,
        })
    }
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
        &mut |each| {
            let (mut reader, _) =
                BaseReader::open(&rows.run.world.disk, base).map_err(MergeError::from)?;
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
                let partition = origins.of(&version).ok_or_else(damaged)?;
                let Some(member) = member_of(rows, version.stream) else {
                    continue;
                };
                let placed = Placed {
                    member,
                    ordinal: 0,
                    in_page: version.in_page,
                    json: version.record,
                };
                outgoing
                    .row(placed, partition, each)
                    .map_err(io::Error::other)??;
            }
            Ok(())
        },
    )?;
    Ok(written.into())
}
