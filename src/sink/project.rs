//! Records with declared columns: one walk over a record fills all its cells.

use std::borrow::Cow;

use super::shape::Shape;
use crate::json;
use crate::plan::path::{Path, Step};
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
        };
        for (number, column) in columns.iter().enumerate() {
            match &column.from {
                ColumnFrom::Template(_) => projector.computed.push(number),
                ColumnFrom::Path(path) => projector.path(number, path),
            }
        }
        projector
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
    pub fn cells<'a>(
        &mut self,
        record: &'a str,
        computed: &[&'a str],
        cells: &mut Vec<Cow<'a, str>>,
    ) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(paths: &[&str]) -> Vec<ColumnPlan> {
        paths
            .iter()
            .map(|path| ColumnPlan {
                name: (*path).to_owned(),
                from: ColumnFrom::Path(Path::parse(path).unwrap()),
            })
            .collect()
    }

    fn cells(projector: &mut Projector, record: &str, computed: &[&str]) -> Vec<String> {
        let mut cells = Vec::new();
        projector.cells(record, computed, &mut cells);
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
        declared.insert(
            1,
            ColumnPlan {
                name: "repo".to_owned(),
                from: ColumnFrom::Template(template),
            },
        );
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
}
