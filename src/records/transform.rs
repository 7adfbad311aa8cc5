//! Steps on whole records: text in, text out. What a step does not touch stays as it is spelled, and a
//! record that no step touches stays byte for byte.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object};

use super::page::Page;
use super::view;
use crate::json;
use crate::plan::jq::Input;
use crate::plan::json::{Json, Numbers};
use crate::plan::path::{Path, Step as PathStep};
use crate::plan::place::Place;
use crate::plan::transform::{Source, Step, StepPlan};

/// Most bytes that the records of one page may grow to.
const MOST_BYTES: usize = 1 << 30;
/// Most characters of a record in a message.
const MOST_SHOWN: usize = 160;

/// A record that a step cannot be done to.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`transform`, step {number} (`{word}`): {message}")]
pub struct TransformError {
    /// Counted from 1.
    pub number: usize,
    /// Its word.
    pub word: &'static str,
    /// What is wrong.
    pub message: String,
    /// How the record begins, as it came to the step.
    pub record: String,
    /// The step's place in the pipeline file.
    pub place: Place,
}

/// Takes records through all steps, of which the first is so far into its page; `names` are those that expressions and templates see beside
/// `record` and `index`.
pub fn transform<'r>(
    steps: &[StepPlan],
    first: usize,
    records: impl Iterator<Item = &'r str>,
    names: &Value,
) -> Result<Page, Box<TransformError>> {
    let (mut lines, mut ends) = (String::new(), Vec::new());
    let (mut now, mut next): (Vec<Cow<'_, str>>, Vec<Cow<'_, str>>) = (Vec::new(), Vec::new());
    for (index, record) in (u32::try_from(first).unwrap_or(u32::MAX)..).zip(records) {
        now.push(Cow::Borrowed(record));
        for (number, step) in (1..).zip(steps) {
            for record in now.drain(..) {
                let sight = Sight {
                    names: names.clone(),
                    record: Value::UNDEFINED,
                    index,
                };
                step_on(&step.step, record, &sight, &mut next)
                    .map_err(|wrong| failed(number, step, wrong))?;
                let bytes: usize = next.iter().map(|record| record.len()).sum();
                if bytes + lines.len() > MOST_BYTES {
                    let wrong = Wrong {
                        message: "the records of the page grow beyond a GiB".to_owned(),
                        record: String::new(),
                        place: None,
                    };
                    return Err(failed(number, step, wrong));
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        for record in now.drain(..) {
            lines.push_str(&record);
            lines.push('\n');
            // Shorter than a GiB, as was seen to above.
            ends.push(u32::try_from(lines.len()).unwrap_or(u32::MAX));
        }
    }
    Ok(Page {
        lines: lines.into(),
        ends,
        ..Page::default()
    })
}

fn failed(number: usize, step: &StepPlan, wrong: Wrong) -> Box<TransformError> {
    Box::new(TransformError {
        number,
        word: step.step.word(),
        message: wrong.message,
        record: wrong.record,
        place: wrong
            .place
            .map_or_else(|| step.place.clone(), |place| Place::clone(&place)),
    })
}

/// What is wrong, and with which record.
struct Wrong {
    message: String,
    record: String,
    /// A place inside of the step.
    place: Option<Arc<Place>>,
}

/// The beginning of a record.
fn shorten(record: &str) -> String {
    let mut short: String = record.chars().take(MOST_SHOWN).collect();
    if short.len() < record.len() {
        short.push('…');
    }
    short
}

/// Does one step; what comes of it goes to `next`.
fn step_on<'r>(
    step: &Step,
    record: Cow<'r, str>,
    sight: &Sight,
    next: &mut Vec<Cow<'r, str>>,
) -> Result<(), Wrong> {
    let wrong = |message: String| Wrong {
        message,
        record: shorten(&record),
        place: None,
    };
    let edited = match step {
        Step::Where(when) => {
            let holds = when.holds(&sight.with(&record, Numbers::Numeric));
            if !holds.map_err(|problem| wrong(problem.message))? {
                return Ok(());
            }
            None
        }
        Step::Explode { path, keep_empty } => {
            let value = json::get(&record, path).unwrap_or("null");
            let is_list = value.starts_with('[');
            let mut elements = json::elements(value).peekable();
            match elements.peek() {
                Some(_) => {
                    for element in elements {
                        let put = edit(&record, &path.steps, &mut |_| Edit::Put(element.into()));
                        next.push(Cow::Owned(put.unwrap_or_else(|| record.to_string())));
                    }
                    return Ok(());
                }
                None if !is_list && value != "null" => None,
                None if !keep_empty => return Ok(()),
                None => edit(&record, &path.steps, &mut |_| Edit::Put("null".into())),
            }
        }
        Step::Add(members) => {
            let mut text = record.to_string();
            let names = sight.with(&record, Numbers::Spelled);
            for (name, source) in members {
                let value = added(source, &record, &names).map_err(|(message, place)| Wrong {
                    place,
                    ..wrong(format!("`{name}` cannot be made: {message}"))
                })?;
                text = put(&text, name, &value);
            }
            Some(text)
        }
        Step::Rename(names) => each_edit(&record, names, |record, (path, name)| {
            rename(record, &path.steps, name)
        }),
        Step::Drop(paths) => each_edit(&record, paths, |record, path| {
            edit(record, &path.steps, &mut |_| Edit::Drop)
        }),
        Step::Jq(jq) => {
            let before = next.len();
            let input = Input::read(&record).map_err(|problem| wrong(problem.message))?;
            let ran = jq.run(&input, |output| match output.as_bytes().first() {
                Some(b'n') => {}
                Some(b'{') => next.push(Cow::Owned(output.to_owned())),
                _ => next.push(Cow::Owned(format!("{{\"value\":{output}}}"))),
            });
            return ran.map_err(|problem| {
                next.truncate(before);
                wrong(problem.message)
            });
        }
    };
    next.push(edited.map_or(record, Cow::Owned));
    Ok(())
}

/// What is done to the member at the end of a path.
enum Edit<'v> {
    Put(Cow<'v, str>),
    Drop,
}

/// Several edits in turn; nothing where none of them found its place.
fn each_edit<T>(
    record: &str,
    all: &[T],
    mut one: impl FnMut(&str, &T) -> Option<String>,
) -> Option<String> {
    let mut text: Option<String> = None;
    for item in all {
        if let Some(edited) = one(text.as_deref().unwrap_or(record), item) {
            text = Some(edited);
        }
    }
    text
}

/// The value with an edit at every place that the path leads to; nothing where it leads nowhere.
fn edit<'v>(
    value: &str,
    steps: &[PathStep],
    action: &mut dyn FnMut(&str) -> Edit<'v>,
) -> Option<String> {
    let (step, below) = steps.split_first()?;
    let mut found = false;
    let mut inner = |text: &str| -> Option<Cow<'_, str>> {
        // A part that goes is `Some("")`: no JSON is empty.
        if below.is_empty() {
            found = true;
            return Some(match action(text) {
                Edit::Put(value) => Cow::Owned(value.into_owned()),
                Edit::Drop => Cow::Borrowed(""),
            });
        }
        let edited = edit(text, below, action)?;
        found = true;
        Some(Cow::Owned(edited))
    };
    let mut out = String::with_capacity(value.len());
    let is_list = value.starts_with('[');
    if is_list {
        for (at, element) in json::elements(value).enumerate() {
            let is_meant = match step {
                PathStep::All => true,
                PathStep::Key(name) => name.parse() == Ok(at),
            };
            let edited = if is_meant { inner(element) } else { None };
            push(&mut out, None, edited.as_deref().unwrap_or(element));
        }
    } else {
        for (key, member) in json::members(value) {
            let is_meant = match step {
                PathStep::All => true,
                PathStep::Key(name) => json::key_is(key, name),
            };
            let edited = if is_meant { inner(member) } else { None };
            push(&mut out, Some(key), edited.as_deref().unwrap_or(member));
        }
    }
    let (open, close) = if is_list { ('[', ']') } else { ('{', '}') };
    found.then(|| format!("{open}{out}{close}"))
}

/// Appends a part, with a comma where one stands before it.
fn push(out: &mut String, key: Option<&str>, value: &str) {
    if value.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push(',');
    }
    if let Some(key) = key {
        out.push('"');
        out.push_str(key);
        out.push_str("\":");
    }
    out.push_str(value);
}

/// The record with another name for a member, which keeps its place; one that has the new name
/// already gives way.
fn rename(value: &str, steps: &[PathStep], new: &str) -> Option<String> {
    let (step, below) = steps.split_first()?;
    let PathStep::Key(name) = step else {
        return None;
    };
    if !below.is_empty() {
        let first = std::slice::from_ref(step);
        let inner = json::get(
            value,
            &Path {
                steps: first.to_vec(),
            },
        )?;
        let renamed = rename(inner, below, new)?;
        return edit(value, first, &mut |_| Edit::Put(Cow::Borrowed(&renamed)));
    }
    if name == new || !json::members(value).any(|(key, _)| json::key_is(key, name)) {
        return None;
    }
    let quoted = json::quoted(new);
    let spelled = quoted.get(1..quoted.len() - 1)?;
    let mut out = String::with_capacity(value.len());
    for (key, member) in json::members(value) {
        if json::key_is(key, name) {
            push(&mut out, Some(spelled), member);
        } else if !json::key_is(key, new) {
            push(&mut out, Some(key), member);
        }
    }
    Some(format!("{{{out}}}"))
}

/// The record with a member: in the place of the one with that name, else at the end.
fn put(record: &str, name: &str, value: &str) -> String {
    let step = [PathStep::Key(name.to_owned())];
    if let Some(edited) = edit(record, &step, &mut |_| Edit::Put(value.into())) {
        return edited;
    }
    let mut out = String::with_capacity(record.len() + value.len() + name.len() + 4);
    for (key, member) in json::members(record) {
        push(&mut out, Some(key), member);
    }
    let quoted = json::quoted(name);
    push(&mut out, quoted.get(1..quoted.len() - 1), value);
    format!("{{{out}}}")
}

/// The JSON of an added member; else what is wrong, and where.
fn added<'r>(
    source: &Source,
    record: &'r str,
    names: &Value,
) -> Result<Cow<'r, str>, (String, Option<Arc<Place>>)> {
    match source {
        Source::Copy(path, place) => match json::get(record, path) {
            Some(value) => Ok(value.into()),
            None => Err((format!("`record.{path}` has no value"), place.clone())),
        },
        Source::Template(template) => {
            let value = template.value(names);
            let value = value.map_err(|problem| (problem.message, problem.place))?;
            let json = Json::from_value(&value).map_err(|message| (message, template.place()))?;
            Ok(json.to_string().into())
        }
    }
}

/// What expressions and templates see of one record.
#[derive(Clone)]
struct Sight {
    names: Value,
    record: Value,
    index: u32,
}

impl Sight {
    fn with(&self, record: &str, numbers: Numbers) -> Value {
        Value::from_object(Self {
            record: view::of_json(record, numbers),
            ..self.clone()
        })
    }
}

impl fmt::Debug for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sight")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

impl Object for Sight {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Value> {
        match name {
            "record" => Some(self.record.clone()),
            "index" => Some(Value::from(self.index)),
            other => (self.names.get_attr(other).ok()).filter(|value| !value.is_undefined()),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["record", "index"])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::jq::Jq;
    use crate::plan::language::{Expr, Template};

    fn plan(step: Step) -> StepPlan {
        StepPlan {
            step,
            place: Place::new(std::path::Path::new("x.yaml"), "x", &(0..1)),
        }
    }

    fn path(written: &str) -> Path {
        Path::parse(written).unwrap()
    }

    fn run(steps: Vec<Step>, records: &[&str]) -> Result<String, Box<TransformError>> {
        let steps: Vec<StepPlan> = steps.into_iter().map(plan).collect();
        let names = Value::from_pairs([("repo", "tokio")]);
        let page = transform(&steps, 0, records.iter().copied(), &names)?;
        Ok(String::from_utf8(page.lines.to_vec()).unwrap())
    }

    #[track_caller]
    fn becomes(step: Step, record: &str, expected: &[&str]) {
        let lines = run(vec![step], &[record]).unwrap();
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected, "{record}");
    }

    #[test]
    fn conditions_see_the_record_and_its_place() {
        let only = |written: &str| Step::Where(Expr::parse(written).unwrap());
        let record = r#"{"n" : 1.10, "s":"x"}"#;
        becomes(only("record.n > 1 and repo == 'tokio'"), record, &[record]);
        becomes(only("record.gone.deeper"), record, &[]);
        // What differs in kind is told: it would hold for no record, and nobody would know.
        for written in [
            "record.s > 1",
            "record['s'] <= 1",
            "record.s | upper > record.n",
        ] {
            let error = run(vec![only(written)], &[record]).unwrap_err();
            assert!(error.message.contains("have no order"), "{error}");
            assert_eq!(error.record, record);
        }
        let kept = run(vec![only("record.n == 2")], &[r#"{"n":"2"}"#]).unwrap();
        assert_eq!(kept, "{\"n\":\"2\"}\n");
        let error = run(vec![only("record.n == 2")], &[r#"{"n":"2.0"}"#]).unwrap_err();
        assert!(error.message.contains("are the same number"), "{error}");
        let lines = run(vec![only("index == 1")], &[r#"{"a":1}"#, r#"{"a":2}"#]);
        assert_eq!(lines.unwrap(), "{\"a\":2}\n");
    }

    #[test]
    fn arrays_are_taken_apart() {
        let explode = |keep_empty| Step::Explode {
            path: path("o.tags"),
            keep_empty,
        };
        let record = r#"{"id":1.10,"o":{"tags":[ "a" ,{"b":2}],"z":0}}"#;
        let expected = [
            r#"{"id":1.10,"o":{"tags":"a","z":0}}"#,
            r#"{"id":1.10,"o":{"tags":{"b":2},"z":0}}"#,
        ];
        becomes(explode(false), record, &expected);
        let one = r#"{"o":{"tags":"only"}}"#;
        becomes(explode(false), one, &[one]);
        for empty in [r#"{"o":{"tags":[]}}"#, r#"{"o":{"tags":null}}"#] {
            becomes(explode(false), empty, &[]);
            becomes(explode(true), empty, &[r#"{"o":{"tags":null}}"#]);
        }
        becomes(explode(false), r#"{"o":1}"#, &[]);
        becomes(explode(true), r#"{"o": 1}"#, &[r#"{"o": 1}"#]);
    }

    #[test]
    fn members_are_added_as_they_are_spelled() {
        let template = |written: &str| Source::Template(Template::parse(written).unwrap());
        let add = Step::Add(vec![
            ("repo".to_owned(), template("{{ repo }}")),
            ("a".to_owned(), template("{{ record.a + 1 }}")),
            ("copy \"x\"".to_owned(), Source::Copy(path("p"), None)),
            ("list".to_owned(), template("{{ [record.a, none, 'é'] }}")),
        ]);
        becomes(
            add,
            r#"{"a":1,"p":1.10}"#,
            &[r#"{"a":2,"p":1.10,"repo":"tokio","copy \"x\"":1.10,"list":[1,null,"é"]}"#],
        );
        // Numbers that do not print as they are spelled are numbers all the same.
        let reckoned = Step::Add(vec![
            ("twice".to_owned(), template("{{ record.p * 2 }}")),
            ("sum".to_owned(), template("{{ record.p + record.p }}")),
            (
                "dear".to_owned(),
                template("{{ record.p > 1 and record.p is number }}"),
            ),
            (
                "same".to_owned(),
                template("{{ [record.p, record.p ~ ' EUR'] }}"),
            ),
        ]);
        becomes(
            reckoned,
            r#"{"p":1.10}"#,
            &[r#"{"p":1.10,"twice":2.2,"sum":2.2,"dear":true,"same":[1.10,"1.10 EUR"]}"#],
        );
        let text = Step::Add(vec![("x".to_owned(), template("{{ record.p * 2 }}"))]);
        let error = run(vec![text], &[r#"{"p":"1.10"}"#]).unwrap_err();
        assert!(
            error
                .message
                .contains("the text \"1.10\" cannot be multiplied"),
            "{error}"
        );
        let missing = Step::Add(vec![("x".to_owned(), Source::Copy(path("gone"), None))]);
        let error = run(vec![missing], &["{}"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`transform`, step 1 (`add`): `x` cannot be made: `record.gone` has no value"
        );
    }

    #[test]
    fn members_are_renamed_and_dropped_in_their_places() {
        let rename = |old: &str, new: &str| Step::Rename(vec![(path(old), new.to_owned())]);
        becomes(
            rename("a", "z"),
            r#"{"a":1.10,"b":2}"#,
            &[r#"{"z":1.10,"b":2}"#],
        );
        becomes(
            rename("a", "b"),
            r#"{"b":0,"a":1,"c":2}"#,
            &[r#"{"a":1,"c":2}"#.replace("\"a\"", "\"b\"").as_str()],
        );
        becomes(
            rename("o.a", "z"),
            r#"{"o":{"a":1,"b":2}}"#,
            &[r#"{"o":{"z":1,"b":2}}"#],
        );
        let kept = r#"{ "x" : 1 }"#;
        becomes(rename("a", "z"), kept, &[kept]);
        let drop = |paths: &[&str]| Step::Drop(paths.iter().map(|p| path(p)).collect());
        becomes(
            drop(&["a", "o.*.b", "l.0"]),
            r#"{"a":1,"o":{"x":{"b":1,"c":2}},"l":[1,2]}"#,
            &[r#"{"o":{"x":{"c":2}},"l":[2]}"#],
        );
        becomes(drop(&["gone", "x.y"]), kept, &[kept]);
    }

    #[test]
    fn filters_give_records() {
        let jq = |written: &str| Step::Jq(Jq::parse(written).unwrap());
        becomes(
            jq(".a[], null, {b: .p}"),
            r#"{"a":[1,"x",{"c":1.10}],"p":1.10}"#,
            &[
                r#"{"value":1}"#,
                r#"{"value":"x"}"#,
                r#"{"c":1.10}"#,
                r#"{"b":1.10}"#,
            ],
        );
        let error = run(vec![jq("."), jq(".a.b")], &[r#"{"a":1}"#]).unwrap_err();
        assert_eq!(
            (error.number, error.word, error.record.as_str()),
            (2, "jq", r#"{"a":1}"#)
        );
    }

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(serde_json::Value::from),
            "[ -~é\"\\\\]{0,12}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::vec(("[a-c.é\"]{0,4}", inner), 0..4)
                    .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_step_changes_nothing_and_renaming_back_gives_the_record(value in any_value()) {
            let text = serde_json::json!({ "a": value, "b": 1 }).to_string();
            prop_assert_eq!(run(Vec::new(), &[&text]).unwrap(), format!("{text}\n"));
            let rename = |old: &str, new: &str| Step::Rename(vec![(path(old), new.to_owned())]);
            let back = run(vec![rename("a", "q q"), rename("\"q q\"", "a")], &[&text]);
            prop_assert_eq!(back.unwrap(), format!("{text}\n"));
        }

        #[test]
        fn as_many_records_as_elements(elements in prop::collection::vec(0..9_u8, 0..8), keep_empty in any::<bool>()) {
            let text = serde_json::json!({ "l": elements }).to_string();
            let explode = Step::Explode { path: path("l"), keep_empty };
            let lines = run(vec![explode], &[&text]).unwrap();
            let least = usize::from(keep_empty);
            prop_assert_eq!(lines.lines().count(), elements.len().max(least));
        }
    }
}
