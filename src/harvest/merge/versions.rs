//! A record with all that its columns are made from, as a line of a base: when its run started, the
//! variables of its partition, its place in its page; where several streams write the table, whose it
//! is.
//!
//! A file made from such lines does not depend on which run brought them.

use crate::harvest::names::run_value;
use crate::harvest::partitions::{Partition, RUN};
use crate::json;
use crate::plan::json::{Json, Numbers};

/// A line, taken apart.
#[derive(Debug, Clone, Copy)]
pub(in crate::harvest) struct Version<'a> {
    /// The stream that brought it, as spelled; none where only one writes the table.
    pub(in crate::harvest) stream: Option<&'a str>,
    /// When its run started, as JSON text.
    pub(in crate::harvest) started: &'a str,
    /// The variables of `for`, as a JSON object.
    variables: &'a str,
    /// Its ordinal in its page.
    pub(in crate::harvest) in_page: u32,
    /// The record as the API sent it.
    pub(in crate::harvest) record: &'a str,
}

impl<'a> Version<'a> {
    /// Takes a line apart; `None` where it is not one.
    pub(in crate::harvest) fn parse(line: &'a str) -> Option<Self> {
        let mut members = json::members(line).peekable();
        let stream = members.next_if(|(key, _)| *key == "stream");
        let mut member = |name: &str| {
            let (key, value) = members.next()?;
            (key == name).then_some(value)
        };
        Some(Self {
            stream: stream.map(|(_, value)| plain(value)),
            started: member("run")?,
            variables: member("for")?,
            in_page: member("index")?.parse().ok()?,
            record: member("record")?,
        })
    }
}

/// What stands between the quotes: names of streams have nothing that JSON escapes.
fn plain(value: &str) -> &str {
    value.trim_matches('"')
}

/// Appends a line that says whose it is, made of one that does not.
pub(in crate::harvest) fn push_of(stream: &str, line: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"stream\":");
    out.extend_from_slice(json::quoted(stream).as_bytes());
    out.push(b',');
    out.extend_from_slice(line.strip_prefix('{').unwrap_or(line).as_bytes());
}

/// Makes lines of a run's records.
#[derive(Debug)]
pub(in crate::harvest) struct Liner {
    /// Whose they are, where they say so.
    stream: Option<String>,
    started: String,
    partition: Option<u32>,
    /// What stands before the place in the page.
    head: String,
}

impl Liner {
    /// For a run that started at `started`.
    pub(in crate::harvest) fn new(started: jiff::Timestamp, stream: Option<&str>) -> Self {
        Self {
            stream: stream.map(|stream| format!("\"stream\":{},", json::quoted(stream))),
            started: json::quoted(&started.to_string()),
            partition: None,
            head: String::new(),
        }
    }

    /// Appends the line of a record, without its end.
    pub(in crate::harvest) fn push(
        &mut self,
        partition: &Partition,
        in_page: u32,
        record: &str,
        out: &mut Vec<u8>,
    ) {
        if self.partition != Some(partition.ordinal) {
            self.partition = Some(partition.ordinal);
            let variables: Vec<String> = partition
                .of_for()
                .map(|(name, _)| {
                    let value = partition.variable(name).unwrap_or_default();
                    format!("{}:{value}", json::quoted(name))
                })
                .collect();
            self.head = format!(
                "{{{}\"run\":{},\"for\":{{{}}},\"index\":",
                self.stream.as_deref().unwrap_or_default(),
                self.started,
                variables.join(",")
            );
        }
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(in_page.to_string().as_bytes());
        out.extend_from_slice(b",\"record\":");
        out.extend_from_slice(record.as_bytes());
        out.push(b'}');
    }
}

/// The partitions that lines came from, one after the other.
#[derive(Debug)]
pub(in crate::harvest) struct Origins {
    started: String,
    variables: String,
    partition: Partition,
}

impl Default for Origins {
    fn default() -> Self {
        Self {
            started: String::new(),
            variables: String::new(),
            partition: Partition {
                ordinal: 0,
                variables: Vec::new(),
            },
        }
    }
}

impl Origins {
    /// The partition of a line, with `run` as it was then; `None` where the line is damaged.
    pub(in crate::harvest) fn of(&mut self, version: &Version<'_>) -> Option<&Partition> {
        if self.started != version.started || self.variables != version.variables {
            let mut variables = Vec::new();
            for (name, value) in json::members(version.variables) {
                let value = Json::parse(value).ok()?.to_value(Numbers::Spelled);
                variables.push((json::unescape(name).into_owned(), value));
            }
            let started = json::plain(version.started).parse().ok()?;
            variables.push((RUN.to_owned(), run_value(started)));
            version.started.clone_into(&mut self.started);
            version.variables.clone_into(&mut self.variables);
            self.partition = Partition {
                // Never the same twice in a row, so that nothing made for the last is kept.
                ordinal: self.partition.ordinal.wrapping_add(1),
                variables,
            };
        }
        Some(&self.partition)
    }
}

#[cfg(test)]
mod tests {
    use minijinja::Value;

    use super::*;

    #[test]
    fn a_line_brings_back_all_that_columns_see() {
        let started = "2026-03-05T04:05:06Z".parse().expect("an instant");
        let mut liner = Liner::new(started, None);
        let variables = vec![
            ("repo".to_owned(), Value::from("a \"b\"/é")),
            ("n".to_owned(), Value::from(7)),
            ("place".to_owned(), Value::from_pairs([("city", "x")])),
            ("cursor".to_owned(), Value::from("never kept")),
        ];
        let partition = Partition {
            ordinal: 3,
            variables,
        };
        let mut line = Vec::new();
        liner.push(&partition, 12, r#"{"a":1.10}"#, &mut line);
        let line = String::from_utf8(line).expect("text");
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON");
        let version = Version::parse(&line).expect("a version");
        assert_eq!((version.in_page, version.record), (12, r#"{"a":1.10}"#));
        let mut origins = Origins::default();
        let back = origins.of(&version).expect("a partition").clone();
        assert_eq!(back.label(), partition.label());
        assert_eq!(back.identity(), partition.identity());
        let (name, run) = back.variables.last().expect("the run");
        assert_eq!(name, "run");
        assert_eq!(
            run.get_attr("date").expect("a date").as_str(),
            Some("2026-03-05")
        );
        assert_eq!(
            origins.of(&version).expect("the same").ordinal,
            back.ordinal
        );
        assert!(Version::parse("{\"record\":{}}").is_none());
        // A line that says whose it is, from the start or later, is the same but for that.
        let (mut own, mut told) = (Vec::new(), Vec::new());
        push_of("late", &line, &mut told);
        Liner::new(started, Some("late")).push(&partition, 12, r#"{"a":1.10}"#, &mut own);
        assert_eq!(own, told);
        let told = String::from_utf8(told).expect("text");
        let of_late = Version::parse(&told).expect("a version");
        assert_eq!(
            (of_late.stream, of_late.record),
            (Some("late"), version.record)
        );
        assert_eq!(version.stream, None);
    }
}
