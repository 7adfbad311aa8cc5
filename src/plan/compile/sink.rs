//! `sink`: where records go, from the file or from `--sink`.

use std::ops::Range;

use super::names::Judge;
use super::scope::Scope;
use super::stream::merged;
use super::{CompileProblem, Overrides, tables};
use crate::plan::language::Template;
use crate::plan::sink::{
    self as plan, Compression, CsvPlan, ParquetPlan, SinkFormat, SinkMode, SinkPlan,
};
use crate::spec::PipelineSpec;
use crate::spec::at::At;
use crate::spec::choice::ScalarOr;
use crate::spec::near;
use crate::spec::sink::{CsvSpec, ModeSpec, SinkSpec, SinkWord, SqliteSpec};
use crate::spec::stream::StreamSpec;

/// The table of a SQLite file, where none is named.
const TABLE: &str = "{{ stream }}";

/// Makes the sinks of `--sink` anew for each stream.
type Given<'o> = Box<dyn Fn() -> Result<Vec<SinkPlan>, CompileProblem> + 'o>;

/// What `--sink` asks for, judged once.
pub(super) fn given<'o>(
    judge: &mut Judge<'_>,
    overrides: &'o Overrides,
    spec: &PipelineSpec,
    helpers: &[String],
) -> Result<Option<Given<'o>>, CompileProblem> {
    let streams = spec.streams.0.iter();
    let wanted = streams.filter(|(name, _)| {
        if overrides.streams.is_empty() {
            !helpers.contains(&name.value)
        } else {
            overrides.streams.contains(&name.value)
        }
    });
    let outputs: Vec<_> = wanted
        .map(|(_, stream)| tables::files(spec, stream))
        .collect();
    // What is one table in the file is one elsewhere too.
    let is_one = match outputs.split_first() {
        None => true,
        Some((first, others)) => {
            others.is_empty() || tables::is_shared(first) && others.iter().all(|one| one == first)
        }
    };
    for written in &overrides.sinks {
        let (format, path) = split(written)?;
        let is_table = format == SinkFormat::Sqlite;
        if is_table && path.trim() == "-" {
            let message =
                format!("`--sink {written}`: a database cannot be written to standard output");
            return Err(CompileProblem::usage(message, "give it a path".to_owned()));
        }
        let template = template(written, path)?;
        let names = template.names();
        let mut by_stream = false;
        for name in &names {
            let root = name.path.first().map_or("", String::as_str);
            by_stream |= root == "stream";
            if !["stream", "pipeline", "run", "vars"].contains(&root) {
                return Err(CompileProblem::usage(
                    format!("`--sink {written}`: `{root}` is not in sight in a sink's path"),
                    "names in sight: `stream`, `pipeline`, `run`, `vars`".to_owned(),
                ));
            }
        }
        judge.uses(&names);
        if !is_one && !by_stream && !is_table {
            return Err(CompileProblem::usage(
                format!(
                    "`--sink {written}`: {} streams that are not one table cannot write one file",
                    outputs.len()
                ),
                "put `{{ stream }}` into the path, or choose one with `--stream`".to_owned(),
            ));
        }
    }
    if overrides.sinks.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(|| {
        let all = overrides.sinks.iter().map(|written| {
            let (format, path) = split(written)?;
            let table = match format {
                SinkFormat::Sqlite => Some(template(written, TABLE)?),
                SinkFormat::Csv(_) | SinkFormat::Ndjson | SinkFormat::Parquet(_) => None,
            };
            Ok(SinkPlan {
                format,
                table,
                path: template(written, path)?,
                mode: SinkMode::Replace,
                datapackage: true,
                compression: compression(path),
            })
        });
        all.collect()
    })))
}

fn split(written: &str) -> Result<(SinkFormat, &str), CompileProblem> {
    let hint = "write `--sink csv=data/out.csv`; formats are csv, ndjson, parquet and sqlite";
    let Some((format, path)) = written.split_once('=') else {
        let message = format!("`--sink {written}` is not FORMAT=PATH");
        return Err(CompileProblem::usage(message, hint.to_owned()));
    };
    let format = match format.trim() {
        "csv" => SinkFormat::Csv(usual_csv()),
        "ndjson" => SinkFormat::Ndjson,
        "parquet" => SinkFormat::Parquet(ParquetPlan::default()),
        "sqlite" => SinkFormat::Sqlite,
        other => {
            return Err(CompileProblem::usage(
                format!("there is no format `{other}`"),
                near::hint(other, ["csv", "ndjson", "parquet", "sqlite"], "formats"),
            ));
        }
    };
    if path.trim().is_empty() {
        let message = format!("`--sink {written}` has no path");
        return Err(CompileProblem::usage(message, hint.to_owned()));
    }
    if matches!(format, SinkFormat::Parquet(_))
        && let Some((message, hint)) = no_parquet(path)
    {
        return Err(CompileProblem::usage(
            format!("`--sink {written}`: {message}"),
            hint.to_owned(),
        ));
    }
    Ok((format, path))
}

/// What speaks against a path of a Parquet file, and what to write.
fn no_parquet(path: &str) -> Option<(&'static str, &'static str)> {
    if path.trim() == "-" {
        let hint = "give it a path; `ndjson` and `csv` can go to standard output";
        Some((
            "a Parquet file ends with its index and is read from there: it cannot go to standard output",
            hint,
        ))
    } else if compression(path) != Compression::None {
        let hint = "leave off the ending: `data/items.parquet`";
        Some(("a Parquet file is compressed inside (zstd)", hint))
    } else {
        None
    }
}

fn template(written: &str, path: &str) -> Result<Template, CompileProblem> {
    Template::parse(path)
        .map_err(|problem| CompileProblem::usage(format!("`--sink {written}`: {problem}"), None))
}

fn usual_csv() -> CsvPlan {
    CsvPlan {
        delimiter: b',',
        null: String::new(),
        spreadsheet_safe: false,
    }
}

fn compression(path: &str) -> Compression {
    match path.trim_end_matches('/').rsplit_once('.') {
        Some((_, ending)) if ending.eq_ignore_ascii_case("gz") => Compression::Gzip,
        Some((_, ending)) if ending.eq_ignore_ascii_case("zst") => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The sinks of a stream as written: its own, that of `defaults`, or that of the file.
pub(super) fn written<'s>(spec: &'s PipelineSpec, stream: &'s StreamSpec) -> &'s [SinkSpec] {
    match stream.sink.as_ref().or(spec.sink.as_ref()) {
        Some(At {
            value: ScalarOr::Long(sinks),
            ..
        }) => &sinks.0,
        _ => &[],
    }
}

/// Whether a stream says that its records go nowhere.
pub(super) fn is_none(spec: &PipelineSpec, stream: &StreamSpec) -> bool {
    let sinks = stream.sink.as_ref().or(spec.sink.as_ref());
    sinks.is_some_and(|sinks| matches!(sinks.value, ScalarOr::Short(SinkWord::None)))
}

/// The streams whose records go nowhere.
pub(super) fn helpers(spec: &PipelineSpec) -> Vec<String> {
    let streams = spec.streams.0.iter();
    let none = streams.filter(|(_, stream)| is_none(spec, &merged(spec.defaults.as_ref(), stream)));
    none.map(|(name, _)| name.value.clone()).collect()
}

/// The sinks of a stream, or nothing where a mistake was noted.
pub(super) fn sinks(
    judge: &mut Judge<'_>,
    spec: &PipelineSpec,
    name: &At<String>,
    stream: &StreamSpec,
    needed: bool,
) -> Option<Vec<SinkPlan>> {
    let written = written(spec, stream);
    if written.is_empty() {
        if needed && !is_none(spec, stream) {
            let hint = "add `sink: { csv: \"data/{{ pipeline }}/{{ stream }}.csv\" }` to the file";
            let message = format!("stream `{}` has no sink", name.value);
            judge.wrong("no-sink", &name.span, message, hint);
        }
        return Some(Vec::new());
    }
    let sinks = stream.sink.as_ref().or(spec.sink.as_ref());
    let place = sinks.map_or(&name.span, |sinks| &sinks.span);
    let all: Vec<_> = written
        .iter()
        .map(|one| sink(judge, one, stream, place))
        .collect();
    all.into_iter().collect()
}

/// The one format that a sink has.
fn format(judge: &mut Judge<'_>, spec: &SinkSpec, place: &Range<usize>) -> Option<SinkFormat> {
    let all = [
        spec.sqlite.as_ref().map(|at| &at.span),
        spec.parquet.as_ref().map(|at| &at.span),
        spec.ndjson.as_ref().map(|at| &at.span),
        spec.csv.as_ref().map(|at| &at.span),
    ];
    let mut named = all.into_iter().flatten();
    let Some(span) = named.next() else {
        let hint = "write `sink: { csv: PATH }`, or `ndjson`, `parquet` or `sqlite` in its place";
        judge.wrong("no-sink", place, "a sink needs a format", hint);
        return None;
    };
    if named.next().is_some() {
        let hint = "write a list for two files: `sink: [{ csv: … }, { ndjson: … }]`";
        judge.wrong("several-variants", span, "a sink has one format", hint);
        return None;
    }
    match &spec.csv {
        Some(csv) => match &csv.value {
            ScalarOr::Short(_) => Some(SinkFormat::Csv(usual_csv())),
            ScalarOr::Long(long) => self::csv(judge, long).map(SinkFormat::Csv),
        },
        None if spec.ndjson.is_some() => Some(SinkFormat::Ndjson),
        None => Some(match &spec.parquet {
            Some(parquet) => SinkFormat::Parquet(ParquetPlan {
                nested: match &parquet.value {
                    ScalarOr::Short(_) => false,
                    ScalarOr::Long(long) => long.nested.unwrap_or(false),
                },
                about: Vec::new(),
            }),
            None => SinkFormat::Sqlite,
        }),
    }
}

fn sink(
    judge: &mut Judge<'_>,
    spec: &SinkSpec,
    stream: &StreamSpec,
    place: &Range<usize>,
) -> Option<SinkPlan> {
    let path = path(spec);
    let format = format(judge, spec, place);
    let path = path?;
    if let (Some(parquet), Some((message, hint))) = (&spec.parquet, no_parquet(&path)) {
        judge.wrong("bad-sink", &parquet.span, message, hint);
        return None;
    }
    if path.trim().is_empty() {
        judge.wrong("bad-sink", &path.span, "the path is empty", "");
        return None;
    }
    let mode = mode(judge, spec, stream, &path);
    if path.ends_with('/') && mode != SinkMode::Append {
        judge.wrong(
            "bad-sink",
            &path.span,
            "the path names a folder",
            "name a file; only `mode: append` takes a folder",
        );
        return None;
    }
    let template = judge.template(&path, &Scope::sink());
    let table = match &spec.sqlite {
        None => None,
        Some(sqlite) => Some(table(judge, sqlite, &path)?),
    };
    Some(SinkPlan {
        format: format?,
        table,
        path: template?,
        mode,
        datapackage: spec.datapackage.unwrap_or(true),
        compression: compression(&path.value),
    })
}

/// What becomes of what is there; what the mode needs is looked for.
fn mode(
    judge: &mut Judge<'_>,
    spec: &SinkSpec,
    stream: &StreamSpec,
    path: &At<String>,
) -> SinkMode {
    let Some(written) = &spec.mode else {
        return SinkMode::Replace;
    };
    let mode = match written.value {
        ModeSpec::Replace => return SinkMode::Replace,
        ModeSpec::Append => SinkMode::Append,
        ModeSpec::Merge => SinkMode::Merge,
    };
    if path.trim() == "-" {
        let hint = "give it a path; a look at what is new is `gleaner run NAME --sink ndjson=-`";
        let message = "standard output keeps nothing to add to";
        judge.wrong("bad-sink", &path.span, message, hint);
    }
    if mode == SinkMode::Merge && stream.key.is_none() {
        let hint = "add `key: id` to the stream: the columns that together identify a record";
        let message = "`merge` needs a `key`: how else is a new version told from another record?";
        judge.wrong("no-key", &written.span, message, hint);
    }
    mode
}

pub(super) fn path(spec: &SinkSpec) -> Option<At<String>> {
    let csv = spec.csv.as_ref().map(|csv| match &csv.value {
        ScalarOr::Short(path) => csv.with(path.clone()),
        ScalarOr::Long(long) => long.path.clone(),
    });
    let sqlite = spec.sqlite.as_ref().map(|sqlite| match &sqlite.value {
        ScalarOr::Short(path) => sqlite.with(path.clone()),
        ScalarOr::Long(long) => long.path.clone(),
    });
    let parquet = spec.parquet.as_ref().map(|parquet| match &parquet.value {
        ScalarOr::Short(path) => parquet.with(path.clone()),
        ScalarOr::Long(long) => long.path.clone(),
    });
    csv.or_else(|| spec.ndjson.clone()).or(parquet).or(sqlite)
}

/// The table of a SQLite file; what such a file cannot be is told.
fn table(
    judge: &mut Judge<'_>,
    sqlite: &At<ScalarOr<String, SqliteSpec>>,
    path: &At<String>,
) -> Option<Template> {
    if path.trim() == "-" || compression(path) != Compression::None {
        let message =
            "a SQLite file is written in place: neither compressed nor to standard output";
        let hint = "name a file such as data/{{ pipeline }}.db";
        judge.wrong("bad-sink", &path.span, message, hint);
    }
    let named = match &sqlite.value {
        ScalarOr::Short(_) => None,
        ScalarOr::Long(long) => long.table.clone(),
    };
    let named = named.unwrap_or_else(|| path.with(TABLE.to_owned()));
    if !plan::is_table_name(&named) {
        let message = "names of tables are not empty, and `sqlite_…` and `_gleaner…` are taken";
        judge.wrong("bad-sink", &named.span, message, "choose another name");
        return None;
    }
    judge.template(&named, &Scope::sink())
}

/// What a sink writes, for finding those that write the same.
pub(super) fn output(spec: &SinkSpec) -> Option<At<String>> {
    let path = path(spec)?;
    let table = spec.sqlite.as_ref().map(|sqlite| match &sqlite.value {
        ScalarOr::Long(SqliteSpec {
            table: Some(table), ..
        }) => table.as_str(),
        ScalarOr::Long(_) | ScalarOr::Short(_) => TABLE,
    });
    let place = plan::place(&path.value, table);
    Some(path.with(place))
}

fn csv(judge: &mut Judge<'_>, spec: &CsvSpec) -> Option<CsvPlan> {
    let delimiter = match &spec.delimiter {
        None => b',',
        Some(at) => match at.as_bytes() {
            [one] if one.is_ascii() && !matches!(one, b'"' | b'\n' | b'\r' | 0) => *one,
            _ => {
                let hint = "write `\",\"`, `\";\"`, `\"|\"` or `\"\\t\"`";
                judge.wrong(
                    "bad-sink",
                    &at.span,
                    "a delimiter is one ASCII character",
                    hint,
                );
                return None;
            }
        },
    };
    Some(CsvPlan {
        delimiter,
        null: spec
            .null
            .as_ref()
            .map(|null| null.value.clone())
            .unwrap_or_default(),
        spreadsheet_safe: spec.spreadsheet_safe.unwrap_or(false),
    })
}
