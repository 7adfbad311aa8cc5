//! `records`: where the records are, and what is made of them.

use super::format::names;
use super::names::Judge;
use crate::plan::path::Path;
use crate::plan::{RecordsPlan, RowNames, Shape};
use crate::spec::at::At;
use crate::spec::choice::ScalarOr;
use crate::spec::records::RecordsSpec;
use crate::spec::stream::StreamSpec;

/// Where the records of a stream are, if that has no mistake.
pub(super) fn records(judge: &mut Judge<'_>, spec: &StreamSpec) -> Option<RecordsPlan> {
    match &spec.records {
        None => Some(RecordsPlan::default()),
        Some(at) => one(judge, at, false),
    }
}

fn one(
    judge: &mut Judge<'_>,
    at: &At<ScalarOr<String, RecordsSpec>>,
    optional: bool,
) -> Option<RecordsPlan> {
    let long = match &at.value {
        ScalarOr::Short(path) => {
            return Some(RecordsPlan {
                path: judge.path(&at.with(path.clone()))?,
                optional,
                shape: Shape::Plain,
                place: Some(judge.place(&at.span)),
            });
        }
        ScalarOr::Long(long) => long,
    };
    let forms = [
        ("zip", long.zip.as_ref()),
        ("rows", long.rows.as_ref()),
        ("entries", long.entries.as_ref()),
        ("jq", long.jq.as_ref()),
    ];
    let mut written = forms.iter().filter_map(|(name, at)| Some((*name, (*at)?)));
    let first = written.next();
    let second = written.next();
    if let Some(inner) = &long.optional {
        if let Some((name, path)) = first {
            let message = format!("`{name}` stands beside `optional`");
            let hint = format!("write `records: {{ optional: {{ {name}: … }} }}`");
            judge.wrong("several-variants", &path.span, message, &hint);
            return None;
        }
        if optional {
            let message = "`optional` inside `optional` says nothing more";
            judge.wrong("several-variants", &inner.span, message, "keep one of them");
            return None;
        }
        left_over(judge, long, "");
        return self::one(judge, inner, true);
    }
    if let (Some((one, _)), Some((other, path))) = (first, second) {
        let message = format!("`records` takes one of its forms, here are `{one}` and `{other}`");
        judge.wrong("several-variants", &path.span, message, "keep one of them");
        return None;
    }
    let Some((name, at_path)) = first else {
        let message = "`records` needs one of its forms";
        let hint = "known here: a path, `optional`, `zip`, `rows`, `entries`, `jq`";
        judge.wrong("missing-key", &at.span, message, hint);
        return None;
    };
    left_over(judge, long, name);
    let place = Some(judge.place(&at_path.span));
    if name == "jq" {
        return Some(RecordsPlan {
            path: Path::default(),
            optional,
            shape: Shape::Filtered(judge.jq(at_path)?),
            place,
        });
    }
    let path = judge.path(at_path);
    let shape = match name {
        "zip" => Some(Shape::Zip),
        "rows" => rows(judge, long, at_path, path.as_ref()).map(Shape::Rows),
        _ => entries(judge, long, at_path),
    };
    Some(RecordsPlan {
        path: path?,
        optional,
        shape: shape?,
        place,
    })
}

/// `names` goes with `rows`, `key` with `entries`.
fn left_over(judge: &mut Judge<'_>, spec: &RecordsSpec, form: &str) {
    let names = spec
        .names
        .as_ref()
        .map(|at| ("names", "rows", at.span.clone()));
    let key = spec
        .key
        .as_ref()
        .map(|at| ("key", "entries", at.span.clone()));
    for (name, goes_with, span) in names.into_iter().chain(key) {
        if goes_with != form {
            let message = format!("`{name}` goes with `{goes_with}`");
            judge.wrong("unknown-key", &span, message, "remove it");
        }
    }
}

fn rows(
    judge: &mut Judge<'_>,
    spec: &RecordsSpec,
    at: &At<String>,
    path: Option<&Path>,
) -> Option<RowNames> {
    let Some(written) = &spec.names else {
        let message = "`rows` needs `names`";
        let hint = "say what the values are called, `names: [time, price]`, or `names: first` if the first row says it";
        judge.wrong("missing-key", &at.span, message, hint);
        return None;
    };
    match &written.value {
        ScalarOr::Long(list) => names(judge, list, &written.with(())).map(RowNames::Given),
        ScalarOr::Short(_) if path.is_some_and(Path::is_many) => {
            let message =
                "`names: first` needs one list of rows, and a path with `*` may lead to several";
            judge.wrong("bad-names", &written.span, message, "list the names");
            None
        }
        ScalarOr::Short(_) => Some(RowNames::First),
    }
}

fn entries(judge: &mut Judge<'_>, spec: &RecordsSpec, at: &At<String>) -> Option<Shape> {
    let Some(key) = &spec.key else {
        let message = "`entries` needs `key`";
        let hint = "say which field the names of the entries become: `key: id`";
        judge.wrong("missing-key", &at.span, message, hint);
        return None;
    };
    Some(Shape::Entries {
        key: key.value.clone(),
    })
}
