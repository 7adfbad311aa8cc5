//! Records with declared columns: one walk over a record fills all its cells; those with a type are
//! then brought to its form.

use std::borrow::Cow;

use super::moment::{date, moment};
use super::rejects::Misfit;
use super::shape::Shape;
use crate::json;
use crate::plan::jq::{Input, Jq};
use crate::plan::path::{Path, Step};
use crate::plan::place::Place;
use crate::plan::reads::read;
use crate::plan::typed::{Kind, OnBad, Typed};
use crate::plan::{ColumnFrom, ColumnPlan};

/// Unknown names are remembered for the guess, but not without end.
const REMEMBERED: usize = 200;

/// Takes records apart into declared columns.
#[derive(Debug, Clone)]
pub struct Projector {
    names: Vec<String>,
    shape: Shape<Places>,
    /// Columns that the walk does not serve: `*`, and numbers that index arrays.
    looked_up: Vec<(usize, Path)>,
    /// Columns that are the record itself.
    whole: Vec<usize>,
    /// Template columns, whose values come beside the record.
    computed: Vec<usize>,
    /// Columns that a filter makes.
    filtered: Vec<(usize, Jq)>,
    /// Columns with a type.
    typed: Vec<(usize, Typed)>,
    /// For each column what becomes of values that do not fit, and its place.
    bad: Vec<(OnBad, Option<Place>)>,
    /// For each column how many values became null.
    nulled: Vec<u64>,
    /// Whether values must be held by the machine's own types too.
    natively: bool,
    /// Names at the top that columns read which the walk does not serve.
    read: Vec<String>,
}

/// The columns that a member fills.
#[derive(Debug, Clone, Default)]
struct Places(Vec<usize>);

impl Projector {
    /// For these columns.
    pub fn new(columns: &[ColumnPlan]) -> Self {
        let mut projector = Self {
            names: columns.iter().map(|c| c.name.clone()).collect(),
            shape: Shape::new(),
            looked_up: Vec::new(),
            whole: Vec::new(),
            computed: Vec::new(),
            filtered: Vec::new(),
            typed: Vec::new(),
            bad: (columns.iter())
                .map(|column| (column.on_bad, column.place.clone()))
                .collect(),
            nulled: vec![0; columns.len()],
            natively: false,
            read: (read(columns).into_iter())
                .filter_map(|way| match way.into_iter().next() {
                    Some(Step::Key(name)) => Some(name),
                    _ => None,
                })
                .collect(),
        };
        for (number, column) in columns.iter().enumerate() {
            if let Some(typed) = &column.typed {
                projector.typed.push((number, typed.clone()));
            }
            match &column.from {
                ColumnFrom::Jq(jq) => projector.filtered.push((number, jq.clone())),
                ColumnFrom::Template(_) => projector.computed.push(number),
                ColumnFrom::Path(path) => projector.path(number, path),
                ColumnFrom::Nothing => {}
            }
        }
        projector
    }

    /// Takes values of typed columns only where the machine's own types hold them: 64 bits, years
    /// from 1 to 9999, microseconds.
    #[must_use]
    pub fn natively(mut self) -> Self {
        self.natively = true;
        self
    }

    /// The headers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn path(&mut self, number: usize, path: &Path) {
        let mut names = Vec::new();
        for (depth, step) in path.steps.iter().enumerate() {
            match step {
                // A record is an object, so a number at the top can only be a name.
                Step::Key(name) if depth == 0 || name.parse::<usize>().is_err() => names.push(name),
                _ => return self.looked_up.push((number, path.clone())),
            }
        }
        let Some((last, before)) = names.split_last() else {
            return self.whole.push(number);
        };
        let mut level = 0;
        for name in before {
            let place = self.place(level, name);
            let Some(below) = place.and_then(|place| self.shape.below(level, place)) else {
                return;
            };
            level = below;
        }
        if let Some(place) = self.place(level, last)
            && let Some(name) = self.shape.name_mut(level, place)
        {
            name.about.0.push(number);
        }
    }

    fn place(&mut self, level: usize, name: &str) -> Option<usize> {
        // Looked for as it would be spelled, since `find` takes spelled names.
        let quoted = json::quoted(name);
        let spelled = quoted.get(1..quoted.len() - 1)?;
        self.shape
            .find(level, 0, spelled)
            .or_else(|| self.shape.add(level, Cow::Borrowed(name)))
    }

    /// Takes a record apart into cells in the order of the columns, as spelled; `""` is null or
    /// missing. `computed` holds the JSON of the template columns, in order.
    ///
    /// # Errors
    /// The first value that does not fit its column, unless such values are null there.
    pub fn cells<'a>(
        &mut self,
        record: &'a str,
        computed: &[&'a str],
        cells: &mut Vec<Cow<'a, str>>,
    ) -> Result<(), Box<Misfit>> {
        cells.clear();
        cells.resize(self.names.len(), Cow::Borrowed(""));
        self.object(0, record, cells);
        let mut fill = |number: usize, value: Cow<'a, str>| {
            if let Some(cell) = cells.get_mut(number) {
                *cell = if value == "null" {
                    Cow::Borrowed("")
                } else {
                    value
                };
            }
        };
        for (number, path) in &self.looked_up {
            if path.steps.contains(&Step::All) {
                fill(
                    *number,
                    json::get_all(record, path).unwrap_or_default().into(),
                );
            } else {
                fill(*number, json::get(record, path).unwrap_or_default().into());
            }
        }
        for number in &self.whole {
            fill(*number, Cow::Borrowed(record));
        }
        for (number, value) in self.computed.iter().zip(computed) {
            fill(*number, Cow::Borrowed(value));
        }
        self.filter(record, cells)?;
        for at in 0..self.typed.len() {
            let Some((number, typed)) = self.typed.get(at) else {
                break;
            };
            let number = *number;
            let Some(cell) = cells.get_mut(number) else {
                break;
            };
            let fitted = match cell {
                Cow::Borrowed(value) => typed.fit(value),
                Cow::Owned(value) => typed
                    .fit(value)
                    .map(|fitted| Cow::Owned(fitted.into_owned())),
            };
            let beyond = match &fitted {
                Some(fitted) if self.natively => beyond(typed.kind, fitted),
                _ => None,
            };
            if let (Some(fitted), None) = (fitted, beyond) {
                *cell = fitted;
                continue;
            }
            let why = beyond.map_or_else(|| format!("is not {typed}"), str::to_owned);
            let value = std::mem::take(cell);
            self.misfit(number, &value, why)?;
        }
        Ok(())
    }

    /// Fills the columns that filters make.
    fn filter(&mut self, record: &str, cells: &mut [Cow<'_, str>]) -> Result<(), Box<Misfit>> {
        if self.filtered.is_empty() {
            return Ok(());
        }
        let input = Input::read(record);
        for at in 0..self.filtered.len() {
            let Some((number, jq)) = self.filtered.get(at) else {
                break;
            };
            let number = *number;
            let made = match &input {
                Ok(input) => jq.one(input),
                Err(problem) => Err(problem.clone()),
            };
            match made {
                Ok(made) => {
                    if let Some(cell) = cells.get_mut(number) {
                        let made = made.filter(|value| value != "null");
                        *cell = made.map_or(Cow::Borrowed(""), Cow::Owned);
                    }
                }
                Err(problem) => self.misfit(number, "", problem.message)?,
            }
        }
        Ok(())
    }

    /// A value that does not fit: counted where it becomes null.
    fn misfit(&mut self, number: usize, value: &str, why: String) -> Result<(), Box<Misfit>> {
        let (on_bad, place) = self.bad.get(number).cloned().unwrap_or_default();
        if on_bad == OnBad::Null {
            if let Some(count) = self.nulled.get_mut(number) {
                *count += 1;
            }
            return Ok(());
        }
        Err(Box::new(Misfit {
            column: self.names.get(number).cloned().unwrap_or_default(),
            value: value.to_owned(),
            why,
            on_bad,
            place,
        }))
    }

    /// Columns with values that became null because they did not fit, and how many.
    pub fn nulled(&self) -> Vec<(String, u64)> {
        let all = self.names.iter().cloned().zip(self.nulled.iter().copied());
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// Fields that records had and no column reads, each by the shortest path that none goes along; of those
    /// of one object the first two hundred or so.
    pub fn unread(&self) -> Vec<String> {
        if !self.whole.is_empty() {
            return Vec::new();
        }
        let all = self.shape.all().filter(|(level, name)| {
            let is_served = name.level.is_some() || !name.about.0.is_empty();
            !(is_served || (*level == 0 && self.read.contains(&name.text)))
        });
        let all = all.filter(|(level, _)| !self.is_within_a_column(*level));
        all.map(|(level, name)| self.written(level, &name.text))
            .collect()
    }

    /// Whether the object of a level is in a column as a whole, beside those that take parts of it.
    fn is_within_a_column(&self, level: usize) -> bool {
        let mut at = level;
        while let Some((above, place)) = self.shape.parent(at) {
            let name = self.shape.name(above, place);
            if name.is_some_and(|name| !name.about.0.is_empty()) {
                return true;
            }
            // What is looked up by other means may be anywhere in here.
            let is_looked_up = |(_, path): &(usize, Path)| {
                let first = path.steps.first();
                above == 0 && name.is_some_and(|name| first == Some(&Step::Key(name.text.clone())))
            };
            if self.looked_up.iter().any(is_looked_up) {
                return true;
            }
            at = above;
        }
        false
    }

    /// A field as a path says it.
    fn written(&self, level: usize, name: &str) -> String {
        let mut steps = vec![Step::Key(name.to_owned())];
        let mut at = level;
        while let Some((above, place)) = self.shape.parent(at) {
            let name = self.shape.name(above, place);
            steps.extend(name.map(|name| Step::Key(name.text.clone())));
            at = above;
        }
        steps.reverse();
        Path { steps }.to_string()
    }

    fn object<'a>(&mut self, level: usize, object: &'a str, cells: &mut [Cow<'a, str>]) {
        let mut hint = 0;
        for (key, value) in json::members(object) {
            let Some(place) = self.shape.find(level, hint, key) else {
                if self.shape.width(level) < REMEMBERED {
                    let added = self.shape.add(level, json::unescape(key));
                    hint = added.map_or(hint, |place| place + 1);
                }
                continue;
            };
            hint = place + 1;
            let Some(name) = self.shape.name(level, place) else {
                continue;
            };
            for number in &name.about.0 {
                if let Some(cell) = cells.get_mut(*number) {
                    let null = value.starts_with('n');
                    *cell = Cow::Borrowed(if null { "" } else { value });
                }
            }
            if let Some(below) = name.level {
                self.object(below, value, cells);
            }
        }
    }
}

/// What keeps a value that fits its type out of a format with machine types.
fn beyond(kind: Kind, cell: &str) -> Option<&'static str> {
    let text = cell.trim_matches('"');
    let (held, why) = match kind {
        _ if cell.is_empty() => return None,
        Kind::Integer => (
            cell.parse::<i64>().is_ok(),
            "is beyond the 64 bits of this format's integers: declare the column `text`",
        ),
        Kind::Number => (
            cell.parse().is_ok_and(f64::is_finite),
            "is beyond this format's 64-bit floats: declare the column `text`",
        ),
        Kind::Date => (date(text).is_some(), "is not within the years 1 to 9999"),
        Kind::Timestamp => (
            moment(text).is_some_and(|at| at.digits <= 6),
            "is not within the years 1 to 9999 and to the microsecond: leave out the type, or declare `text`",
        ),
        Kind::Text | Kind::Boolean | Kind::Json => return None,
    };
    (!held).then_some(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(paths: &[&str]) -> Vec<ColumnPlan> {
        paths
            .iter()
            .map(|path| ColumnPlan::new(*path, ColumnFrom::Path(Path::parse(path).unwrap())))
            .collect()
    }

    fn cells(projector: &mut Projector, record: &str, computed: &[&str]) -> Vec<String> {
        let mut cells = Vec::new();
        projector.cells(record, computed, &mut cells).unwrap();
        cells.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_walk_fills_all_columns() {
        let mut projector = Projector::new(&columns(&[
            "b.c", "a", "b", "tags.*.n", "tags.1.n", "\"x.y\"", "a", "zz.y",
        ]));
        let record = r#"{"a":1.10,"q":0,"b":{"d":0,"c":null,"\u0063":"s"},"tags":[{"n":1},{"n":2}],"x.y":true}"#;
        let wanted = [
            "\"s\"",
            "1.10",
            r#"{"d":0,"c":null,"\u0063":"s"}"#,
            "[1,2]",
            "2",
            "true",
            "1.10",
            "",
        ];
        assert_eq!(cells(&mut projector, record, &[]), wanted);
        assert_eq!(cells(&mut projector, record, &[]), wanted);
        assert_eq!(
            cells(&mut projector, r#"{"b":7,"a":null}"#, &[]),
            ["", "", "7", "", "", "", "", ""]
        );
    }

    #[test]
    fn template_columns_and_the_whole_record() {
        let mut declared = columns(&["$", "id"]);
        let template = crate::plan::language::Template::parse("{{ repo }}").unwrap();
        declared.insert(1, ColumnPlan::new("repo", ColumnFrom::Template(template)));
        let mut projector = Projector::new(&declared);
        assert_eq!(
            cells(&mut projector, r#"{"id":5}"#, &["\"tokio\""]),
            [r#"{"id":5}"#, "\"tokio\"", "5"]
        );
    }

    #[test]
    fn many_unknown_names_change_nothing() {
        let mut projector = Projector::new(&columns(&["z"]));
        for n in 0..400 {
            let record = format!("{{\"u{n}\":1,\"z\":{n}}}");
            assert_eq!(cells(&mut projector, &record, &[]), [n.to_string()]);
        }
    }

    #[test]
    fn values_are_brought_to_their_types() {
        let typed = |name: &str, kind, on_bad| ColumnPlan {
            typed: Some(Typed {
                kind,
                format: crate::plan::position::Format::Iso,
                zone: jiff::tz::TimeZone::UTC,
            }),
            on_bad,
            ..ColumnPlan::new(name, ColumnFrom::Path(Path::parse(name).unwrap()))
        };
        let jq = |name: &str, filter: &str, on_bad| ColumnPlan {
            on_bad,
            ..ColumnPlan::new(name, ColumnFrom::Jq(Jq::parse(filter).unwrap()))
        };
        let mut projector = Projector::new(&[
            typed("n", Kind::Integer, OnBad::Fail),
            jq("m", ".n | tonumber + 1", OnBad::Null),
            typed("x", Kind::Number, OnBad::Null),
            typed("r", Kind::Boolean, OnBad::Reject),
        ]);
        let good = r#"{"n":"5","x":"1.10","r":1}"#;
        assert_eq!(cells(&mut projector, good, &[]), ["5", "6", "1.10", "true"]);
        let null = r#"{"n":null,"x":"?","r":null}"#;
        assert_eq!(cells(&mut projector, null, &[]), ["", "", "", ""]);
        let nulled = [("m".to_owned(), 1), ("x".to_owned(), 1)];
        assert_eq!(projector.nulled(), nulled);
        let mut misfit = |record: &str| {
            let mut cells = Vec::new();
            projector.cells(record, &[], &mut cells).unwrap_err()
        };
        let first = misfit(r#"{"n":"five","r":"yes"}"#);
        assert_eq!(
            first.message(),
            "column `n`: \"five\" is not a whole number"
        );
        assert_eq!(first.on_bad, OnBad::Fail);
        let second = misfit(r#"{"n":1,"r":"yes"}"#);
        assert_eq!(
            (second.on_bad, second.column.as_str()),
            (OnBad::Reject, "r")
        );
    }
}
