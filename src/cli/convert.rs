//! `gleaner convert`: what was published, in another format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::clock::Clock;
use crate::disk::{self, Access, Disk};
use crate::failure::{Exit, Failure};
use crate::plan::sink::{Compression, CsvPlan, ParquetPlan, SinkFormat, is_table_name, place};
use crate::plan::typed::Kind;
use crate::report::{clean, plural, size};
use crate::sink::back::Source;
use crate::sink::database::{self, Claim, Fill, Place};
use crate::sink::infer::{Look, Schema};
use crate::sink::{self, Rows, SinkError, Target, Written};
use crate::store::locks::{self, LockError};

use super::outputs::{self, Asked, Format, Output};
use super::{out, state};

/// Write what was published in another format
///
/// Reads the files of the last publish and sends nothing. The new file takes the place of an old one when
/// it is whole; a file that a run publishes is never overwritten. Types are those that describe shows:
/// from CSV, those that `datapackage.json` beside it tells, else those that its cells look like. A SQLite
/// file gets one table a stream, and keeps those of others; what streams share is one table, called like its
/// file.
///
/// For example:
///
///   gleaner convert quakes --to parquet
///   gleaner convert quakes --to csv --out share/quakes.csv
///   gleaner convert shop --to sqlite --out share/shop.db
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ConvertArgs {
    /// Name of a pipeline, or a `datapackage.json`, its folder, or a file that it tells of
    #[arg(value_name = "NAME")]
    pipeline: String,

    /// The format to write
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: To,

    /// Where to: a file, in the project or anywhere; beside what is read if left out
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,

    /// Only this stream; may be repeated
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,

    /// Parquet with objects and arrays as they are, and not taken apart; from NDJSON
    #[arg(long)]
    nested: bool,

    /// Read this output
    #[arg(long, value_enum, value_name = "FORMAT")]
    from: Option<Format>,
}

/// What can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// Columns with types
    Parquet,
    /// One JSON object a line
    Ndjson,
    /// Cells without types
    Csv,
    /// A table for each stream
    Sqlite,
}

impl To {
    /// How its files end: as people call databases.
    fn ending(self) -> &'static str {
        match self {
            Self::Sqlite => "db",
            _ => self.format().ending(),
        }
    }

    fn format(self) -> Format {
        match self {
            Self::Parquet => Format::Parquet,
            Self::Ndjson => Format::Ndjson,
            Self::Csv => Format::Csv,
            Self::Sqlite => Format::Sqlite,
        }
    }
}

/// One output on its way to another format.
#[derive(Debug)]
struct Piece {
    output: Output,
    path: PathBuf,
    /// Where that is a database.
    table: Option<String>,
    target: Target,
}

impl ConvertArgs {
    pub(super) fn execute(&self) -> Result<Exit, Failure> {
        if self.nested && self.to != To::Parquet {
            return Err(Failure::usage("--nested is for --to parquet")
                .hint("NDJSON has its objects and arrays; CSV has none"));
        }
        if self.from == Some(self.to.format()) {
            return Err(Failure::usage("that is the format it has"));
        }
        let asked = outputs::asked(&self.pipeline)?;
        let from = match self.from {
            // Only there objects and arrays are whole.
            None if self.nested => Some(Format::Ndjson),
            from => from.or_else(|| self.other(&asked)),
        };
        if self.nested && from != Some(Format::Ndjson) {
            return Err(Failure::usage("--nested needs an NDJSON output to read"));
        }
        let found = asked.find(&self.streams, from)?;
        // Streams are tables of one database.
        if self.out.is_some() && found.len() > 1 && self.to != To::Sqlite {
            let message = format!("--out is one file, and there are {} streams", found.len());
            return Err(Failure::usage(message).hint("choose one with --stream"));
        }
        let pieces: Vec<Piece> = found
            .into_iter()
            .map(|output| self.piece(output))
            .collect::<Result<_, _>>()?;
        // All is judged before anything is written.
        let mut taken: BTreeMap<String, &Piece> = BTreeMap::new();
        for piece in &pieces {
            if let Some(other) = taken.insert(piece.place(), piece) {
                let message = format!(
                    "{} and {} would both be written to {}",
                    other.output.names(),
                    piece.output.names(),
                    clean(&piece.target.shown().display().to_string())
                );
                return Err(Failure::usage(message).hint(
                    "convert them one by one, each to a file of its own: --stream NAME --out PATH",
                ));
            }
        }
        for piece in &pieces {
            piece.judge(&asked)?;
        }
        for piece in &pieces {
            self.convert(&asked, piece)?;
        }
        Ok(Exit::Complete)
    }

    /// A format to read that is not the one to write, where there are several.
    fn other(&self, asked: &Asked) -> Option<Format> {
        let all = [Format::Parquet, Format::Ndjson, Format::Csv, Format::Sqlite];
        let mut others = all.into_iter().filter(|format| *format != self.to.format());
        others.find(|format| asked.find(&self.streams, Some(*format)).is_ok())
    }

    /// What becomes of an output.
    fn piece(&self, output: Output) -> Result<Piece, Failure> {
        let format = self.to.format();
        if output.format == format {
            let message = format!(
                "{} is published as {} alone",
                output.names(),
                format.ending()
            );
            return Err(Failure::usage(message)
                .hint("it is there already; choose another stream with --stream, or another format with --to"));
        }
        let path = match &self.out {
            Some(path) => std::path::absolute(path).map_err(|error| {
                Failure::usage(format!("{} is no path", path.display())).caused_by(&error)
            })?,
            None => match (&output.table, output.files.first()) {
                (Some(table), Some(file)) => file.with_file_name(named(table, self.to)),
                _ => beside(&output.path, self.to),
            },
        };
        let table = match output.streams.as_slice() {
            _ if self.to != To::Sqlite => None,
            [stream] => Some(stream.clone()),
            // Called as the table is that they share.
            _ => Some(stem(&output.path)),
        };
        let target = target(Disk::system(), path.clone(), table.as_deref(), self.to)?;
        Ok(Piece {
            output,
            path,
            table,
            target,
        })
    }

    fn convert(&self, asked: &Asked, piece: &Piece) -> Result<(), Failure> {
        let Piece { output, target, .. } = piece;
        let disk = Disk::system();
        let now = Clock::system().calendar();
        let locks = state::folder().unwrap_or_else(|| asked.root.join(".gleaner"));
        let _lock = locks::target(&disk, &locks, &target.shown(), now)
            .map_err(|error: LockError| *error.into_failure())?;
        let written = self.write(asked, output, &output.open()?, target);
        let written = written.map_err(outputs::unreadable)?;
        let (rows, bytes) = (written.rows, written.file.bytes());
        written.file.place().map_err(outputs::unreadable)?;
        let shown = target.shown();
        let shown = shown.strip_prefix(&asked.root).unwrap_or(&shown);
        out::stdout(&format!(
            "{}: {} in {} ({})\n",
            output.names(),
            plural(rows, "row"),
            clean(&shown.display().to_string()),
            size(bytes)
        ))
    }

    fn write(
        &self,
        asked: &Asked,
        output: &Output,
        source: &Source,
        target: &Target,
    ) -> Result<Written, SinkError> {
        let about = [
            ("gleaner.pipeline", asked.name.clone()),
            ("gleaner.stream", output.streams.join(" ")),
            // Which published what is read.
            ("gleaner.run", output.run.clone()),
        ];
        let about = about.into_iter().filter(|(_, value)| !value.is_empty());
        let format = match self.to {
            To::Csv => SinkFormat::Csv(CsvPlan {
                delimiter: b',',
                null: String::new(),
                spreadsheet_safe: false,
            }),
            To::Ndjson => SinkFormat::Ndjson,
            To::Parquet => SinkFormat::Parquet(ParquetPlan {
                nested: self.nested,
                about: about
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
            }),
            To::Sqlite => SinkFormat::Sqlite,
        };
        let claim = || {
            let now = Clock::system().calendar().to_string();
            Claim::converted(&asked.name, &output.streams.join(" "), &output.run, now)
        };
        if source.is_records() {
            let rows: &mut Rows<'_, SinkError> = &mut |each| source.records(each);
            return match target {
                Target::Table(place) => {
                    database::write(place, &claim(), Fill::Whole, None, None, rows)
                }
                _ => sink::write(&format, target, None, None, rows),
            };
        }
        let schema = typed(output, source)?;
        match target {
            Target::Table(place) => {
                database::rewrite(place, &claim(), &schema, &mut |each| source.rows(each))
            }
            _ => sink::rewrite(&format, target, &schema, &mut |each| source.rows(each)),
        }
    }
}

impl Piece {
    /// What is written: the same for two that would take each other's place.
    fn place(&self) -> String {
        place(&self.path.to_string_lossy(), self.table.as_deref())
    }

    /// Refuses what runs publish, and makes the folder.
    fn judge(&self, asked: &Asked) -> Result<(), Failure> {
        Disk::system()
            .create_folder(disk::above(&self.path), Access::Umask)
            .map_err(|error| {
                Failure::new(Exit::Disk, error.to_string()).caused_by(&error.source)
            })?;
        if asked.is_published(&self.path, self.table.as_deref())? {
            let shown = self.target.shown();
            let message = format!(
                "{} is published by runs",
                clean(&shown.display().to_string())
            );
            return Err(Failure::usage(message).hint("name another file with --out"));
        }
        Ok(())
    }
}

/// The columns of what is read; what CSV lost is told.
fn typed(output: &Output, source: &Source) -> Result<Schema, SinkError> {
    let schema = source.look(Look::Types)?;
    let mixed = schema.columns.iter().filter(|column| {
        output.format == Format::Csv && column.kind == Some(Kind::Json) && column.widened.is_some()
    });
    for column in mixed {
        out::stderr(&format!(
            "note: column `{}` held values of several types, and CSV does not say which: its cells are text\n",
            clean(&column.name)
        ));
    }
    Ok(schema)
}

/// Where to: a file, or a table of one.
fn target(disk: Disk, path: PathBuf, table: Option<&str>, to: To) -> Result<Target, Failure> {
    let compression = compression(&path, to)?;
    let Some(table) = table else {
        return Ok(Target::File {
            disk,
            path,
            compression,
        });
    };
    if !is_table_name(table) {
        let message = format!(
            "no table can be called `{}`, as the stream or its file is",
            clean(table)
        );
        return Err(Failure::usage(message)
            .hint("names of tables are not empty, and `sqlite_…` and `_gleaner…` are taken"));
    }
    Ok(Target::Table(Place {
        disk,
        path,
        table: table.to_owned(),
    }))
}

/// `data/items.csv.gz` → `data/items.parquet`; of a folder of files, one file beside it.
fn beside(path: &Path, to: To) -> PathBuf {
    path.with_file_name(named(&stem(path), to))
}

/// `items` of `data/items.csv.gz`.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.find('.').filter(|at| *at > 0);
    let stem = stem.and_then(|dot| name.get(..dot));
    stem.unwrap_or(&name).to_owned()
}

/// Of a table it is the name, which may hold what no name of a file does.
fn named(stem: &str, to: To) -> String {
    format!("{}.{}", stem.replace(['/', '\0'], "_"), to.ending())
}

fn compression(path: &Path, to: To) -> Result<Compression, Failure> {
    let compression = match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Compression::Gzip,
        Some("zst") => Compression::Zstd,
        _ => Compression::None,
    };
    let why = match (to, compression) {
        (_, Compression::None) | (To::Csv | To::Ndjson, _) => return Ok(compression),
        (To::Parquet, _) => "a Parquet file is compressed inside (zstd)",
        (To::Sqlite, _) => "a SQLite file is written in place, and not compressed",
    };
    let hint = format!("leave off the ending: `--out items.{}`", to.ending());
    Err(Failure::usage(why).hint(hint))
}
