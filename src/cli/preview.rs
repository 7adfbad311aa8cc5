//! `gleaner preview`: the first page of each stream as a table, with the types its values show.

use std::collections::HashMap;
use std::fmt::Write as _;

use clap::Args;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::failure::{Exit, Failure};
use crate::harvest::{Harvest, Options, Sample, SampledColumns};
use crate::plan::path::{Path, Step};
use crate::plan::typed::Kind;
use crate::report::{self, clean, plural};
use crate::sink::infer::{self, Mixing};

use super::draft::scalar;
use super::drive::Drive;
use super::global::Global;
use super::rooms::{self, Overrides};
use super::{out, project, state, table};

/// Rows shown of each stream.
const ROWS: usize = 10;

/// Show the first page of each stream as a table
///
/// Sends one request a stream, within the limits, and writes no file. A stream that runs over the
/// records of another one takes the first of them, so that is asked too. The second line of the
/// header says the type of each column, as the pipeline declares it, or else what the values of
/// that page look like: integer, number, boolean, date, timestamp, text, json, or null where all
/// are empty. A value that does not fit a declared type is told below.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct PreviewArgs {
    /// Name or path of a pipeline
    #[arg(value_name = "NAME|PATH")]
    pipeline: String,

    /// Set a variable of the pipeline; may be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = super::run::assignment)]
    vars: Vec<(String, String)>,

    /// Preview only this stream; may be repeated
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,

    /// Print the fields as `columns` of the pipeline file, with the types that the values show
    #[arg(long)]
    columns: bool,
}

impl PreviewArgs {
    pub(super) async fn execute(&self, global: &Global) -> Result<Exit, Failure> {
        let found = project::find(&self.pipeline)?;
        let overrides = Overrides {
            vars: self.vars.clone(),
            streams: self.streams.clone(),
            ..Overrides::default()
        };
        let Some(plan) = rooms::plan_or_tell(&found.path, &overrides)? else {
            return Ok(Exit::Invalid);
        };
        let drive = Drive::of_few_requests(global);
        let transport = rooms::transport(&plan, &found.root)?;
        let world = drive.world(transport, found.root);
        let options = Options {
            streams: self.streams.clone(),
            dry: true,
            limits: state::limits(),
            state: state::folder(),
            ..Options::default()
        };
        let mut exit = Exit::Complete;
        let harvest = Harvest::open(plan, world, options).map_err(|failure| *failure)?;
        for sample in harvest.preview().await {
            match &sample.failure {
                None => {
                    let text = if self.columns {
                        drafted(&sample)
                    } else {
                        draw(&sample, table::width())
                    };
                    out::stdout(&text)?;
                    if let Some(more) = &sample.more {
                        out::stderr(&format!(
                            "{}: {}; a run would stop here: say how to page, for example `pages: link`\n",
                            clean(&sample.stream),
                            clean(more)
                        ));
                    }
                }
                Some(failure) => {
                    out::stderr(&report::draw_stream_failure(&sample.stream, failure));
                    exit = exit.worst(failure.exit);
                }
            }
        }
        Ok(drive.stop.exit(exit))
    }
}

/// A stream's first page.
fn draw(sample: &Sample, width: usize) -> String {
    let mut out = format!(
        "{}: {} on the first page\n",
        clean(&sample.stream),
        plural(sample.records.len() as u64, "record")
    );
    let page = match &sample.columns {
        Some(columns) => Page::of(columns),
        None => Page::read(&sample.records),
    };
    if page.names.is_empty() {
        return out;
    }
    let kinds = page.kinds.iter().map(|kind| match kind {
        Some(kind) => kind.to_string(),
        None => "null".to_owned(),
    });
    let kinds = kinds.collect();
    let header = [page.names, kinds];
    let rest = page.rows.len().saturating_sub(ROWS);
    let rows: Vec<Vec<String>> = page.rows.into_iter().take(ROWS).collect();
    out.push_str(&table::ruled(&header, &rows, width));
    if rest > 0 {
        let _ = writeln!(out, "and {}", plural(rest as u64, "more record"));
    }
    for (_, misfit) in sample.columns.iter().flat_map(|columns| &columns.misfits) {
        let _ = writeln!(out, "does not fit: {}", clean(misfit));
    }
    out
}

/// A stream's fields as its `columns`, to be pasted under it.
fn drafted(sample: &Sample) -> String {
    let mut out = format!(
        "# {}: by {} of a first page; a column without a type takes values as they are\n",
        clean(&sample.stream),
        plural(sample.records.len() as u64, "record")
    );
    let page = Page::read(&sample.records);
    if page.names.is_empty() {
        return out;
    }
    out.push_str("    columns:\n");
    for ((name, path), kind) in page.names.iter().zip(&page.paths).zip(&page.kinds) {
        let kind = kind.filter(|kind| !matches!(kind, Kind::Text | Kind::Json));
        let from = Some(path.to_string()).filter(|path| path != name || path.contains('.'));
        let name = scalar(name);
        let from = from.as_deref().map(scalar);
        let _ = match (from, kind) {
            (None, None) => writeln!(out, "      {name}:"),
            (Some(from), None) => writeln!(out, "      {name}: {from}"),
            (None, Some(kind)) => writeln!(out, "      {name}: {{ type: {kind} }}"),
            (Some(from), Some(kind)) => {
                writeln!(out, "      {name}: {{ from: {from}, type: {kind} }}")
            }
        };
    }
    out
}

/// Records as a table: every field that any record has, in order of first appearance.
#[derive(Debug, Default)]
struct Page {
    names: Vec<String>,
    /// Where each is in a record.
    paths: Vec<Path>,
    /// Nothing where all values so far are null.
    kinds: Vec<Option<Kind>>,
    rows: Vec<Vec<String>>,
    places: HashMap<String, usize>,
}

impl Page {
    fn read(records: &[String]) -> Self {
        let mut page = Self::default();
        for record in records {
            let mut row = Vec::new();
            page.fields(record, "", &[], &mut row);
            page.rows.push(row);
        }
        let columns = page.names.len();
        for row in &mut page.rows {
            row.resize(columns, String::new());
        }
        page
    }

    /// Records that are in columns already.
    fn of(columns: &SampledColumns) -> Self {
        let kind = |at: usize, declared: Option<Kind>| {
            let cells = columns.rows.iter().filter_map(|row| row.get(at));
            declared.or_else(|| cells.map(|cell| infer::kind_of(cell)).fold(None, join))
        };
        let names = columns.names.iter().enumerate();
        Self {
            kinds: names
                .map(|(at, (_, declared))| kind(at, *declared))
                .collect(),
            names: columns.names.iter().map(|(name, _)| name.clone()).collect(),
            rows: (columns.rows.iter())
                .map(|row| row.iter().map(|cell| shown(cell)).collect())
                .collect(),
            ..Self::default()
        }
    }

    /// Adds the fields of an object, those of nested objects under dotted names.
    fn fields(&mut self, json: &str, prefix: &str, above: &[Step], row: &mut Vec<String>) {
        let Some(fields) = fields(json).filter(|fields| !fields.is_empty()) else {
            let name = if prefix.is_empty() { "value" } else { prefix };
            self.cell(name, above, json, row);
            return;
        };
        for (name, value) in fields {
            let mut steps = above.to_vec();
            steps.push(Step::Key(name.clone()));
            let name = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}.{name}")
            };
            if value.get().starts_with('{') {
                self.fields(value.get(), &name, &steps, row);
            } else {
                self.cell(&name, &steps, value.get(), row);
            }
        }
    }

    fn cell(&mut self, name: &str, steps: &[Step], json: &str, row: &mut Vec<String>) {
        let place = self.places.get(name).copied().unwrap_or_else(|| {
            self.places.insert(name.to_owned(), self.names.len());
            self.names.push(name.to_owned());
            self.kinds.push(None);
            let steps = steps.to_vec();
            self.paths.push(Path { steps });
            self.names.len() - 1
        });
        self.kinds[place] = join(self.kinds[place], infer::kind_of(json));
        if row.len() <= place {
            row.resize(place + 1, String::new());
        }
        row[place] = shown(json);
    }
}

fn join(known: Option<Kind>, kind: Option<Kind>) -> Option<Kind> {
    match (known, kind) {
        (Some(known), Some(kind)) => Some(infer::join(known, kind, Mixing::Exact)),
        (known, kind) => known.or(kind),
    }
}

/// A value as a cell: text without its quotes, null as nothing, all else as written.
fn shown(json: &str) -> String {
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()),
        Some(b'n') => String::new(),
        _ => json.to_owned(),
    }
}

/// The fields of an object in order, values as written (so that long numbers stay exact).
fn fields(json: &str) -> Option<Vec<(String, Box<RawValue>)>> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Vec<(String, Box<RawValue>)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some(field) = map.next_entry()? {
                fields.push(field);
            }
            Ok(fields)
        }
    }
    serde_json::Deserializer::from_str(json)
        .deserialize_map(InOrder)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_becomes_a_typed_table() {
        let records = [
            r#"{"id": 1234567890123456789012345, "title": "One", "user": {"login": "ann", "bot": false}, "labels": ["a"], "at": "2024-05-01T10:00:00Z", "price": 1.10, "gone": null}"#,
            r#"{"id": 2, "user": {"login": "bob"}, "title": "Two\u001b[2J", "price": 3, "extra": "2024-05-01"}"#,
        ];
        let sample = Sample {
            stream: "issues".to_owned(),
            records: records.map(str::to_owned).to_vec(),
            columns: None,
            more: None,
            failure: None,
        };
        insta::assert_snapshot!(draw(&sample, 160), @r#"
        issues: 2 records on the first page
         id                          title          user.login   user.bot   labels   at                     price    gone   extra
         integer                     text           text         boolean    json     timestamp              number   null   date
        ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
         1234567890123456789012345   One            ann          false      ["a"]    2024-05-01T10:00:00Z   1.10
         2                           Two\u{1b}[2J   bob                                                     3               2024-05-01
        "#);
    }

    #[test]
    fn fields_are_drafted_as_columns_that_check_reads() {
        let sample = Sample {
            stream: "issues".to_owned(),
            records: vec![
                r#"{"id": 7, "title": "One", "user": {"login": "ann", "at": "2024-05-01"}, "a.b": 1.10, "yes": true, "odd name": null, "tags": []}"#.to_owned(),
            ],
            columns: None,
            more: None,
            failure: None,
        };
        let drafted = drafted(&sample);
        for line in [
            "      id: { type: integer }",
            "      title:",
            "      user.at: { from: user.at, type: date }",
            r#"      a.b: { from: "\"a.b\"", type: number }"#,
        ] {
            assert!(drafted.lines().any(|known| known == line), "{drafted}");
        }
        let file = format!(
            "source: {{ url: 'https://api.example.com', limits: none }}\nstreams:\n  issues:\n    get: /issues\n{drafted}sink: {{ csv: a.csv }}\n"
        );
        let plan = rooms::plan_text(std::path::Path::new("a.yaml"), &file, &Overrides::default());
        let plan = plan.unwrap_or_else(|_| panic!("{file}"));
        let columns = plan.streams[0].columns.as_deref().expect("columns");
        assert_eq!(columns.len(), 8);
        let mut projector = crate::sink::project::Projector::new(columns);
        let mut cells = Vec::new();
        projector
            .cells(&sample.records[0], &[], &mut cells)
            .expect("cells");
        assert_eq!(
            cells,
            [
                "7",
                "\"One\"",
                "\"ann\"",
                "\"2024-05-01\"",
                "1.10",
                "true",
                "",
                "[]"
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_a_value() {
        let sample = Sample {
            stream: "ids".to_owned(),
            records: vec!["1".to_owned(), "\"x\"".to_owned(), "{}".to_owned()],
            columns: None,
            more: None,
            failure: None,
        };
        insta::assert_snapshot!(draw(&sample, 80), @r"
        ids: 3 records on the first page
         value
         json
        ───────
         1
         x
         {}
        ");
    }
}
