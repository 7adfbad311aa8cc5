//! The committed records of a table in canonical order: those of one stream after those of another, in
//! the order of the file.

use std::io;

use crate::harvest::merge::newest::push_rank;
use crate::harvest::partitions::{Partition, Source};
use crate::harvest::run::Run;
use crate::plan::StreamPlan;
use crate::store::index::{Index, PageRow};
use crate::store::part::Part;
use crate::store::stream::StreamStore;

/// Reads records in canonical order, page by page.
#[derive(Debug)]
pub(in crate::harvest) struct Rows<'a> {
    /// Variables and templates.
    pub(in crate::harvest) run: &'a Run,
    /// The streams of the table.
    pub(in crate::harvest) members: Vec<Member<'a>>,
    /// At most so many of each.
    pub(in crate::harvest) most: u64,
}

/// A stream of a table.
#[derive(Debug, Clone, Copy)]
pub(in crate::harvest) struct Member<'a> {
    /// Its plan.
    pub(in crate::harvest) plan: &'a StreamPlan,
    /// Its records, and where they are, sorted; nothing of a stream that does not run this time.
    pub(in crate::harvest) kept: Option<(&'a Part, &'a Index)>,
}

impl<'a> Member<'a> {
    /// A stream with what it has committed.
    pub(in crate::harvest) fn of(plan: &'a StreamPlan, store: &'a StreamStore) -> Self {
        Self {
            plan,
            kept: Some((store.part(), store.index())),
        }
    }

    /// A stream that does not run: what it brought before is in the base.
    pub(in crate::harvest) fn at_rest(plan: &'a StreamPlan) -> Self {
        Self { plan, kept: None }
    }

    pub(super) fn records(&self) -> u64 {
        self.kept.map_or(0, |(_, index)| index.records())
    }

    pub(in crate::harvest) fn load<'b>(
        &self,
        start: u64,
        len: u32,
        into: &'b mut Vec<u8>,
    ) -> io::Result<&'b str> {
        into.resize(len as usize, 0);
        if let Some((part, _)) = self.kept {
            part.read(start, into).map_err(io::Error::other)?;
        }
        simdutf8::basic::from_utf8(into).map_err(io::Error::other)
    }
}

/// The same as [`str::split_terminator`] of line feeds, found faster.
fn lines(page: &str) -> impl Iterator<Item = &str> {
    let mut begin = 0;
    let unended = !page.is_empty() && !page.ends_with('\n');
    let ends = memchr::memchr_iter(b'\n', page.as_bytes());
    ends.chain(unended.then_some(page.len())).map(move |end| {
        let line = page.get(begin..end).unwrap_or_default();
        begin = end + 1;
        line
    })
}

/// One record with where it stands.
#[derive(Debug, Clone, Copy)]
pub(in crate::harvest) struct Placed<'a> {
    /// Which of the streams it comes from.
    pub(in crate::harvest) member: usize,
    /// Its ordinal in the table.
    pub(in crate::harvest) ordinal: u64,
    /// The ordinal of its page in the partition, where that is known.
    pub(in crate::harvest) page: Option<u32>,
    /// Its ordinal in its page.
    pub(in crate::harvest) in_page: u32,
    /// Its JSON text.
    pub(in crate::harvest) json: &'a str,
}

/// Which of several versions of one record counts, over the streams of a table: by the cursor where
/// all of them have the same, else that of the later stream, and by its own cursor within a stream.
#[derive(Debug, Clone, Copy)]
pub(in crate::harvest) struct Ranks {
    /// Whether the values of one cursor can be compared with those of another.
    pub(in crate::harvest) one_cursor: bool,
}

impl Ranks {
    /// For the streams of a table.
    pub(in crate::harvest) fn of(members: &[Member<'_>]) -> Self {
        let field = |member: &Member<'_>| {
            let cursor = member.plan.cursor.as_ref()?;
            Some((cursor.field.clone()?, cursor.format.clone()))
        };
        let first = members.first().map(field);
        Self {
            one_cursor: members.iter().all(|member| Some(field(member)) == first),
        }
    }

    /// Appends bytes that sort as what counts of a record before its place in the table does.
    pub(in crate::harvest) fn push(
        self,
        plan: &StreamPlan,
        member: usize,
        record: &str,
        out: &mut Vec<u8>,
    ) {
        if !self.one_cursor {
            out.extend((member as u64).to_be_bytes());
        }
        push_rank(plan.cursor.as_ref(), record, out);
    }

    /// The same, beside a record that an earlier run brought: nothing, where it may be of a stream
    /// whose cursor says something else, and then the new one counts.
    pub(in crate::harvest) fn push_old(self, plan: &StreamPlan, record: &str, out: &mut Vec<u8>) {
        if self.one_cursor {
            push_rank(plan.cursor.as_ref(), record, out);
        }
    }
}

impl Rows<'_> {
    /// The streams of the table, as a reader is told of them.
    pub(in crate::harvest) fn names(&self) -> String {
        let names: Vec<&str> = self.members.iter().map(|m| m.plan.name.as_str()).collect();
        names.join(" + ")
    }

    /// How many records there are.
    pub(in crate::harvest) fn records(&self) -> u64 {
        self.members.iter().map(Member::records).sum()
    }

    /// Every record with its partition, in canonical order.
    pub(in crate::harvest) fn each(
        &self,
        visit: &mut dyn FnMut(Placed<'_>, &Partition) -> io::Result<()>,
    ) -> io::Result<()> {
        self.each_placed(&mut |placed, partition, _| visit(placed, partition))
    }

    /// Every record with its partition and where it begins in its part, in canonical order.
    pub(in crate::harvest) fn each_placed(
        &self,
        visit: &mut dyn FnMut(Placed<'_>, &Partition, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut begin = 0;
        for (number, member) in self.members.iter().enumerate() {
            self.each_of(member, number, begin, visit)?;
            begin += member.records();
        }
        Ok(())
    }

    fn each_of(
        &self,
        member: &Member<'_>,
        number: usize,
        begin: u64,
        visit: &mut dyn FnMut(Placed<'_>, &Partition, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        let mut ordinal = begin;
        self.each_page(member, &mut |row, partition| {
            if ordinal - begin >= self.most {
                return Ok(());
            }
            let page = member.load(row.start, row.len, &mut buffer)?;
            let mut start = row.start;
            for (in_page, json) in (0_u32..).zip(lines(page)) {
                if ordinal - begin >= self.most {
                    break;
                }
                visit(
                    Placed {
                        member: number,
                        ordinal,
                        page: Some(row.page),
                        in_page,
                        json,
                    },
                    partition,
                    start,
                )?;
                start += json.len() as u64 + 1;
                ordinal += 1;
            }
            Ok(())
        })
    }

    /// Every page of a stream of the table with its partition, in canonical order.
    pub(in crate::harvest) fn each_page(
        &self,
        member: &Member<'_>,
        visit: &mut dyn FnMut(&PageRow, &Partition) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some((_, index)) = member.kept else {
            return Ok(());
        };
        let mut partitions = Source::of(self.run, member.plan).walk();
        let mut partition: Option<Partition> = None;
        for row in index.rows() {
            while partition.as_ref().is_none_or(|p| p.ordinal < row.partition) {
                partition = Some(
                    partitions
                        .next()
                        .transpose()
                        .map_err(io::Error::other)?
                        .ok_or_else(|| io::Error::other("a page of no partition"))?,
                );
            }
            let Some(partition) = &partition else { break };
            visit(row, partition)?;
        }
        Ok(())
    }
}
