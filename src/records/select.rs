//! One pass over a page: it is checked to be JSON, its records become lines, and the few other
//! values that paging wants are picked up on the way.
//!
//! The hot path. `serde_json` walks the page with seeds and hands out slices of it
//! (`&RawValue`), so no tree is built and a record stays what the API wrote: numbers keep their
//! digits, members their order. What is odd (a record that is the root, `*`, a wanted value with
//! wanted values inside) is read a second time by the scanner of `crate::json`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BytesMut};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::fast;
use super::filter;
use super::page::{Found, Lines, Lone, Page};
use super::problem::{self, SelectError};
use super::shape;
use super::wanted::{Node, Wanted};
use crate::json::valid::Names;
use crate::json::{self, valid};
use crate::plan::path::Path;
use crate::plan::{RecordsPlan, Shape};

/// Most levels that a page may nest (RFC 8259 section 9 lets a reader set a limit; this is
/// `serde_json`'s): who reads the files may well go one call deeper a level.
pub(super) const DEEPEST: u32 = 128;

/// Most bytes that the records of one page may become, in bytes: what is not JSON, or is shaped, can
/// grow.
pub(super) const MOST: usize = 256 << 20;

/// What to take out of every page of a stream; made once.
#[derive(Debug)]
pub struct Selector {
    records: Path,
    optional: bool,
    shape: Shape,
    wanted: Wanted,
    /// How the members of records were spelled on the page before, while no page is read with it.
    names: Mutex<Option<Names>>,
}

/// More members of a record than this are not remembered from page to page.
const MANY: usize = 256;

impl Selector {
    /// Takes the records at `records` and the values at `wants`; a `*` in those finds nothing.
    pub fn new(records: &Path, optional: bool, wants: &[&Path]) -> Self {
        Self {
            records: records.clone(),
            optional,
            shape: Shape::Plain,
            wanted: Wanted::new(records, wants),
            names: Mutex::default(),
        }
    }

    /// The same, and what a plan makes of them.
    pub fn shaped(plan: &RecordsPlan, wants: &[&Path]) -> Self {
        Self {
            shape: plan.shape.clone(),
            ..Self::new(&plan.path, plan.optional, wants)
        }
    }

    /// Whether the records are the root itself, as they are.
    pub(super) fn is_root(&self) -> bool {
        self.records.steps.is_empty() && self.shape == Shape::Plain
    }

    /// How many values are wanted beside the records.
    pub(super) fn wants(&self) -> usize {
        self.wanted.wants
    }

    /// Reads a page.
    pub fn select(&self, body: &[u8]) -> Result<Page, SelectError> {
        if let Shape::Filtered(jq) = &self.shape {
            let text = text(body)?;
            // It is read for what else is wanted, and seen to be JSON that is not too deep.
            let (page, _) = self.read(text)?;
            return filter::records(text, page, jq, self.optional);
        }
        let page = self.find(body)?;
        self.shaped_page(page)
    }

    /// Whether it may take so long that others should not wait for it.
    pub fn takes_time(&self) -> bool {
        matches!(self.shape, Shape::Filtered(_))
    }

    fn shaped_page(&self, page: Page) -> Result<Page, SelectError> {
        if self.shape == Shape::Plain {
            return Ok(page);
        }
        shape::records(&page, &self.shape, &self.records)
    }

    fn find(&self, body: &[u8]) -> Result<Page, SelectError> {
        let text = text(body)?;
        let (mut page, lines) = self.read(text)?;
        page.lines = match lines {
            Lines::Own(lines) => lines.into(),
            Lines::Within(range) => page.parted(BytesMut::from(&text.as_bytes()[range])),
        };
        Ok(page)
    }

    /// The same for a body that nobody else needs: records that stand close together become lines
    /// where they are.
    pub fn select_in_place(&self, mut body: BytesMut) -> Result<Page, SelectError> {
        if self.takes_time() {
            return self.select(&body);
        }
        let text = text(&body)?;
        let passed = body.len() - text.len();
        let (mut page, lines) = self.read(text)?;
        page.lines = match lines {
            Lines::Own(lines) => lines.into(),
            Lines::Within(range) => {
                body.truncate(passed + range.end);
                body.advance(passed + range.start);
                page.parted(body)
            }
        };
        self.shaped_page(page)
    }

    fn read(&self, text: &str) -> Result<(Page, Lines), SelectError> {
        if !self.optional && self.records.steps.is_empty() && text.trim_ascii() == "null" {
            return Err(SelectError::Null);
        }
        if let Some(found) = self.fast(text) {
            return Ok((found.page, found.lines));
        }
        let mut found = self.nothing_yet();
        let mut reader = serde_json::Deserializer::from_str(text);
        let walk = Walk {
            wanted: &self.wanted,
            node: self.wanted.root(),
            found: &mut found,
        };
        let read = walk.deserialize(&mut reader).and_then(|()| reader.end());
        if let Err(error) = read {
            if found.twice {
                return Err(SelectError::Twice {
                    path: self.records.clone(),
                });
            }
            // What no tree can hold (1e400, half a surrogate pair) is still JSON.
            let Ok(whole) = serde_json::from_str::<&RawValue>(text) else {
                return Err(problem::not_json(text, &error));
            };
            found = self.nothing_yet();
            found.take(&self.wanted, self.wanted.root(), whole.get());
        }
        if let Some(at) = valid::deeper_than(text, DEEPEST) {
            return Err(problem::too_deep(text, at, DEEPEST));
        }
        if found.reopen {
            found.lines = Lines::default();
            found.page.ends.clear();
            if let Some(value) = json::get(text, &self.records) {
                found.open(value);
            }
        }
        if !found.opened {
            if !self.optional {
                return Err(problem::absent(text, &self.records));
            }
            found.page.absent = true;
        }
        if self.records.is_many() {
            found.page.lone = None;
        }
        Ok((found.page, found.lines))
    }

    /// The usual page: records in an array, every other wanted value in plain sight. Anything
    /// else, and anything wrong, is `None`: then `serde_json` reads the page.
    fn fast(&self, text: &str) -> Option<Found> {
        let mut found = self.nothing_yet();
        let mut names = self.names().take().unwrap_or_default();
        names.turn();
        let mut walk = fast::Walk {
            wanted: &self.wanted,
            text,
            found: &mut found,
            names,
        };
        let at = walk.value(self.wanted.root(), valid::space(text.as_bytes(), 0))?;
        // Of names with a line break around them no later page would see that it has any.
        if walk.names.members() <= MANY && !walk.names.broken() {
            *self.names() = Some(walk.names);
        }
        let whole = valid::space(text.as_bytes(), at) == text.len();
        if self.records.is_many() {
            found.page.lone = None;
        }
        (whole && found.opened && !found.mixed).then_some(found)
    }

    fn names(&self) -> MutexGuard<'_, Option<Names>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nothing_yet(&self) -> Found {
        Found {
            page: Page {
                wants: vec![None; self.wanted.wants],
                ..Page::default()
            },
            ..Found::default()
        }
    }
}

/// A body as text.
fn text(body: &[u8]) -> Result<&str, SelectError> {
    // A quarter of the time of the standard library's; that one says where.
    let text = simdutf8::basic::from_utf8(body)
        .or_else(|_| std::str::from_utf8(body))
        .map_err(|e| SelectError::NotUtf8 {
            at: e.valid_up_to(),
        })?;
    // RFC 8259, section 8.1: a byte order mark may be ignored.
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Reads the value at a node of what is wanted.
struct Walk<'w> {
    wanted: &'w Wanted,
    node: &'w Node,
    found: &'w mut Found,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        if self.node.is_branch() {
            return reader.deserialize_any(self);
        }
        if self.node.is_records_only() {
            return reader.deserialize_any(Open(self.found));
        }
        let value: &RawValue = serde::Deserialize::deserialize(reader)?;
        self.found.take(self.wanted, self.node, value.get());
        Ok(())
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut passed_records = false;
        while let Some(next) = map.next_key_seed(Member(self.wanted, self.node))? {
            let Some(node) = next else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if node.leads_to_records {
                if passed_records {
                    self.found.twice = true;
                    return Err(A::Error::custom("the records are there twice"));
                }
                passed_records = true;
            }
            map.next_value_seed(Walk {
                wanted: self.wanted,
                node,
                found: self.found,
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for index in 0.. {
            let more = match self.wanted.element(self.node, index) {
                Some(node) => seq
                    .next_element_seed(Walk {
                        wanted: self.wanted,
                        node,
                        found: self.found,
                    })?
                    .is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Finds out, without keeping the key, where a member leads.
struct Member<'w>(&'w Wanted, &'w Node);

impl<'de, 'w> DeserializeSeed<'de> for Member<'w> {
    type Value = Option<&'w Node>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for Member<'w> {
    type Value = Option<&'w Node>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.member(self.1, name))
    }
}

/// Turns the value at the records' path into lines.
struct Open<'w>(&'w mut Found);

impl<'de> Visitor<'de> for Open<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.opened = true;
        while let Some(element) = seq.next_element::<&RawValue>()? {
            self.0.push(element.get());
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.reopen = true;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.0.reopen = true;
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.0.reopen = true;
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.0.reopen = true;
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.reopen = true;
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.0.reopen = true;
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.opened = true;
        self.0.page.lone = Some(Lone::Null);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn path(written: &str) -> Path {
        Path::parse(written).unwrap()
    }

    #[test]
    fn what_one_page_has_taught_changes_no_verdict_on_another() {
        let pad = " ".repeat(40);
        let new = || Selector::new(&path("data"), false, &[]);
        let taught = new();
        for body in [
            r#"{"data":[{"a":1,"b":{"c":2}},{"a":3,"b":{"c":4}}]}"#,
            r#"{"data":[{"a":1"b":{"c":2}}]}"#,
            r#"{"data":[{"a":1,"b"{"c":2}}]}"#,
            r#"{"data":[{"a":1,"b":{"c":2}]}"#,
            "{\"data\":[{\"a\":\n1}]}",
            r#"{"data":[{"a":1},{"b":2}]}"#,
            r#"{"data":[{"b":2,"a":1,"d":[{"a":1}]}]}"#,
            r#"{"data":[{}]}"#,
            r#"{"data":[{"a":1,"b":{"c":2}},{"a":3,"b":{"c":4}}]}"#,
        ] {
            let body = format!("{body}{pad}");
            let lines = |selector: &Selector| {
                let page = selector.select(body.as_bytes());
                page.map(|page| page.lines)
                    .map_err(|error| error.to_string())
            };
            assert_eq!(lines(&taught), lines(&new()), "{body}");
        }
    }

    #[test]
    fn a_line_break_is_seen_on_each_page_that_has_it() {
        let selector = Selector::new(&path("data"), false, &[]);
        for body in [
            "{\"data\":[{\n\"id\":1,\n\"a\":\"x\"},{\n\"id\":2,\n\"a\":\"y\"}]}",
            "{\"data\":[{\"id\":1\n,\"a\":\"x\"},{\"id\":2\n,\"a\":\"y\"}]}",
            "{\"data\":[{\"id\":\n1,\"a\":\r\n\"x\"},{\"id\":\n2,\"a\":\r\n\"y\"}]}",
        ] {
            let body = format!("{body}{}", " ".repeat(40));
            for page in ["first", "second", "third"] {
                let in_place = selector.select_in_place(body.as_str().into()).unwrap();
                let read = selector.select(body.as_bytes()).unwrap();
                let lines = "{\"id\":1,\"a\":\"x\"}\n{\"id\":2,\"a\":\"y\"}\n";
                assert_eq!(read.lines, lines, "{page}: {body}");
                assert_eq!(in_place.lines, lines, "{page}: {body}");
            }
        }
    }

    /// JSON with these words for no space: after what opens, before and after a colon, before and after
    /// a comma, before what closes.
    fn laid_out(value: &serde_json::Value, space: &[&str; 6]) -> String {
        let [opens, name, colon, value_ends, comma, closes] = space;
        let between = format!("{value_ends},{comma}");
        let inside = |parts: Vec<String>| format!("{opens}{}{closes}", parts.join(&between));
        match value {
            serde_json::Value::Array(all) if !all.is_empty() => {
                let all = all.iter().map(|one| laid_out(one, space)).collect();
                format!("[{}]", inside(all))
            }
            serde_json::Value::Object(all) if !all.is_empty() => {
                let member = |(key, one): (&String, &serde_json::Value)| {
                    let key = serde_json::Value::from(key.as_str());
                    format!("{key}{name}:{colon}{}", laid_out(one, space))
                };
                format!("{{{}}}", inside(all.iter().map(member).collect()))
            }
            other => other.to_string(),
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

        #[test]
        fn a_page_reads_the_same_whatever_came_before_it(
            pages in proptest::collection::vec((0..3_usize, 0..3_usize, 1..4_usize), 2..8),
            spaces in proptest::collection::vec(proptest::array::uniform6(0..8_usize), 3),
        ) {
            let records = [
                serde_json::json!({"id": 1, "a": "x", "b": {"c": [1, 2], "d": {}}}),
                serde_json::json!({"id": "2", "b": {"c": [], "d": {"e": null}}, "z": [{"id": 3}]}),
                serde_json::json!({"a": true}),
            ];
            // Most places have no space, and line breaks stand alone or among others.
            let words = ["", "", "", "", " ", "\n", "\r\n", "\t"];
            let taught = Selector::new(&path("data"), false, &[]);
            for (record, space, times) in pages {
                let space = spaces[space].map(|word| words[word]);
                let one = laid_out(&records[record], &space);
                let body = format!("{{\"data\":[{}]}}{}", vec![one; times].join(","), " ".repeat(40));
                let fresh = Selector::new(&path("data"), false, &[]).select(body.as_bytes()).unwrap();
                let lines = String::from_utf8(fresh.lines.to_vec()).unwrap();
                proptest::prop_assert_eq!(lines.matches('\n').count(), times, "{}", body);
                let in_place = taught.select_in_place(body.as_str().into()).unwrap();
                proptest::prop_assert_eq!(&in_place, &fresh, "{}", body);
                let read = taught.select(body.as_bytes()).unwrap();
                proptest::prop_assert_eq!(&read, &fresh, "{}", body);
            }
        }
    }

    fn select(records: &str, wants: &[&str], body: &str) -> Result<Page, SelectError> {
        let wants: Vec<Path> = wants.iter().map(|w| path(w)).collect();
        let wants: Vec<&Path> = wants.iter().collect();
        let selector = Selector::new(&path(records), false, &wants);
        let page = selector.select(body.as_bytes());
        // Whoever owns the body gets the same.
        assert_eq!(selector.select_in_place(body.into()), page);
        page
    }

    fn lines(records: &str, body: &str) -> String {
        let lines = select(records, &[], body).unwrap().lines;
        String::from_utf8(lines.into()).unwrap()
    }

    #[test]
    fn records_stay_what_the_api_wrote() {
        let body = r#"{"total":25,"data":{"items":[{"id":123456789012345678901234567890,"p":1.10}, {"b":1,"a":"x\ny"}]},"next":null}"#;
        let page = select("data.items", &["total", "next", "data.missing"], body).unwrap();
        assert_eq!(
            page.lines,
            "{\"id\":123456789012345678901234567890,\"p\":1.10}\n{\"b\":1,\"a\":\"x\\ny\"}\n"
        );
        assert_eq!(
            page.wants,
            [Some("25".into()), Some("null".into()), None::<String>]
        );
        assert_eq!(page.count(), 2);
        assert_eq!(page.record(1), page.last());
        assert_eq!(page.records().count(), 2);
    }

    #[test]
    fn what_is_not_an_array_of_objects() {
        assert_eq!(lines("$", r#" {"a":[1]} "#), "{\"a\":[1]}\n");
        assert_eq!(lines("a", r#"{"a":{"b":1}}"#), "{\"b\":1}\n");
        assert_eq!(lines("a", r#"{"a":null}"#), "");
        assert_eq!(select("$", &[], " null\n"), Err(SelectError::Null));
        assert_eq!(lines("a", r#"{"a":"x"}"#), "{\"value\":\"x\"}\n");
        assert_eq!(lines("$", "1e400"), "{\"value\":1e400}\n");
        let odd = r#"{"\ud800":1e400,"a":"\ud800"}"#;
        assert_eq!(lines("a", odd), "{\"value\":\"\\ud800\"}\n");
        assert_eq!(
            lines("$", "[1,\"a\",[2]]"),
            "{\"value\":1}\n{\"value\":\"a\"}\n{\"value\":[2]}\n"
        );
        let page = select("$", &[], r#"[{"a":1},null,{"a":2}]"#).unwrap();
        assert_eq!((page.count(), page.nulls), (2, 1));
        assert_eq!(lines("1", r#"[{"page":1},[{"a":1}]]"#), "{\"a\":1}\n");
    }

    #[test]
    fn a_record_that_holds_what_paging_wants() {
        let page = select(
            "$",
            &["meta.total", "meta"],
            r#"{"meta":{"total":3},"x":1}"#,
        )
        .unwrap();
        assert_eq!(page.lines, "{\"meta\":{\"total\":3},\"x\":1}\n");
        assert_eq!(
            page.wants,
            [Some("3".into()), Some("{\"total\":3}".to_owned())]
        );
    }

    #[test]
    fn stars_open_what_is_nested() {
        let body = r#"{"a":[{"b":[{"x":1},{"x":2}]},{"c":0},{"b":[{"x":3}]}],"n":9}"#;
        let page = select("a.*.b", &["n"], body).unwrap();
        assert_eq!(page.lines, "{\"x\":1}\n{\"x\":2}\n{\"x\":3}\n");
        assert_eq!(page.wants, [Some("9".to_owned())]);
        assert_eq!(lines("a.*.b", r#"{"a":[]}"#), "");
        assert!(select("a.*.b", &[], r#"{"a":[{"c":1}]}"#).is_err());
    }

    #[test]
    fn pretty_records_become_one_line() {
        let body = "[\n  {\n    \"a b\": \"c  d\",\r\n    \"e\": [ 1,\n 2 ]\n  }\n]\n";
        assert_eq!(lines("$", body), "{\"a b\":\"c  d\",\"e\":[1,2]}\n");
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_and_an_absent_optional_is_none() {
        assert_eq!(lines("$", "\u{feff}[{}]"), "{}\n");
        let page = Selector::new(&path("a"), true, &[])
            .select(b"{\"b\":1}")
            .unwrap();
        assert!(page.absent && page.count() == 0);
    }

    #[test]
    fn depth_has_an_end_and_is_harmless() {
        let nested = |depth: usize| format!("[{}{}]", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(select("$", &[], &nested(127)).unwrap().count(), 1);
        for deep in [128, 200_000] {
            let error = select("$", &[], &nested(deep)).unwrap_err();
            assert!(matches!(error, SelectError::TooDeep { .. }), "{error}");
        }
    }

    #[test]
    fn records_that_come_twice_are_an_error() {
        let error = select("a", &[], r#"{"a":[{"x":1}],"a":[{"x":2}]}"#).unwrap_err();
        assert!(matches!(error, SelectError::Twice { .. }));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[ -~é\n\"\\\\]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec(("[ab]", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    /// What `select` promises, said with trees.
    fn expected(value: &Value) -> Vec<Value> {
        let record = |v: &Value| match v {
            Value::Object(_) => v.clone(),
            other => json!({ "value": other }),
        };
        match value {
            Value::Null => Vec::new(),
            Value::Array(all) => all.iter().filter(|v| !v.is_null()).map(record).collect(),
            other => vec![record(other)],
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn the_pass_sees_what_a_tree_shows(
            value in any_json(),
            records in prop_oneof![Just("$"), Just("a"), Just("b.a"), Just("0"), Just("a.1")],
            want in prop_oneof![Just("$"), Just("a"), Just("b"), Just("b.b"), Just("a.0")],
            pretty: bool,
        ) {
            let body = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let at = |p: &str| {
                let steps = p.split('.').filter(|s| *s != "$");
                let pointer = steps.fold(String::new(), |all, step| all + "/" + step);
                value.pointer(&pointer).cloned()
            };
            match (select(records, &[want], &body), at(records)) {
                (Err(SelectError::Absent { .. }), None) => {}
                (Err(SelectError::Null), Some(Value::Null)) if records == "$" => {}
                (Ok(page), Some(there)) => {
                    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                    prop_assert_eq!(page.records().map(read).collect::<Vec<_>>(), expected(&there));
                    prop_assert_eq!(page.records().count(), page.count());
                    prop_assert_eq!(page.wants[0].as_deref().map(read), at(want));
                }
                (got, there) => prop_assert!(false, "{:?} where a tree has {:?}", got, there),
            }
        }
    }
}
