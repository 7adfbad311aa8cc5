//! Checks of `expect` that look at the records themselves: `unique`, `fresh`, `nulls`, `schema`,
//! `columns`. One pass serves all of them; what does not fit into memory is sorted beside the part.

mod contract;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use jiff::SignedDuration;

use self::contract::Undeclared;
use crate::failure::Failure;
use crate::harvest::ground::standing::SharedState;
use crate::harvest::partitions::Partition;
use crate::harvest::publish::PublishError;
use crate::harvest::publish::key::Key;
use crate::harvest::publish::repeats::Repeats;
use crate::harvest::publish::rows::{Placed, Rows};
use crate::harvest::stream::Stream;
use crate::harvest::summary::Schema;
use crate::json;
use crate::plan::StreamPlan;
use crate::plan::cursor::Bound;
use crate::plan::duration;
use crate::plan::expect::{FreshPlan, SchemaRule};
use crate::plan::position::{Position, Seen};
use crate::sink::flatten::Flattener;
use crate::store::sorter::Sorter;

/// A time so far ahead of the clock is a mistake of the data and no sign of news. A day is enough for clocks
/// that differ and for local times without a zone, which are at most 14 hours ahead of UTC.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);
/// So many characters of values are shown.
const SHOWN: usize = 80;
/// So many characters of an example.
const EXAMPLE: usize = 40;
/// So many changes of a schema are named.
const NAMED: usize = 5;

/// Kinds of values by column, each with the first value of it and where that stands.
type Kinds = BTreeMap<String, BTreeMap<&'static str, String>>;

/// What the records came to.
struct Found {
    records: u64,
    /// Records without any value that `unique` asks for.
    alone: u64,
    /// Values that come more than once, and one of them.
    shared: (u64, Option<String>),
    newest: Option<Position>,
    /// Records that are from further ahead than can be, and the furthest of them.
    ahead: (u64, Option<Position>),
    /// By place in `nulls`.
    nulls: Vec<u64>,
    kinds: Kinds,
    /// Fields that no column reads, where there may be none.
    undeclared: Option<Undeclared>,
}

impl Stream {
    /// Judges the records; what kinds of values they have, where that is asked.
    pub(in crate::harvest) fn inspect(
        &self,
        rows: &Rows<'_>,
        repeats: &mut Repeats,
        state: Option<&SharedState>,
    ) -> Result<Option<Schema>, Box<Failure>> {
        let expect = &self.plan().expect;
        if !expect.reads_records() || self.run.options.limit_records.is_some() {
            return Ok(None);
        }
        let now = self.run.world.clock.calendar();
        let latest = Position::Instant(now.checked_add(AHEAD).unwrap_or(now));
        let mut parts = rows.members.iter().filter_map(|member| member.kept);
        let folder = parts.find_map(|(part, _)| part.path().parent());
        let folder = folder.unwrap_or(&self.run.world.root);
        let found = look(self.plan(), folder, rows, repeats, &latest)
            .map_err(|error| crate::harvest::publish::failure(self, PublishError::Read(error)))?;
        self.judge_unique_values(&found);
        if let Some(fresh) = &expect.fresh {
            self.judge_fresh(fresh, &found);
        }
        self.judge_nulls(&found);
        if let Some(told) = found.undeclared.as_ref().and_then(Undeclared::told) {
            let message = format!("`expect.columns` is `closed`, and no column reads {told}");
            self.breaks("columns", "only fields that columns read", told, &message);
        }
        let Some(rule) = expect.schema else {
            return Ok(None);
        };
        if found.records > 0 {
            let known = self.noted(state, "schema", |known: &Schema| !known.is_empty())?;
            self.judge_schema(rule, &found.kinds, &known);
        }
        let kinds = found.kinds.into_iter();
        let named =
            |kinds: BTreeMap<&'static str, String>| kinds.into_keys().map(str::to_owned).collect();
        Ok(Some(
            kinds.map(|(name, kinds)| (name, named(kinds))).collect(),
        ))
    }

    fn judge_unique_values(&self, found: &Found) {
        let columns = self.plan().expect.unique.join(", ");
        if found.alone == found.records && found.records > 0 && !columns.is_empty() {
            let message = format!("`expect.unique`: no record has a value of {columns}");
            self.breaks("unique", "values that tell records apart", "none", &message);
            return;
        }
        let (count, Some(example)) = &found.shared else {
            return;
        };
        self.breaks(
            "unique",
            format!("no two records with the same {columns}"),
            format!("{count} that several have, {example} among them"),
            &format!(
                "`expect.unique`: {count} {} of {columns} stand in several records, {example} among them",
                if *count == 1 { "value" } else { "values" }
            ),
        );
    }

    /// Where nothing new came, what was published before is as new as it gets.
    fn judge_fresh(&self, fresh: &FreshPlan, found: &Found) {
        let kept = self.cursor().and_then(|(cursor, windows)| {
            let is_it = cursor.written == fresh.written;
            is_it.then(|| windows.newest().cloned()).flatten()
        });
        let newest = found.newest.clone().into_iter().chain(kept).max();
        let ahead = match &found.ahead {
            (count, Some(furthest)) => {
                let ahead = format!(
                    "{} more than a day ahead of the clock, up to {furthest}, and {} not count",
                    if *count == 1 {
                        "one is".to_owned()
                    } else {
                        format!("{count} are")
                    },
                    if *count == 1 { "does" } else { "do" },
                );
                self.notice(&format!("of the values of `{}` {ahead}", fresh.written));
                format!("; {ahead}")
            }
            _ => String::new(),
        };
        let started = self.run.started;
        let oldest = Bound::Now(fresh.within).at(started);
        let (field, within) = (&fresh.written, duration::show(fresh.within));
        let expected = format!("a {field} of {oldest} or later");
        match newest {
            None => self.breaks(
                "fresh",
                expected,
                "none",
                &format!(
                    "no record has a `{field}` that counts, and `expect.fresh` wants one within {within}{ahead}"
                ),
            ),
            Some(newest) if newest < oldest => self.breaks(
                "fresh",
                expected,
                newest.to_string(),
                &format!(
                    "the newest `{field}` is {newest}; `expect.fresh` wants one within {within} before the run{ahead}"
                ),
            ),
            Some(_) => {}
        }
    }

    fn judge_nulls(&self, found: &Found) {
        if found.records == 0 {
            return;
        }
        let nulls = self.plan().expect.nulls.iter().zip(&found.nulls);
        for ((column, most), count) in nulls {
            let share = 100.0 * *count as f64 / found.records as f64;
            if share > *most {
                let seen = format!("{share:.1}% ({count} of {})", found.records);
                self.breaks(
                    "nulls",
                    format!("{column}: at most {most}%"),
                    seen.clone(),
                    &format!("`{column}` has no value in {seen}; `expect.nulls` allows {most}%"),
                );
            }
        }
    }

    fn judge_schema(&self, rule: SchemaRule, now: &Kinds, before: &[Schema]) {
        let changes = changes(rule, now, before);
        if changes.is_empty() {
            return;
        }
        let mut told = changes
            .iter()
            .take(NAMED)
            .cloned()
            .collect::<Vec<_>>()
            .join("; ");
        if changes.len() > NAMED {
            told = format!("{told}; and {} more", changes.len() - NAMED);
        }
        self.breaks(
            "schema",
            match before.len() {
                1 => "the columns of the run before".to_owned(),
                runs => format!("the columns of the last {runs} runs"),
            },
            told.clone(),
            &format!("its columns are others than before: {told}"),
        );
    }
}

/// What differs. A column is gone if all earlier runs had it: one that only some records have may be
/// missing in a night of few. It is new if none had it.
fn changes(rule: SchemaRule, now: &Kinds, before: &[Schema]) -> Vec<String> {
    let Some((latest, others)) = before.split_first() else {
        return Vec::new();
    };
    let mut changes = Vec::new();
    for column in latest.keys() {
        let always = others.iter().all(|schema| schema.contains_key(column));
        if always && !now.contains_key(column) {
            changes.push(format!("`{column}` is gone"));
        }
    }
    for (column, kinds) in now {
        let known: Vec<&Vec<String>> = before.iter().filter_map(|s| s.get(column)).collect();
        if known.is_empty() {
            if rule == SchemaRule::Same {
                changes.push(format!("`{column}` is new"));
            }
            continue;
        }
        let known: BTreeSet<&str> = known.into_iter().flatten().map(String::as_str).collect();
        // A whole number is a number; what never had a value may have any.
        let fits = |kind: &str| {
            known.is_empty()
                || known.contains(kind)
                || (kind == "integer" && known.contains("number"))
        };
        let strange: Vec<&str> = kinds.keys().copied().filter(|kind| !fits(kind)).collect();
        if !strange.is_empty() {
            let was: Vec<&str> = known.into_iter().collect();
            let mut change = format!(
                "`{column}` was {} and is {}",
                was.join(" or "),
                strange.join(" and ")
            );
            // One value of what is new, and one of what it was, where this run has any.
            let example = |of: Option<&str>| of.and_then(|kind| kinds.get(kind)).cloned();
            let new = example(strange.first().copied());
            let old = example(was.iter().find(|kind| kinds.contains_key(*kind)).copied());
            let examples: Vec<String> = new.into_iter().chain(old).collect();
            if !examples.is_empty() {
                change = format!("{change} ({})", examples.join(", beside "));
            }
            changes.push(change);
        }
    }
    changes
}

/// One pass over the records of one stream that will stand in the output; `latest` is as far ahead as a time
/// may be.
fn look(
    plan: &StreamPlan,
    folder: &Path,
    rows: &Rows<'_>,
    repeats: &mut Repeats,
    latest: &Position,
) -> io::Result<Found> {
    let names = &rows.run.names;
    let expect = &plan.expect;
    let columns: Option<Vec<String>> = (plan.columns.as_ref())
        .map(|columns| columns.iter().map(|column| column.name.clone()).collect());
    let nulls: Vec<String> = expect.nulls.iter().map(|(name, _)| name.clone()).collect();
    let mut unique = Key::of(plan, names, &expect.unique);
    let mut of_nulls = Key::of(plan, names, &nulls);
    let declared = columns.as_deref().filter(|_| expect.schema.is_some());
    let mut of_columns = declared.and_then(|columns| Key::of(plan, names, columns));
    let mut fields = (expect.schema.is_some() && columns.is_none()).then(Fields::default);
    let mut sorter = Sorter::new(&rows.run.world.disk, folder, &format!("{}.same", plan.name));
    let mut found = Found {
        records: 0,
        alone: 0,
        shared: (0, None),
        newest: None,
        ahead: (0, None),
        nulls: vec![0; nulls.len()],
        kinds: Kinds::new(),
        undeclared: (plan.columns.as_deref())
            .filter(|_| expect.closed)
            .map(Undeclared::of),
    };
    rows.each_kept(repeats, &mut |placed, partition| {
        found.records += 1;
        let hash = match &mut unique {
            Some(key) => key.hash(placed.json, partition, placed.in_page),
            None => Ok(None),
        };
        let hash = hash.map_err(io::Error::other)?;
        found.alone += u64::from(hash.is_none());
        if let (Some(key), Some((a, b))) = (&mut unique, hash) {
            let mut shown = Vec::new();
            key.values(placed.json, partition, placed.in_page, &mut |_, value| {
                shown.push(value.map(json::plain).unwrap_or_default().into_owned());
            })
            .map_err(io::Error::other)?;
            let shown: String = shown.join(", ").chars().take(SHOWN).collect();
            let hash = [a, b].map(u64::to_be_bytes);
            sorter
                .push(hash.as_flattened(), shown.as_bytes())
                .map_err(io::Error::other)?;
        }
        if let Some(fresh) = &expect.fresh
            && let Seen::At(position) = fresh.format.see(json::get(placed.json, &fresh.field))
        {
            let place = if position > *latest {
                found.ahead.0 += 1;
                &mut found.ahead.1
            } else {
                &mut found.newest
            };
            if place.as_ref().is_none_or(|known| position > *known) {
                *place = Some(position);
            }
        }
        if let Some(key) = &mut of_nulls {
            key.values(placed.json, partition, placed.in_page, &mut |at, value| {
                if let (None, Some(count)) = (value, found.nulls.get_mut(at)) {
                    *count += 1;
                }
            })
            .map_err(io::Error::other)?;
        }
        if let (Some(key), Some(columns)) = (&mut of_columns, declared) {
            key.values(placed.json, partition, placed.in_page, &mut |at, value| {
                if let Some(column) = columns.get(at) {
                    note(&mut found.kinds, column, value, &|| {
                        place(placed, partition)
                    });
                }
            })
            .map_err(io::Error::other)?;
        }
        if let Some(undeclared) = &mut found.undeclared {
            undeclared.see(placed.json, &|value| {
                format!("{} in {}", shortened(value), place(placed, partition))
            });
        }
        if let Some(fields) = &mut fields {
            fields.see(placed.json, &|| place(placed, partition));
        }
        Ok(())
    })?;
    if let Some(fields) = fields {
        found.kinds = fields.kinds();
    }
    found.shared = shared(sorter)?;
    Ok(found)
}

/// How many values were pushed more than once, and the first of them.
fn shared(sorter: Sorter) -> io::Result<(u64, Option<String>)> {
    let mut hashes = sorter.finish().map_err(io::Error::other)?;
    let (mut last, mut times) = (Vec::new(), 0_u64);
    let (mut count, mut example) = (0, None);
    while let Some((hash, shown)) = hashes.next().map_err(io::Error::other)? {
        if hash != last.as_slice() {
            last = hash.to_vec();
            times = 0;
        }
        times += 1;
        if times == 2 {
            count += 1;
            example.get_or_insert_with(|| String::from_utf8_lossy(shown).into_owned());
        }
    }
    Ok((count, example))
}

/// Where a record stands, for people.
fn place(placed: Placed<'_>, partition: &Partition) -> String {
    let label = partition.label();
    let label = if label.is_empty() {
        label
    } else {
        format!("{label}, ")
    };
    match placed.page {
        Some(page) => format!("{label}page {}, record {}", page + 1, placed.in_page + 1),
        None => format!("{label}a record that came again"),
    }
}

fn note(kinds: &mut Kinds, column: &str, value: Option<&str>, place: &dyn Fn() -> String) {
    if !kinds.contains_key(column) {
        kinds.insert(column.to_owned(), BTreeMap::new());
    }
    if let (Some(known), Some(value)) = (kinds.get_mut(column), value) {
        remember(known, value, place);
    }
}

/// Takes the kind of a value, and of the first of its kind what it is and where.
fn remember(known: &mut BTreeMap<&'static str, String>, value: &str, place: &dyn Fn() -> String) {
    if let Some(kind) = kind_of(value)
        && !known.contains_key(kind)
    {
        known.insert(kind, format!("{} in {}", shortened(value), place()));
    }
}

/// A value, or its beginning, as an example.
fn shortened(value: &str) -> String {
    let mut shown: String = value.chars().take(EXAMPLE).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown
}

/// What kind of JSON that is; null is none.
fn kind_of(value: &str) -> Option<&'static str> {
    Some(match value.as_bytes().first()? {
        b'"' => "text",
        b't' | b'f' => "boolean",
        b'[' => "list",
        b'{' => "object",
        b'n' => return None,
        _ if value.contains(['.', 'e', 'E']) => "number",
        _ => "integer",
    })
}

/// The columns of records that declare none.
#[derive(Default)]
struct Fields {
    flattener: Flattener,
    /// By number of the column.
    kinds: Vec<BTreeMap<&'static str, String>>,
}

impl Fields {
    fn see(&mut self, record: &str, place: &dyn Fn() -> String) {
        let mut cells = Vec::new();
        self.flattener.cells(record, &mut cells);
        if self.kinds.len() < cells.len() {
            self.kinds.resize(cells.len(), BTreeMap::new());
        }
        for (known, cell) in self.kinds.iter_mut().zip(&cells) {
            remember(known, cell, place);
        }
    }

    fn kinds(self) -> Kinds {
        let layout = self.flattener.layout(&[]);
        let columns = layout.names.into_iter().zip(layout.order);
        columns
            .map(|(name, number)| (name, self.kinds.get(number).cloned().unwrap_or_default()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(columns: &[(&str, &[&'static str])]) -> Kinds {
        let columns = columns.iter();
        columns
            .map(|(name, kinds)| {
                let kinds = kinds.iter().map(|kind| (*kind, format!("some {kind}")));
                ((*name).to_owned(), kinds.collect())
            })
            .collect()
    }

    fn before(columns: &[(&str, &[&'static str])]) -> Schema {
        let named = now(columns).into_iter();
        named
            .map(|(name, kinds)| (name, kinds.into_keys().map(str::to_owned).collect()))
            .collect()
    }

    #[test]
    fn columns_that_go_come_or_change_are_told() {
        let was = before(&[("id", &["integer"]), ("mail", &["text"]), ("none", &[])]);
        let same = SchemaRule::Same;
        let is = |columns: &[(&str, &[&'static str])]| {
            changes(same, &now(columns), std::slice::from_ref(&was))
        };
        let all: [(&str, &[&'static str]); 3] = [
            ("id", &["integer"]),
            ("mail", &["text"]),
            ("none", &["list"]),
        ];
        assert!(is(&all).is_empty());
        assert_eq!(
            is(&[
                ("id", &["integer", "text"]),
                ("none", &[]),
                ("phone", &["text"])
            ]),
            [
                "`mail` is gone",
                "`id` was integer and is text (some text, beside some integer)",
                "`phone` is new"
            ]
        );
        let grown = now(&[
            ("id", &["integer"]),
            ("mail", &["text"]),
            ("none", &[]),
            ("x", &[]),
        ]);
        assert!(changes(SchemaRule::Grow, &grown, std::slice::from_ref(&was)).is_empty());
        assert_eq!(
            changes(same, &grown, std::slice::from_ref(&was)),
            ["`x` is new"]
        );
        assert!(
            changes(same, &grown, &[]).is_empty(),
            "the first run has nothing to keep to"
        );
    }

    #[test]
    fn what_not_every_run_had_may_be_missing() {
        let often = before(&[("id", &["number"]), ("rare", &["text"])]);
        let seldom = before(&[("id", &["number"])]);
        let few = now(&[("id", &["integer"])]);
        let both = [often.clone(), seldom];
        assert!(changes(SchemaRule::Same, &few, &both).is_empty());
        assert_eq!(
            changes(SchemaRule::Same, &few, &[often]),
            ["`rare` is gone"]
        );
    }

    #[test]
    fn fields_are_told_by_their_kinds() {
        let mut fields = Fields::default();
        for record in [
            r#"{"id":1,"user":{"name":"a","age":null},"tags":[1]}"#,
            r#"{"id":1.5,"user":{"name":null},"ok":true,"empty":{}}"#,
        ] {
            fields.see(record, &|| "page 1".to_owned());
        }
        let kinds = fields.kinds();
        let told: Vec<String> = kinds
            .iter()
            .map(|(name, kinds)| format!("{name} {:?}", kinds.keys().collect::<BTreeSet<_>>()))
            .collect();
        assert_eq!(
            told,
            [
                "empty {\"object\"}",
                "id {\"integer\", \"number\"}",
                "ok {\"boolean\"}",
                "tags {\"list\"}",
                "user.age {}",
                "user.name {\"text\"}"
            ]
        );
    }
}
