//! The records of a parent, one after the other, as values of a variable of `for`.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use minijinja::Value;

use super::feed::{Fed, FedPage, Feed};
use super::record;
use crate::harvest::names::Names;
use crate::plan::language::{Expr, LanguageProblem};
use crate::plan::path::Path;

/// What is asked of a parent's records.
#[derive(Debug, Clone, Copy)]
pub(in crate::harvest) struct Wanted<'a> {
    /// The variable.
    pub(in crate::harvest) variable: &'a str,
    /// Only those that it holds for.
    pub(in crate::harvest) only: Option<&'a Expr>,
    /// So many at once.
    pub(in crate::harvest) batch: Option<NonZeroUsize>,
    /// Where the parts of their key are.
    pub(in crate::harvest) key: &'a [Path],
}

/// What came of looking for the next one.
pub(in crate::harvest) enum Pulled {
    /// A value; the variables of its partition are in [`Records::inherited`].
    Value(Value),
    /// Nothing yet: the parent still runs.
    Wait,
    /// There is none.
    Over,
}

/// Why the next one cannot be told.
pub(in crate::harvest) enum PullProblem {
    /// `where` failed.
    Where(LanguageProblem),
    /// A page cannot be read back.
    Read(io::Error),
}

/// A place among the records of a parent.
#[derive(Debug)]
pub(in crate::harvest) struct Records {
    feed: Arc<Feed>,
    /// By arrival, while the parent runs; else in canonical order.
    live: bool,
    next: usize,
    page: Option<OpenPage>,
}

#[derive(Debug)]
struct OpenPage {
    lines: String,
    at: usize,
    inherited: Vec<(String, Value)>,
}

impl OpenPage {
    fn line(&mut self) -> Option<&str> {
        let rest = self.lines.get(self.at..).filter(|rest| !rest.is_empty())?;
        let line = rest.split('\n').next().unwrap_or(rest);
        self.at += line.len() + 1;
        Some(line)
    }
}

impl Records {
    /// Before the first.
    pub(in crate::harvest) fn new(feed: Arc<Feed>, live: bool) -> Self {
        Self {
            feed,
            live,
            next: 0,
            page: None,
        }
    }

    /// The variables of the partition that the latest one came from.
    pub(in crate::harvest) fn inherited(&self) -> &[(String, Value)] {
        self.page.as_ref().map_or(&[], |page| &page.inherited)
    }

    /// Moves to the next one. Batches do not reach over the end of a page.
    pub(in crate::harvest) fn pull(
        &mut self,
        wanted: &Wanted<'_>,
        outer: &[(String, Value)],
        names: &Names,
    ) -> Result<Pulled, PullProblem> {
        loop {
            if self.page.is_none() {
                match self.feed.at(self.next, self.live) {
                    Fed::Wait => return Ok(Pulled::Wait),
                    Fed::Over => return Ok(Pulled::Over),
                    Fed::Page(page) => self.open(&page)?,
                }
                continue;
            }
            if let Some(value) = self.take(wanted, outer, names)? {
                return Ok(Pulled::Value(value));
            }
            self.page = None;
        }
    }

    fn open(&mut self, page: &FedPage) -> Result<(), PullProblem> {
        let place = self.next;
        self.next += 1;
        if self.live && self.feed.is_void(place, page) {
            return Ok(());
        }
        let (lines, inherited) = self.feed.read(page).map_err(PullProblem::Read)?;
        self.page = Some(OpenPage {
            lines,
            at: 0,
            inherited,
        });
        Ok(())
    }

    /// The next value of the page that is open.
    fn take(
        &mut self,
        wanted: &Wanted<'_>,
        outer: &[(String, Value)],
        names: &Names,
    ) -> Result<Option<Value>, PullProblem> {
        let Some(page) = &mut self.page else {
            return Ok(None);
        };
        let mut batch = Vec::new();
        // Values are handles: to copy them is cheap.
        let mut in_sight = page.inherited.clone();
        in_sight.extend_from_slice(outer);
        while let Some(line) = page.line() {
            if let Some(only) = wanted.only {
                let record = record::numeric(line);
                let mut seen = in_sight.clone();
                seen.push(("record".to_owned(), record.clone()));
                seen.push((wanted.variable.to_owned(), record));
                let holds = only.holds(&names.answer(&seen));
                let holds = holds.map_err(|mut problem| {
                    let record = crate::harvest::pages::walk::shorten(line);
                    problem.message = format!("{}; the record is {record}", problem.message);
                    PullProblem::Where(problem)
                });
                if !holds? {
                    continue;
                }
            }
            let value = record::value(line, wanted.key);
            let Some(size) = wanted.batch else {
                return Ok(Some(value));
            };
            batch.push(value);
            if batch.len() >= size.get() {
                break;
            }
        }
        Ok((!batch.is_empty()).then(|| Value::from(batch)))
    }
}
