//! A table as it is declared in SQLite: made, and changed when rows with other columns come.

use rusqlite::{Connection, params};

use super::columns::{self, Column, RUN, converted, listed, quoted};
use crate::plan::typed::Kind;
use crate::sink::infer::Native;

/// Most columns that SQLite takes (SQLite, "Implementation Limits": `SQLITE_MAX_COLUMN`).
pub(super) const MOST_COLUMNS: usize = 2_000;

/// How a table is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) columns: Vec<Column>,
    /// Names of the columns that tell rows apart.
    pub(super) key: Vec<String>,
    /// Whether the key is the primary key; else, since a value of it may be null, there is an index.
    pub(super) is_primary: bool,
    /// Whether each row says which run brought it.
    pub(super) adds: bool,
}

impl Declared {
    /// For these columns; `key` names sources.
    pub(super) fn new(columns: Vec<Column>, key: &[String], adds: bool) -> Self {
        let of_key = |name: &String| columns.iter().find(|column| column.source == *name);
        let found: Vec<&Column> = key.iter().filter_map(of_key).collect();
        let whole = found.len() == key.len() && !key.is_empty();
        let is_primary = whole && !adds && found.iter().all(|column| !column.nulls);
        let key = found.iter().map(|column| column.name.clone()).collect();
        Self {
            key: if whole { key } else { Vec::new() },
            columns,
            is_primary,
            adds,
        }
    }

    /// Makes the table.
    pub(super) fn create(&self, to: &Connection, table: &str) -> rusqlite::Result<()> {
        let all = self.columns.iter();
        let mut lines: Vec<String> = all
            .map(|column| format!("{} {}", quoted(&column.name), column.storage()))
            .collect();
        if self.adds {
            lines.push(format!("{} TEXT NOT NULL", quoted(RUN)));
        }
        let key = listed(self.key.iter().map(String::as_str));
        if self.is_primary {
            lines.push(format!("PRIMARY KEY ({key})"));
        }
        let body = lines.join(", ");
        to.execute_batch(&format!("CREATE TABLE {} ({body}) STRICT", quoted(table)))
    }

    /// Makes the indexes, best when the rows are there.
    pub(super) fn index(&self, to: &Connection, table: &str) -> rusqlite::Result<()> {
        let index = |what: &str, on: &str| {
            to.execute_batch(&format!(
                "CREATE INDEX IF NOT EXISTS {} ON {} ({on})",
                quoted(&format!("{table}_{what}")),
                quoted(table)
            ))
        };
        if self.adds {
            index("run", &quoted(RUN))?;
        }
        if !self.key.is_empty() && !self.is_primary {
            index("key", &listed(self.key.iter().map(String::as_str)))?;
        }
        Ok(())
    }

    /// Remembers what the columns are.
    pub(super) fn note(&self, to: &Connection, table: &str) -> rusqlite::Result<()> {
        to.execute(
            r#"DELETE FROM "_gleaner_columns" WHERE "table" = ?1"#,
            [table],
        )?;
        let mut add = to.prepare(
            r#"INSERT INTO "_gleaner_columns" ("table", position, name, source, type, native)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)"#,
        )?;
        for (position, column) in (1_u32..).zip(&self.columns) {
            let kind = column.kind.map(|kind| kind.to_string());
            let native = named(column.native);
            add.execute(params![
                table,
                position,
                column.name,
                column.source,
                kind,
                native
            ])?;
        }
        Ok(())
    }

    /// The table as an earlier publish declared it; none where there is none.
    pub(super) fn read(
        from: &Connection,
        table: &str,
        key: &[String],
    ) -> rusqlite::Result<Option<Self>> {
        let mut listed = from.prepare("SELECT name, pk FROM pragma_table_info(?1)")?;
        let there: Vec<(String, u32)> = listed
            .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        if there.is_empty() {
            return Ok(None);
        }
        let mut noted = from.prepare(
            r#"SELECT name, source, type, native FROM "_gleaner_columns"
               WHERE "table" = ?1 ORDER BY position"#,
        )?;
        let columns = noted
            .query_map([table], |row| {
                let kind: Option<String> = row.get(2)?;
                let native: String = row.get(3)?;
                Ok(Column {
                    name: row.get(0)?,
                    source: row.get(1)?,
                    kind: kind.and_then(|kind| read::<Kind>(&kind)),
                    native: read::<Native>(&native).unwrap_or(Native::Text),
                    beyond: false,
                    nulls: false,
                })
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let adds = there.iter().any(|(name, _)| name == RUN);
        let mut declared = Self::new(columns, key, adds);
        declared.is_primary &= there.iter().any(|(_, pk)| *pk > 0);
        for column in &mut declared.columns {
            column.nulls = !declared.is_primary;
        }
        Ok(Some(declared))
    }

    /// Whether rows of this table can be put into one that is declared like `other`.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let named = |columns: &[Column]| -> Vec<(String, &str)> {
            let all = columns.iter();
            all.map(|column| (column.name.clone(), column.storage()))
                .collect()
        };
        named(&self.columns) == named(&other.columns)
            && (self.is_primary, self.adds) == (other.is_primary, other.adds)
            && self.key == other.key
    }

    /// Finds which of its whole numbers are too large to be floats.
    pub(super) fn measure(&mut self, from: &Connection, table: &str) -> rusqlite::Result<()> {
        for column in &mut self.columns {
            if column.native == Native::Int64 {
                let name = quoted(&column.name);
                column.beyond = from.query_row(
                    &format!(
                        "SELECT EXISTS (SELECT 1 FROM {} WHERE {name} NOT BETWEEN -9007199254740992 AND 9007199254740992)",
                        quoted(table)
                    ),
                    [],
                    |row| row.get(0),
                )?;
            }
        }
        Ok(())
    }

    /// Brings a table and its rows from what it is to `to`, which has all its columns.
    pub(super) fn become_like(
        &self,
        to: &Self,
        at: &Connection,
        table: &str,
    ) -> rusqlite::Result<()> {
        let kept = to.columns.get(..self.columns.len()).unwrap_or_default();
        let same = |(old, new): (&Column, &Column)| {
            old.storage() == new.storage() && converted(old, new) == quoted(&old.name)
        };
        let grows = self.columns.iter().zip(kept).all(same)
            && (self.is_primary, self.adds) == (to.is_primary, to.adds)
            && self.key == to.key;
        if grows {
            for column in to.columns.iter().skip(self.columns.len()) {
                at.execute_batch(&format!(
                    "ALTER TABLE {} ADD COLUMN {} {}",
                    quoted(table),
                    quoted(&column.name),
                    column.storage()
                ))?;
            }
            return Ok(());
        }
        let beside = format!("_gleaner_new_{table}");
        to.create(at, &beside)?;
        let mut names: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
        let mut values: Vec<String> = self
            .columns
            .iter()
            .zip(kept)
            .map(|(old, new)| converted(old, new))
            .collect();
        if to.adds {
            names.push(RUN);
            values.push(if self.adds {
                quoted(RUN)
            } else {
                "''".to_owned()
            });
        }
        at.execute_batch(&format!(
            "INSERT INTO {new} ({names}) SELECT {values} FROM {old} ORDER BY rowid; \
             DROP TABLE {old}; ALTER TABLE {new} RENAME TO {old}",
            new = quoted(&beside),
            old = quoted(table),
            names = listed(names.into_iter()),
            values = values.join(", "),
        ))?;
        to.index(at, table)
    }
}

/// Its name in the ledger, as everywhere else where types are written down.
fn named(native: Native) -> String {
    let json = serde_json::to_string(&native).unwrap_or_default();
    json.trim_matches('"').to_owned()
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::from(name)).ok()
}

/// The columns of records, as a table would have them.
pub(super) fn of_schema(
    schema: &crate::sink::infer::Schema,
    key: &[String],
    adds: bool,
) -> Declared {
    Declared::new(columns::of(schema), key, adds)
}
