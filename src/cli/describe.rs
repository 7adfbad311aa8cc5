//! `gleaner describe`: what was published of a pipeline: columns, types, least and greatest values.

use std::fmt::Write;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};
use crate::report::{clean, plural, thousands};
use crate::sink::infer::{Column, Look, Schema};

use super::outputs::{self, Format, Output};
use super::{out, table};

/// Show the columns of what was published: types, nulls, least and greatest values, examples
///
/// Reads the files that the last publish of each stream left, and nothing else; where this project ran no
/// pipeline NAME, those that a datapackage.json here or in data/ tells of, such as `gleaner demo` leaves. Of several outputs of
/// a stream that is the Parquet file, then NDJSON, CSV, SQLite; --from chooses another. `wide` beside a
/// type means that 64 bits do not hold every value exactly, so that typed formats keep it as text.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct DescribeArgs {
    /// Name of a pipeline, or a `datapackage.json`, its folder, or a file that it tells of
    #[arg(value_name = "NAME")]
    pipeline: String,

    /// Only this stream; may be repeated
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,

    /// Read this output
    #[arg(long, value_enum, value_name = "FORMAT")]
    from: Option<Format>,

    /// How to show it
    #[arg(long, value_enum, default_value_t = Shown::Table)]
    format: Shown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shown {
    /// For a terminal
    Table,
    /// For a page about the data
    Markdown,
    /// For programs: one array
    Json,
}

impl DescribeArgs {
    pub(super) fn execute(&self) -> Result<Exit, Failure> {
        let asked = outputs::asked(&self.pipeline)?;
        let found = asked.find(&self.streams, self.from)?;
        let mut all = Vec::new();
        for output in found {
            let source = output.open()?;
            let schema = source.look(Look::Whole).map_err(outputs::unreadable)?;
            let shown = output
                .path
                .strip_prefix(&asked.root)
                .unwrap_or(&output.path);
            let shown = clean(&shown.display().to_string()).into_owned();
            match self.format {
                Shown::Table => out::stdout(&self::table(&output, &shown, &schema))?,
                Shown::Markdown => out::stdout(&markdown(&output, &shown, &schema))?,
                Shown::Json => all.push(json(&output, &shown, &schema)),
            }
        }
        if self.format == Shown::Json {
            out::stdout(&format!("{:#}\n", Value::Array(all)))?;
        }
        Ok(Exit::Complete)
    }
}

const HEADER: [&str; 6] = ["COLUMN", "TYPE", "NULLS", "LEAST", "GREATEST", "EXAMPLES"];

fn title(output: &Output, shown: &str, schema: &Schema) -> String {
    let at = (output.at).map(|at| format!(", published {}", at.strftime("%Y-%m-%d %H:%M UTC")));
    format!(
        "{}: {} in {shown}{}",
        output.names(),
        plural(schema.rows, "row"),
        at.unwrap_or_default()
    )
}

fn table(output: &Output, shown: &str, schema: &Schema) -> String {
    let rows: Vec<Vec<String>> = schema.columns.iter().map(cells).collect();
    let mut text = title(output, shown, schema);
    text.push('\n');
    if !rows.is_empty() {
        text.push_str(&table::plain(&HEADER, &rows, table::width()));
    }
    for line in widened(schema) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn markdown(output: &Output, shown: &str, schema: &Schema) -> String {
    let mut text = format!("## {}\n\n", title(output, shown, schema));
    let _ = writeln!(text, "| {} |", HEADER.map(str::to_lowercase).join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(HEADER.len()));
    for column in &schema.columns {
        // What a cell of a Markdown table cannot hold as it is (GFM, tables).
        let cells = cells(column);
        let cells = cells
            .iter()
            .map(|cell| cell.replace('\\', "\\\\").replace('|', "\\|"));
        let _ = writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    for line in widened(schema) {
        let _ = write!(text, "\n{line}\n");
    }
    text.push('\n');
    text
}

/// A column as a row of the table.
fn cells(column: &Column) -> Vec<String> {
    let shown = |json: &String| clean(json).into_owned();
    let end = |end: &Option<String>| end.as_ref().map(shown).unwrap_or_default();
    let examples: Vec<String> = column.examples.iter().map(shown).collect();
    vec![
        clean(&column.name).into_owned(),
        kind(column),
        thousands(column.nulls),
        end(&column.min),
        end(&column.max),
        examples.join(", "),
    ]
}

/// Its type, and whether a typed format keeps it as text.
fn kind(column: &Column) -> String {
    match column.kind {
        None => "null".to_owned(),
        Some(kind) if column.is_wide() => format!("{kind} wide"),
        Some(kind) => kind.to_string(),
    }
}

/// Why columns are wider than their first values.
fn widened(schema: &Schema) -> Vec<String> {
    let told = schema.columns.iter().filter_map(|column| {
        let widened = column.widened.as_ref()?;
        Some(format!(
            "`{}` was {} ({}) until row {}: {}",
            clean(&column.name),
            widened.from,
            clean(&widened.was),
            thousands(widened.row),
            clean(&widened.by)
        ))
    });
    told.collect()
}

fn json(output: &Output, shown: &str, schema: &Schema) -> Value {
    json!({
        "stream": output.streams.first(),
        "streams": output.streams,
        "path": shown,
        "format": output.format.ending(),
        "files": output.files.len(),
        "published": output.at.map(|at| at.to_string()),
        "run": (!output.run.is_empty()).then_some(&output.run),
        "rows": schema.rows,
        "columns": schema.columns,
    })
}
