//! What one run leaves for the next, in the state: cursors and bases. They change
//! together, in the one transaction of a publish.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::field::instant;
use super::row::PublishIntent;
use super::state::{State, StateError};

/// Up to where a partition was fetched and published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The pipeline.
    pub pipeline: String,
    /// The stream.
    pub stream: String,
    /// The partition: its variables as JSON, `""` where there are none.
    pub partition: String,
    /// Whose values are compared.
    pub field: String,
    /// The greatest that was published, as text: instants in RFC 3339.
    pub value: String,
    /// How values are ordered: `instant`, `integer` or `text`.
    pub format: String,
    /// The run that moved it; `""` where a person did.
    pub run: String,
    /// When.
    pub updated: Timestamp,
}

/// What `merge` has gathered of a stream so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The file, relative to `.gleaner/base/`.
    pub file: String,
    /// Counts publishes.
    pub generation: u64,
    /// The run that made it.
    pub run: String,
}

/// All that becomes true when a stream is published.
#[derive(Debug, Clone)]
pub struct Publish<'a> {
    /// The run.
    pub run: &'a str,
    /// The pipeline.
    pub pipeline: &'a str,
    /// The stream.
    pub stream: &'a str,
    /// When.
    pub at: Timestamp,
    /// Its outputs, with their rows.
    pub files: &'a [(PublishIntent, u64)],
    /// Cursors that move.
    pub cursors: &'a [Cursor],
    /// The new base, with `merge`.
    pub base: Option<&'a Base>,
}

/// An output as it was published last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedFile {
    /// The run.
    pub run: String,
    /// The stream.
    pub stream: String,
    /// Where it is.
    pub target: String,
    /// Bytes.
    pub size: u64,
    /// CRC32C of all bytes.
    pub crc: u32,
    /// Rows.
    pub rows: u64,
    /// When.
    pub at: Timestamp,
}

impl State {
    /// The streams of a table were published: their rows, cursors and base, in one transaction. Doing
    /// it again changes nothing.
    pub fn publish(&mut self, streams: &[Publish<'_>]) -> Result<(), StateError> {
        self.change("publish in", |change| {
            streams.iter().try_for_each(|one| put(change, one))
        })
    }

    /// Whether a run has published a stream to this place.
    pub fn is_published_to(
        &self,
        run: &str,
        stream: &str,
        target: &str,
    ) -> Result<bool, StateError> {
        let text = "SELECT EXISTS (SELECT 1 FROM published WHERE run = ?1 AND stream = ?2 AND target = ?3)";
        self.connection
            .query_row(text, [run, stream, target], |row| row.get(0))
            .map_err(|e| self.failed(e))
    }

    /// Whether a run has published a stream.
    pub fn is_published(&self, run: &str, stream: &str) -> Result<bool, StateError> {
        let text = "SELECT EXISTS (SELECT 1 FROM published WHERE run = ?1 AND stream = ?2)";
        self.connection
            .query_row(text, [run, stream], |row| row.get(0))
            .map_err(|e| self.failed(e))
    }

    /// An output as it was published last.
    pub fn last_published(&self, target: &str) -> Result<Option<PublishedFile>, StateError> {
        let text = "SELECT * FROM published WHERE target = ?1";
        Ok(self.published_where(text, target)?.into_iter().next())
    }

    /// All places to which runs published.
    pub fn published_places(&self) -> Result<Vec<String>, StateError> {
        let read = || -> rusqlite::Result<Vec<String>> {
            self.connection
                .prepare("SELECT DISTINCT target FROM published")?
                .query_map([], |row| row.get(0))?
                .collect()
        };
        read().map_err(|e| self.failed(e))
    }

    /// All that runs of a pipeline published, the latest first.
    pub fn published_by(&self, pipeline: &str) -> Result<Vec<PublishedFile>, StateError> {
        let text = "SELECT published.* FROM published JOIN runs ON runs.id = published.run
                    WHERE runs.pipeline = ?1";
        self.published_where(text, pipeline)
    }

    /// The latest first: as times and not as text, in which a whole second comes after its fractions.
    fn published_where(&self, text: &str, value: &str) -> Result<Vec<PublishedFile>, StateError> {
        let read = || -> rusqlite::Result<Vec<PublishedFile>> {
            self.connection
                .prepare(text)?
                .query_map([value], read_published)?
                .collect()
        };
        let mut files = read().map_err(|e| self.failed(e))?;
        files.sort_by(|a, b| (b.at, &b.run, &a.target).cmp(&(a.at, &a.run, &b.target)));
        Ok(files)
    }

    /// Cursors of a pipeline, by stream and partition.
    pub fn cursors(&self, pipeline: &str) -> Result<Vec<Cursor>, StateError> {
        let text = "SELECT * FROM cursors WHERE pipeline = ?1 ORDER BY stream, partition";
        let read = || -> rusqlite::Result<Vec<Cursor>> {
            self.connection
                .prepare(text)?
                .query_map([pipeline], read_cursor)?
                .collect()
        };
        read().map_err(|e| self.failed(e))
    }

    /// The cursor of a partition.
    pub fn cursor(
        &self,
        pipeline: &str,
        stream: &str,
        partition: &str,
    ) -> Result<Option<Cursor>, StateError> {
        let text = "SELECT * FROM cursors WHERE pipeline = ?1 AND stream = ?2 AND partition = ?3";
        self.connection
            .query_row(text, [pipeline, stream, partition], read_cursor)
            .optional()
            .map_err(|e| self.failed(e))
    }

    /// Sets a cursor by hand.
    pub fn set_cursor(&mut self, cursor: &Cursor) -> Result<(), StateError> {
        self.change("set a cursor in", |change| put_cursor(change, cursor))
    }

    /// Forgets cursors, and says how many: of a pipeline, one of its streams, or one partition of that.
    pub fn reset_cursors(
        &mut self,
        pipeline: &str,
        stream: Option<&str>,
        partition: Option<&str>,
    ) -> Result<usize, StateError> {
        self.change("reset cursors in", |change| {
            change.execute(
                "DELETE FROM cursors WHERE pipeline = ?1 AND (?2 IS NULL OR stream = ?2)
                     AND (?3 IS NULL OR partition = ?3)",
                params![pipeline, stream, partition],
            )
        })
    }

    /// Forgets the base of a stream, and with it those of the streams that write the same table; says
    /// of how many.
    pub fn forget_base(&mut self, pipeline: &str, stream: &str) -> Result<usize, StateError> {
        self.change("forget a base in", |change| {
            change.execute(
                "DELETE FROM bases WHERE pipeline = ?1 AND file IN
                     (SELECT file FROM bases WHERE pipeline = ?1 AND stream = ?2)",
                [pipeline, stream],
            )
        })
    }

    /// The files of all bases of a pipeline.
    pub fn base_files(&self, pipeline: &str) -> Result<Vec<String>, StateError> {
        let text = "SELECT DISTINCT file FROM bases WHERE pipeline = ?1";
        let read = || -> rusqlite::Result<Vec<String>> {
            self.connection
                .prepare(text)?
                .query_map([pipeline], |row| row.get(0))?
                .collect()
        };
        read().map_err(|e| self.failed(e))
    }

    /// What `merge` has gathered of a stream.
    pub fn base(&self, pipeline: &str, stream: &str) -> Result<Option<Base>, StateError> {
        let text = "SELECT * FROM bases WHERE pipeline = ?1 AND stream = ?2";
        let found = self.connection.query_row(text, [pipeline, stream], |row| {
            Ok(Base {
                file: row.get("file")?,
                generation: row.get("generation")?,
                run: row.get("run")?,
            })
        });
        found.optional().map_err(|e| self.failed(e))
    }
}

/// All that becomes true of one stream.
fn put(change: &Transaction<'_>, publish: &Publish<'_>) -> rusqlite::Result<()> {
    for (file, rows) in publish.files {
        change.execute(
            "INSERT OR REPLACE INTO published (run, stream, target, size, crc, rows, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                publish.run,
                publish.stream,
                file.target,
                file.size,
                file.crc,
                rows,
                publish.at.to_string()
            ],
        )?;
    }
    for cursor in publish.cursors {
        put_cursor(change, cursor)?;
    }
    if let Some(base) = publish.base {
        change.execute(
            "INSERT OR REPLACE INTO bases (pipeline, stream, file, generation, run, updated)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                publish.pipeline,
                publish.stream,
                base.file,
                base.generation,
                base.run,
                publish.at.to_string()
            ],
        )?;
    }
    Ok(())
}

fn read_published(row: &Row<'_>) -> rusqlite::Result<PublishedFile> {
    Ok(PublishedFile {
        run: row.get("run")?,
        stream: row.get("stream")?,
        target: row.get("target")?,
        size: row.get("size")?,
        crc: row.get("crc")?,
        rows: row.get("rows")?,
        at: instant(row, "at")?,
    })
}

fn put_cursor(change: &Transaction<'_>, cursor: &Cursor) -> rusqlite::Result<()> {
    change.execute(
        "INSERT OR REPLACE INTO cursors
             (pipeline, stream, partition, field, value, format, run, updated)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            cursor.pipeline,
            cursor.stream,
            cursor.partition,
            cursor.field,
            cursor.value,
            cursor.format,
            cursor.run,
            cursor.updated.to_string()
        ],
    )?;
    Ok(())
}

fn read_cursor(row: &Row<'_>) -> rusqlite::Result<Cursor> {
    Ok(Cursor {
        pipeline: row.get("pipeline")?,
        stream: row.get("stream")?,
        partition: row.get("partition")?,
        field: row.get("field")?,
        value: row.get("value")?,
        format: row.get("format")?,
        run: row.get("run")?,
        updated: instant(row, "updated")?,
    })
}
