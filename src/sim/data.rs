//! Seeded records: the same seed gives the same bytes, and the texts are the ground truth.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use jiff::{SignedDuration, Timestamp};

/// Records as JSON texts in one buffer, so that a page of them is a slice.
#[derive(Clone)]
pub struct Dataset {
    /// All texts with a comma between two.
    text: Bytes,
    /// Where each text lies.
    spans: Vec<Range<usize>>,
    /// The value keyset paging goes by, ascending.
    keys: Vec<i64>,
}

/// What seeded records look like.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Where the dice start.
    pub seed: u64,
    /// `id` of the first record; the others follow without gaps.
    pub first_id: i64,
    /// Begins every title, so that records of two sets can be told apart.
    pub label: String,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            seed: 1,
            first_id: 1,
            label: "record".to_owned(),
        }
    }
}

/// Texts that break careless CSV and JSON: quotes, commas, newlines, tabs, formulas, emoji.
const TEXTS: [&str; 8] = [
    "plain words about a long walk along the river",
    "said \"enough\", twice, and left, comma after comma",
    "first line\nsecond line\r\nthird line, with a comma",
    "naïve café, Übergröße, 東京タワー, Ελλάδα",
    "tab\there, backslash \\ there, slash / everywhere",
    "=SUM(A1:A9) looks like a formula to a spreadsheet",
    "emoji 🦀 and a family 👩‍👩‍👧 and a flag 🇪🇺",
    " spaces on both sides, and nothing more to say ",
];
const STATES: [&str; 3] = ["open", "closed", "draft"];
const LABELS: [&str; 5] = ["bug", "docs", "help wanted", "good, first", "p1"];
const LOGINS: [&str; 6] = ["ada", "grace", "linus", "hedy", "bjørn", "margaret"];

/// `n` records of about 300 bytes, the same for the same shape.
pub fn records(n: usize, shape: &Shape) -> Dataset {
    let mut dice = fastrand::Rng::with_seed(shape.seed);
    let start = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000);
    let mut builder = Builder::with_capacity(n);
    let mut text = String::with_capacity(400);
    for (id, _) in (shape.first_id..).zip(0..n) {
        text.clear();
        write_record(&mut text, id, shape, start, &mut dice);
        builder.push(&text, id);
    }
    builder.finish()
}

fn write_record(
    text: &mut String,
    id: i64,
    shape: &Shape,
    start: Timestamp,
    dice: &mut fastrand::Rng,
) {
    let user = dice.usize(..LOGINS.len());
    // Spelled with two digits, so `1.10` shows whether a number keeps its spelling.
    let (whole, cents) = (dice.u32(0..100), dice.u32(0..10) * 10);
    let labels: Vec<&str> = (0..dice.usize(0..3))
        .map(|_| LABELS[dice.usize(..LABELS.len())])
        .collect();
    let closed = if dice.bool() {
        "null".to_owned()
    } else {
        format!("\"{}\"", start + SignedDuration::from_secs(id * 61 + 5))
    };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{{\"id\":{id},\"title\":{},\"state\":\"{}\",\"user\":{{\"login\":\"{}\",\"id\":{}}},\
         \"labels\":{},\"score\":{whole}.{cents:02},\"comments\":{},\"created_at\":\"{}\",\
         \"closed_at\":{closed},\"locked\":{},\"body\":{}}}",
        quoted(&format!("{} {id}", shape.label)),
        STATES[dice.usize(..STATES.len())],
        LOGINS[user],
        9_007_199_254_740_993_u64 + user as u64,
        serde_json::json!(labels),
        dice.u32(0..50),
        start + SignedDuration::from_secs(id * 60),
        dice.bool(),
        quoted(TEXTS[dice.usize(..TEXTS.len())]),
    );
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Dataset {
    /// Records written by hand. Keys for keyset paging are their `id`s, or places from 1 where
    /// a record has none.
    pub fn from_texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut builder = Builder::with_capacity(0);
        for (place, text) in texts.into_iter().enumerate() {
            let key = serde_json::from_str::<serde_json::Value>(text.as_ref())
                .ok()
                .and_then(|record| record.get("id")?.as_i64())
                .unwrap_or_else(|| i64::try_from(place).map_or(i64::MAX, |at| at + 1));
            builder.push(text.as_ref(), key);
        }
        builder.finish()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Texts `from..to` with commas between, without brackets; no copy.
    pub fn slice(&self, from: usize, to: usize) -> Bytes {
        match (self.spans.get(from), to.min(self.len()).checked_sub(1)) {
            (Some(first), Some(last)) if last >= from => {
                self.text.slice(first.start..self.spans[last].end)
            }
            _ => Bytes::new(),
        }
    }

    /// How many records have a key of at most `key`; keys must ascend.
    pub fn after_key(&self, key: i64) -> usize {
        self.keys.partition_point(|one| *one <= key)
    }

    /// All texts, in order.
    pub fn texts(&self) -> Vec<String> {
        self.spans
            .iter()
            .map(|span| String::from_utf8_lossy(&self.text[span.clone()]).into_owned())
            .collect()
    }
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataset")
            .field("records", &self.spans.len())
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

struct Builder {
    text: BytesMut,
    spans: Vec<Range<usize>>,
    keys: Vec<i64>,
}

impl Builder {
    fn with_capacity(n: usize) -> Self {
        Self {
            text: BytesMut::with_capacity(n * 340),
            spans: Vec::with_capacity(n),
            keys: Vec::with_capacity(n),
        }
    }

    fn push(&mut self, text: &str, key: i64) {
        if !self.spans.is_empty() {
            self.text.put_u8(b',');
        }
        let start = self.text.len();
        self.text.put_slice(text.as_bytes());
        self.spans.push(start..self.text.len());
        self.keys.push(key);
    }

    fn finish(self) -> Dataset {
        Dataset {
            text: self.text.freeze(),
            spans: self.spans,
            keys: self.keys,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_the_same_for_the_same_seed_and_valid_json() {
        let set = records(200, &Shape::default());
        let again = records(200, &Shape::default());
        assert_eq!(set.texts(), again.texts());
        let other = records(
            200,
            &Shape {
                seed: 2,
                ..Shape::default()
            },
        );
        assert_ne!(set.texts(), other.texts());
        let mut nulls = 0;
        for (at, text) in set.texts().iter().enumerate() {
            let record: serde_json::Value = serde_json::from_str(text).expect("valid JSON");
            assert_eq!(record["id"], at + 1);
            nulls += usize::from(record["closed_at"].is_null());
        }
        assert!((50..150).contains(&nulls));
        let size = set.text.len() / set.len();
        assert!((250..400).contains(&size), "{size} bytes a record");
    }

    #[test]
    fn a_slice_is_a_list_without_brackets() {
        let set = Dataset::from_texts([r#"{"id":4}"#, r#"{"id":7}"#, r#"{"id":9}"#]);
        assert_eq!(set.slice(1, 9), r#"{"id":7},{"id":9}"#);
        assert_eq!(set.slice(3, 9), "");
        assert_eq!(set.slice(1, 1), "");
        assert_eq!(
            (set.after_key(4), set.after_key(8), set.after_key(9)),
            (1, 2, 3)
        );
    }
}
