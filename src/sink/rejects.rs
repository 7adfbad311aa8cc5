//! Records with a value that does not fit its column: what is wrong with them, and the file that
//! they go to where the column says so.

use std::io::{self, Write};
use std::path::PathBuf;

use super::file::{Built, Out, Target};
use super::{SinkError, Written};
use crate::json;
use crate::plan::place::Place;
use crate::plan::typed::OnBad;

/// Most characters of a record or a value in a message.
const MOST_SHOWN: usize = 160;

/// A value that does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The column.
    pub column: String,
    /// The value as spelled; nothing where a filter failed.
    pub value: String,
    /// What is wrong: `is not a whole number`, or what the filter says.
    pub why: String,
    /// What becomes of its record.
    pub on_bad: OnBad,
    /// The column's place in the pipeline file.
    pub place: Option<Place>,
}

impl Misfit {
    /// What is wrong, in one line.
    pub fn message(&self) -> String {
        let Self { column, why, .. } = self;
        if self.value.is_empty() {
            format!("column `{column}`: {why}")
        } else {
            format!("column `{column}`: {} {why}", shorten(&self.value))
        }
    }

    /// What to do, with the place in the pipeline file.
    pub fn hint(&self) -> String {
        let what = "correct the column, or say what becomes of such a value: `on_bad_value: null`, or `reject` for the whole record";
        match &self.place {
            Some(place) => format!("{what}\n{place}"),
            None => what.to_owned(),
        }
    }
}

/// The beginning of a record or a value.
pub fn shorten(json: &str) -> String {
    let mut short: String = json.chars().take(MOST_SHOWN).collect();
    if short.len() < json.len() {
        short.push('…');
    }
    short
}

/// Records that were rejected, in a file of their own.
#[derive(Debug)]
pub struct Rejected {
    /// The file, whole and beside its target.
    pub file: Built,
    /// Where it will be.
    pub path: PathBuf,
    /// How many there are.
    pub records: u64,
    /// What is wrong with the first.
    pub first: String,
}

/// Takes rejected records; the file is made for the first of them.
#[derive(Debug)]
pub(super) struct Rejects<'t> {
    target: Option<&'t Target>,
    out: Option<Out>,
    records: u64,
    first: String,
}

impl<'t> Rejects<'t> {
    /// Goes to `target`; without one nothing can be rejected.
    pub(super) fn new(target: Option<&'t Target>) -> Self {
        Self {
            target,
            out: None,
            records: 0,
            first: String::new(),
        }
    }

    /// Takes a record, or fails where that is what the column wants.
    pub(super) fn take(&mut self, record: &str, misfit: Box<Misfit>) -> Result<(), SinkError> {
        let (OnBad::Reject, Some(target)) = (misfit.on_bad, self.target) else {
            return Err(SinkError::Misfit {
                record: shorten(record),
                misfit,
            });
        };
        let out = match &mut self.out {
            Some(out) => out,
            None => self.out.insert(target.open()?),
        };
        line(out, record, &misfit)
            .map_err(|error| SinkError::new("write", target.shown(), error))?;
        if self.records == 0 {
            self.first = misfit.message();
        }
        self.records += 1;
        Ok(())
    }

    /// Brings the file to the disk, if there is one.
    pub(super) fn finish(self, written: &mut Written) -> Result<(), SinkError> {
        if let (Some(out), Some(target)) = (self.out, self.target) {
            written.rejected = Some(Rejected {
                file: out.close()?,
                path: target.shown(),
                records: self.records,
                first: self.first,
            });
        }
        Ok(())
    }
}

fn line(out: &mut Out, record: &str, misfit: &Misfit) -> io::Result<()> {
    let value = if misfit.value.is_empty() {
        "null"
    } else {
        &misfit.value
    };
    writeln!(
        out,
        "{{\"column\":{},\"value\":{value},\"reason\":{},\"record\":{record}}}",
        json::quoted(&misfit.column),
        json::quoted(&misfit.why),
    )
}
