//! What an output file says of itself, in formats that have room for it: the plan and the run. All else in it
//! is the same whichever run writes the same data; the run keeps its id when it goes on or is published again.

use std::borrow::Cow;

use super::rows::Rows;
use crate::harvest::ground::same;
use crate::plan::sink::{ParquetPlan, SinkFormat, SinkPlan};

/// The format of a sink, with what its file says of itself.
pub(in crate::harvest) fn formatted<'p>(
    rows: &Rows<'_>,
    sink: &'p SinkPlan,
) -> Cow<'p, SinkFormat> {
    let SinkFormat::Parquet(plan) = &sink.format else {
        return Cow::Borrowed(&sink.format);
    };
    let names: Vec<&str> = rows.members.iter().map(|m| m.plan.name.as_str()).collect();
    let identity = same::identity(rows.run, &|stream| names.contains(&stream.name.as_str()));
    let about = [
        ("gleaner.pipeline", rows.run.plan.name.clone()),
        ("gleaner.stream", names.join(" ")),
        ("gleaner.plan", format!("{:016x}", identity.hash())),
        ("gleaner.run", rows.run.id.clone()),
    ];
    Cow::Owned(SinkFormat::Parquet(ParquetPlan {
        nested: plan.nested,
        about: about.map(|(name, value)| (name.to_owned(), value)).into(),
    }))
}
