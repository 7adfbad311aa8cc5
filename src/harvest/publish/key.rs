//! The primary key of a record: as bytes that sort as its values do, and as a hash.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::computed::Computed;
use crate::harvest::names::Names;
use crate::harvest::partitions::Partition;
use crate::json;
use crate::plan::jq::{Input, Jq};
use crate::plan::language::LanguageProblem;
use crate::plan::partition::Generator;
use crate::plan::path::{Path, Step};
use crate::plan::position::{push_integer, push_text};
use crate::plan::typed::OnBad;
use crate::plan::{ColumnFrom, ColumnPlan, StreamPlan};

/// How a stream's records are told apart.
#[derive(Debug)]
pub(in crate::harvest) struct Key<'a> {
    /// With the column that each is, if it is one: a value of its type counts.
    parts: Vec<(Part<'a>, Option<&'a ColumnPlan>)>,
    computed: Computed<'a>,
    spare: Vec<u8>,
}

/// Where one part of the key comes from.
#[derive(Debug)]
enum Part<'a> {
    Record(Path),
    /// What a filter makes of the record.
    Filtered(&'a Jq),
    /// Which of the computed values.
    Computed(usize),
    /// What a table without declared columns has under this name: the record's own field, else the
    /// variable, inherited or own.
    Found(Path, &'a str, Variable),
}

/// Which value of a `for` variable can be part of a key.
#[derive(Debug, Clone, Copy)]
enum Variable {
    Any,
    /// Inherited: a record or a window of an ancestor is no value of a record's own.
    Scalar,
    /// A window is no column.
    None,
}

impl<'a> Key<'a> {
    /// The key of a stream; `None` where it has none.
    pub(in crate::harvest) fn new(plan: &'a StreamPlan, names: &'a Names) -> Option<Self> {
        Self::of(plan, names, &plan.key)
    }

    /// These output columns of a stream; `None` where they are none.
    pub(in crate::harvest) fn of(
        plan: &'a StreamPlan,
        names: &'a Names,
        columns: &'a [String],
    ) -> Option<Self> {
        let mut templates = Vec::new();
        let parts: Vec<(Part<'a>, Option<&ColumnPlan>)> = columns
            .iter()
            .map(|name| {
                let member = || Path {
                    steps: vec![Step::Key(name.clone())],
                };
                let column = (plan.columns.iter().flatten()).find(|column| column.name == *name);
                let part = match column.map(|column| &column.from) {
                    Some(ColumnFrom::Path(path)) => Part::Record(path.clone()),
                    Some(ColumnFrom::Template(template)) => {
                        templates.push((name.as_str(), template));
                        Part::Computed(templates.len() - 1)
                    }
                    Some(ColumnFrom::Jq(jq)) => Part::Filtered(jq),
                    Some(ColumnFrom::Nothing) => Part::Record(member()),
                    None if plan.columns.is_some() => Part::Record(member()),
                    None => Part::Found(
                        Path::parse(name).unwrap_or_else(|_| member()),
                        name,
                        match plan.partitions.iter().find(|(known, _)| known == name) {
                            Some((_, Generator::Dates(_))) => Variable::None,
                            Some(_) => Variable::Any,
                            None => Variable::Scalar,
                        },
                    ),
                };
                (part, column)
            })
            .collect();
        (!parts.is_empty()).then(|| Self {
            parts,
            computed: Computed::new(names, templates),
            spare: Vec::new(),
        })
    }

    /// What it is made of: keys of two definitions cannot be compared.
    pub(in crate::harvest) fn definition(plan: &StreamPlan) -> String {
        let parts = plan.key.iter().map(|name| {
            let column = plan.columns.iter().flatten().find(|c| c.name == *name);
            let Some(column) = column else {
                return name.clone();
            };
            let from = match &column.from {
                ColumnFrom::Path(path) => path.to_string(),
                ColumnFrom::Template(template) => template.written().to_owned(),
                ColumnFrom::Jq(jq) => format!("jq {}", jq.written()),
                ColumnFrom::Nothing => String::new(),
            };
            match &column.typed {
                None => format!("{name}: {from}"),
                Some(typed) => format!("{name}: {from} as {} {typed}", typed.kind),
            }
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Appends the key's values as bytes: no value, whole numbers by size, other numbers and what is
    /// composed by spelling, text by its bytes; no key is the beginning of another. False if the record
    /// has none of them.
    pub(in crate::harvest) fn push(
        &mut self,
        record: &str,
        partition: &Partition,
        in_page: u32,
        out: &mut Vec<u8>,
    ) -> Result<bool, LanguageProblem> {
        let (mut in_record, mut found) = (false, false);
        self.each(record, partition, in_page, &mut |_, value, own| {
            if own {
                in_record = true;
                found |= value.is_some();
            }
            push_value(value, out);
        })?;
        Ok(found || !in_record)
    }

    /// The values in the order of the columns, as their columns have them.
    pub(in crate::harvest) fn values(
        &mut self,
        record: &str,
        partition: &Partition,
        in_page: u32,
        visit: &mut dyn FnMut(usize, Option<&str>),
    ) -> Result<(), LanguageProblem> {
        self.each(record, partition, in_page, &mut |at, value, _| {
            visit(at, value);
        })
    }

    /// The values, and whether each is the record's own.
    fn each(
        &mut self,
        record: &str,
        partition: &Partition,
        in_page: u32,
        visit: &mut dyn FnMut(usize, Option<&str>, bool),
    ) -> Result<(), LanguageProblem> {
        let computed = self.computed.of(partition, in_page)?;
        for (at, (part, column)) in self.parts.iter().enumerate() {
            let made;
            let mut own = matches!(part, Part::Record(_) | Part::Filtered(_));
            let value = match part {
                Part::Record(path) => json::get(record, path),
                Part::Filtered(jq) => {
                    made = filtered(jq, record, *column)?;
                    made.as_deref()
                }
                Part::Computed(number) => computed.get(*number).map(String::as_str),
                Part::Found(path, name, variable) => match json::get(record, path) {
                    Some(raw) if !is_taken_apart(raw) => {
                        own = true;
                        Some(raw)
                    }
                    raw => {
                        made = variable.of(partition, name);
                        own = made.is_none();
                        made.as_deref().or(raw)
                    }
                },
            };
            let value = value.filter(|raw| *raw != "null");
            let value = value.and_then(|raw| fitted(raw, *column));
            visit(at, value.as_deref(), own);
        }
        Ok(())
    }

    /// 128 bits over the key's values; `None` if the record has none of them.
    pub(in crate::harvest) fn hash(
        &mut self,
        record: &str,
        partition: &Partition,
        in_page: u32,
    ) -> Result<Option<(u64, u64)>, LanguageProblem> {
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        let has_one = self.push(record, partition, in_page, &mut bytes)?;
        // Two SipHashes with fixed keys, told apart by what they hash first.
        let (mut a, mut b) = (DefaultHasher::new(), DefaultHasher::new());
        1_u8.hash(&mut b);
        bytes.hash(&mut a);
        bytes.hash(&mut b);
        self.spare = bytes;
        Ok(has_one.then(|| (a.finish(), b.finish())))
    }
}

impl Variable {
    fn of(self, partition: &Partition, name: &str) -> Option<String> {
        match self {
            Self::Any => partition.variable(name),
            Self::Scalar => (partition.variable(name)).filter(|json| !json.starts_with(['{', '['])),
            Self::None => None,
        }
    }
}

/// Whether a table without declared columns has no column for this value, only for what is in it.
fn is_taken_apart(raw: &str) -> bool {
    raw.starts_with('{') && !json::is_empty_object(raw)
}

/// What a filter makes of a record, where the column wants to know.
fn filtered(
    jq: &Jq,
    record: &str,
    column: Option<&ColumnPlan>,
) -> Result<Option<String>, LanguageProblem> {
    let made = Input::read(record).and_then(|input| jq.one(&input));
    match column.map(|column| column.on_bad) {
        None | Some(OnBad::Fail) => made,
        // Such a record has no value there, or is rejected when it is written.
        Some(OnBad::Null | OnBad::Reject) => Ok(made.unwrap_or_default()),
    }
}

/// A value as its column has it. One that does not fit counts as it is, unless it becomes null: what
/// becomes of it is for those who write it.
fn fitted<'v>(raw: &'v str, column: Option<&ColumnPlan>) -> Option<Cow<'v, str>> {
    let Some((typed, on_bad)) = column.and_then(|c| Some((c.typed.as_ref()?, c.on_bad))) else {
        return Some(raw.into());
    };
    match typed.fit(raw) {
        Some(fitted) => (!fitted.is_empty()).then_some(fitted),
        None if on_bad == OnBad::Null => None,
        None => Some(raw.into()),
    }
}

fn push_value(json: Option<&str>, out: &mut Vec<u8>) {
    let Some(json) = json.filter(|json| *json != "null") else {
        return out.push(0);
    };
    if json.starts_with('"') {
        out.push(3);
        push_text(json::plain(json).as_bytes(), out);
    } else if let Ok(number) = json.parse() {
        out.push(1);
        push_integer(number, out);
    } else {
        out.push(2);
        push_text(json.as_bytes(), out);
    }
}

#[cfg(test)]
impl<'a> Key<'a> {
    /// The key of records that are known by one field.
    pub(in crate::harvest) fn of_field(field: &str, names: &'a Names) -> Self {
        Self {
            parts: vec![(Part::Record(Path::parse(field).expect("a path")), None)],
            computed: Computed::new(names, Vec::new()),
            spare: Vec::new(),
        }
    }
}
