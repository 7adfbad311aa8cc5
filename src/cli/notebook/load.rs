//! Python that loads an output, with the right types, in the manner of each engine.

use std::fmt::Write;
use std::path::Path;

use crate::plan::typed::Kind;
use crate::sink::glance::Seen;
use crate::sink::infer::Native;

use super::Engine;
use super::outputs::{Format, Output};

/// Python text.
pub(super) fn literal(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    // What JSON may leave as it is and Python's lines may not hold.
    json.replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// A name for the table: the stream's, where Python takes it.
pub(super) fn variable(stream: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    let name: String = stream.chars().map(plain).collect();
    let taken = [
        "and",
        "as",
        "assert",
        "async",
        "await",
        "break",
        "class",
        "continue",
        "def",
        "del",
        "elif",
        "else",
        "except",
        "finally",
        "for",
        "from",
        "global",
        "if",
        "import",
        "in",
        "is",
        "lambda",
        "nonlocal",
        "not",
        "or",
        "pass",
        "raise",
        "return",
        "try",
        "while",
        "with",
        "yield",
        "json",
        "gzip",
        "zstandard",
        "sqlite3",
        "duckdb",
        "pd",
        "pl",
        "plt",
        "datetime",
        "timezone",
        "path",
        "print",
        "open",
        "list",
        "dict",
        "set",
        "str",
        "int",
        "float",
        "len",
        "data",
        "project",
    ];
    if name.starts_with(|c: char| c.is_ascii_digit()) || taken.contains(&name.as_str()) {
        format!("{name}_")
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .to_owned()
            + "table"
    } else {
        name
    }
}

/// The modules that loading takes, beside the engine's own.
pub(super) fn imports(outputs: &[Output], engine: Engine) -> Vec<&'static str> {
    let mut modules = Vec::new();
    if engine != Engine::Duckdb {
        let some = |end: &str| {
            let lines = outputs
                .iter()
                .filter(|output| output.format == Format::Ndjson);
            lines
                .flat_map(|output| &output.files)
                .any(|file| ends(file, end))
        };
        if some("gz") {
            modules.push("import gzip");
        }
        if some("zst") {
            modules.push("import zstandard");
        }
    }
    if outputs
        .iter()
        .any(|output| matches!(output.format, Format::Sqlite(_)))
    {
        modules.push("import sqlite3");
    }
    modules
}

/// Whether a file has this ending.
fn ends(file: &str, end: &str) -> bool {
    Path::new(file)
        .extension()
        .is_some_and(|known| known == end)
}

/// Statements that load an output.
pub(super) fn load(output: &Output, engine: Engine) -> String {
    match engine {
        Engine::Pandas => pandas(output),
        Engine::Polars => polars(output),
        Engine::Duckdb => duckdb(output),
    }
}

fn of<'o>(
    output: &'o Output,
    wanted: impl Fn(&Seen) -> bool + 'o,
) -> impl Iterator<Item = String> + 'o {
    let columns = output.columns.iter().filter(move |seen| wanted(seen));
    columns.map(|seen| literal(&seen.column.name))
}

fn instants(output: &Output) -> Vec<String> {
    of(output, |seen| {
        matches!(seen.column.native, Native::Micros | Native::Nanos)
    })
    .collect()
}

fn days(output: &Output) -> Vec<String> {
    of(output, |seen| seen.column.native == Native::Date).collect()
}

/// `PROJECT / "data/x.csv"`, or a list of them.
fn places(output: &Output) -> String {
    let places: Vec<String> = output
        .files
        .iter()
        .map(|file| format!("PROJECT / {}", literal(file)))
        .collect();
    match &places[..] {
        [one] => one.clone(),
        _ => format!("[{}]", places.join(", ")),
    }
}

/// What reads all files of an output into one table of pandas, given what reads one.
fn joined(output: &Output, read: impl Fn(&str) -> String) -> String {
    if output.files.len() > 1 {
        let one = read("place");
        let places = places(output);
        format!("pd.concat([{one} for place in {places}], ignore_index=True)")
    } else {
        read(&places(output))
    }
}

/// Lines that read records of NDJSON into the list `records`.
fn records(output: &Output) -> String {
    let open = match output.files.first().map(String::as_str) {
        Some(file) if ends(file, "gz") => "gzip.open(place, \"rt\", encoding=\"utf-8\")",
        Some(file) if ends(file, "zst") => "zstandard.open(place, \"rt\", encoding=\"utf-8\")",
        _ => "open(place, encoding=\"utf-8\")",
    };
    let places = places(output);
    let places = if places.starts_with('[') {
        places
    } else {
        format!("[{places}]")
    };
    format!(
        "records = []\nfor place in {places}:\n    with {open} as lines:\n        records += [json.loads(line) for line in lines]\n"
    )
}

fn mapped(pairs: &[(String, &str)]) -> String {
    let mut text = String::from("{\n");
    for (name, kind) in pairs {
        let _ = writeln!(text, "    {name}: {kind},");
    }
    text + "}"
}

fn pandas(output: &Output) -> String {
    let name = variable(&output.stream);
    let mut types = Vec::new();
    for seen in &output.columns {
        let kind = match (seen.column.kind, seen.column.native) {
            (Some(Kind::Boolean), _) => "\"boolean\"",
            (Some(_), Native::Int64) => "\"Int64\"",
            (Some(_), Native::Float64) => "\"Float64\"",
            (Some(_), Native::Json) if output.format == Format::Ndjson => continue,
            (None, _) => continue,
            // Also numbers that 64 bits do not hold.
            _ => "\"string\"",
        };
        types.push((literal(&seen.column.name), kind));
    }
    let types = mapped(&types);
    let mut text = String::new();
    match &output.format {
        Format::Csv(delimiter, null) => {
            let read = |place: &str| {
                format!(
                    "pd.read_csv(\n    {place},\n    sep={},\n    dtype=types,\n    # Only what stands for null is null: \"NA\" is a text.\n    keep_default_na=False,\n    na_values=[{}],\n)",
                    literal(&delimiter.to_string()),
                    literal(null)
                )
            };
            let _ = writeln!(text, "types = {types}");
            let _ = writeln!(text, "{name} = {}", joined(output, read));
        }
        Format::Ndjson => {
            text += &records(output);
            let _ = writeln!(text, "types = {types}");
            let _ = writeln!(
                text,
                "{name} = pd.json_normalize(records)\n{name} = {name}.astype({{column: kind for column, kind in types.items() if column in {name}}})"
            );
        }
        Format::Parquet => {
            let read =
                |place: &str| format!("pd.read_parquet({place}, dtype_backend=\"numpy_nullable\")");
            let _ = writeln!(text, "{name} = {}", joined(output, read));
            // Days come as Python's own dates, by which nothing can be counted.
            let days = days(output);
            if !days.is_empty() {
                let _ = writeln!(
                    text,
                    "for column in [{}]:\n    {name}[column] = pd.to_datetime({name}[column])",
                    days.join(", ")
                );
            }
            return text;
        }
        Format::Sqlite(table) => {
            let _ = writeln!(text, "types = {types}");
            let _ = writeln!(
                text,
                "with sqlite3.connect({}) as database:\n    {name} = pd.read_sql({}, database).astype(types)",
                places(output),
                literal(&format!("SELECT * FROM \"{}\"", table.replace('"', "\"\"")))
            );
        }
    }
    let instants = instants(output);
    if !instants.is_empty() {
        let _ = writeln!(
            text,
            "for column in [{}]:\n    {name}[column] = pd.to_datetime({name}[column], format=\"ISO8601\", utc=True)",
            instants.join(", ")
        );
    }
    let days = days(output);
    if !days.is_empty() {
        let _ = writeln!(
            text,
            "for column in [{}]:\n    {name}[column] = pd.to_datetime({name}[column], format=\"%Y-%m-%d\")",
            days.join(", ")
        );
    }
    text
}

fn polars(output: &Output) -> String {
    let name = variable(&output.stream);
    let mut types = Vec::new();
    for seen in &output.columns {
        let kind = match (seen.column.kind, seen.column.native) {
            (Some(Kind::Boolean), _) if matches!(output.format, Format::Sqlite(_)) => "pl.Int64",
            (Some(Kind::Boolean), _) => "pl.Boolean",
            (Some(_), Native::Int64) => "pl.Int64",
            (Some(_), Native::Float64) => "pl.Float64",
            (Some(_), Native::Json) if output.format == Format::Ndjson => continue,
            _ => "pl.String",
        };
        types.push((literal(&seen.column.name), kind));
    }
    let types = mapped(&types);
    let mut text = String::new();
    match &output.format {
        Format::Csv(delimiter, null) => {
            let read = |place: &str| {
                format!(
                    "pl.read_csv({place}, separator={}, null_values=[{}], schema_overrides=types)",
                    literal(&delimiter.to_string()),
                    literal(null)
                )
            };
            let _ = writeln!(text, "types = {types}");
            let _ = if output.files.len() > 1 {
                writeln!(
                    text,
                    "{name} = pl.concat([{} for place in {}], how=\"diagonal_relaxed\")",
                    read("place"),
                    places(output)
                )
            } else {
                writeln!(text, "{name} = {}", read(&places(output)))
            };
        }
        Format::Ndjson => {
            text += &records(output);
            let _ = writeln!(text, "types = {types}");
            let _ = writeln!(
                text,
                "{name} = pl.json_normalize(records, infer_schema_length=None, strict=False)\n{name} = {name}.cast({{column: kind for column, kind in types.items() if column in {name}.columns}})"
            );
        }
        Format::Parquet => {
            let _ = writeln!(text, "{name} = pl.read_parquet({})", places(output));
            return text;
        }
        Format::Sqlite(table) => {
            let _ = writeln!(
                text,
                "with sqlite3.connect({}) as database:\n    {name} = pl.read_database({}, database, infer_schema_length=None)",
                places(output),
                literal(&format!("SELECT * FROM \"{}\"", table.replace('"', "\"\"")))
            );
            let _ = writeln!(text, "types = {types}\n{name} = {name}.cast(types)");
        }
    }
    let instants = instants(output);
    if !instants.is_empty() {
        let _ = writeln!(
            text,
            "{name} = {name}.with_columns(\n    pl.col({}).str.to_datetime(\"%+\", time_unit=\"us\", time_zone=\"UTC\")\n)",
            instants.join(", ")
        );
    }
    let days = days(output);
    if !days.is_empty() {
        let _ = writeln!(
            text,
            "{name} = {name}.with_columns(pl.col({}).str.to_date(\"%Y-%m-%d\"))",
            days.join(", ")
        );
    }
    text
}

fn duckdb(output: &Output) -> String {
    let name = variable(&output.stream);
    let mut types = Vec::new();
    for seen in &output.columns {
        let kind = match (seen.column.kind, seen.column.native) {
            (Some(Kind::Boolean), _) => "BOOLEAN",
            (Some(_), Native::Int64) => "BIGINT",
            (Some(_), Native::Float64) => "DOUBLE",
            (Some(_), Native::Date) => "DATE",
            (Some(_), Native::Micros | Native::Nanos) => "TIMESTAMPTZ",
            _ => "VARCHAR",
        };
        types.push(format!("{}: '{kind}'", sql_text(&seen.column.name)));
    }
    let files: Vec<String> = output
        .files
        .iter()
        .map(|file| format!("{{PROJECT}}/{}", escaped(&file.replace('\'', "''"))))
        .collect();
    let files: Vec<String> = files.iter().map(|file| format!("'{file}'")).collect();
    let files = format!("[{}]", files.join(", "));
    let from = match &output.format {
        Format::Csv(delimiter, null) => format!(
            "read_csv({files}, header = true, delim = {}, nullstr = {}, quote = '\"', escape = '\"',\n        allow_quoted_nulls = false, union_by_name = true,\n        types = {{{{{}}}}})",
            escaped(&sql_text(&delimiter.to_string())),
            escaped(&sql_text(null)),
            escaped(&types.join(", "))
        ),
        Format::Ndjson => format!(
            "read_json({files}, format = 'newline_delimited', sample_size = -1, union_by_name = true)"
        ),
        Format::Parquet => format!("read_parquet({files}, union_by_name = true)"),
        Format::Sqlite(table) => format!(
            "sqlite_scan('{{PROJECT}}/{}', {})",
            output
                .files
                .first()
                .map(|file| escaped(&file.replace('\'', "''")))
                .unwrap_or_default(),
            escaped(&sql_text(table))
        ),
    };
    // Instants stand in UTC: DuckDB hands those with a zone to Python by a module of their own.
    let columns: Vec<String> = output
        .columns
        .iter()
        .filter_map(|seen| {
            let own = sql_name(&seen.column.name);
            let from = match output.format {
                // Objects are taken apart as everywhere else.
                Format::Ndjson => {
                    let steps: Vec<String> = seen.column.name.split('.').map(sql_name).collect();
                    steps.join(".")
                }
                _ => own.clone(),
            };
            if matches!(seen.column.native, Native::Micros | Native::Nanos) {
                Some(format!(
                    "CAST({from} AS TIMESTAMPTZ) AT TIME ZONE 'UTC' AS {own}"
                ))
            } else {
                (output.format == Format::Ndjson).then(|| format!("{from} AS {own}"))
            }
        })
        .collect();
    let columns = escaped(&columns.join(",\n        "));
    let selected = match &output.format {
        _ if columns.is_empty() => "*".to_owned(),
        Format::Ndjson => columns,
        _ => format!("* REPLACE (\n        {columns}\n    )"),
    };
    let mut text = String::new();
    if matches!(output.format, Format::Sqlite(_)) {
        text += "duckdb.sql(\"INSTALL sqlite; LOAD sqlite\")\n";
    }
    let _ = writeln!(
        text,
        "duckdb.sql(f\"\"\"\n    CREATE OR REPLACE TABLE {} AS\n    SELECT {selected}\n    FROM {from}\n\"\"\")",
        sql_name(&name)
    );
    text
}

/// A text as it stands in `f"""…"""` of Python.
fn escaped(text: &str) -> String {
    let marks = [
        ("\\", "\\\\"),
        ("\"", "\\\""),
        ("\r", "\\r"),
        ("{", "{{"),
        ("}", "}}"),
    ];
    marks
        .iter()
        .fold(text.to_owned(), |text, (mark, by)| text.replace(mark, by))
}

/// A text as SQL wants it.
pub(super) fn sql_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as SQL wants it.
pub(super) fn sql_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
