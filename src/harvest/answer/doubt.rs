//! Successes that are JSON and have something where the records should be, but are no data: an
//! error in words that came with status 200. A rule of the pipeline is believed before this.

use crate::harvest::pages::more::{self, ERRORS, WORDS};
use crate::harvest::pages::walk;
use crate::harvest::stream::Stream;
use crate::harvest::trouble::shorten;
use crate::json;
use crate::plan::path::{Path, Step};
use crate::plan::{ColumnFrom, Shape};
use crate::records::page::{Lone, Page};
use crate::records::problem::SelectError;

/// Most characters of an answer in a message.
const MOST_SAMPLE: usize = 80;

/// Members of an object that tells of an error and of nothing else (RFC 9457, section 3.1, and custom).
const OF_ERRORS: [&str; 16] = [
    "error",
    "errors",
    "error_code",
    "error_description",
    "error_message",
    "code",
    "status",
    "status_code",
    "success",
    "ok",
    "message",
    "msg",
    "detail",
    "reason",
    "request_id",
    "documentation_url",
];

impl Stream {
    /// The page, unless what it holds is no data; `is_later` says that others came before it in its walk.
    pub(super) fn undoubted(&self, page: Page, is_later: bool) -> Result<Page, SelectError> {
        let path = &self.plan().records.path;
        let found = page.wants.len().saturating_sub(self.signs.len());
        let signs = page.wants.get(found..).unwrap_or_default();
        let (places, like) = (&self.signs, self.like.get());
        let what = match page.lone {
            Some(Lone::Text | Lone::Scalar) if self.takes_values() => None,
            Some(Lone::Text) => Some("a text where records were expected".to_owned()),
            // A number may be all that an address gives, but not at a path that was named.
            Some(Lone::Scalar) if like.is_some() || !path.steps.is_empty() => {
                Some("a single value where records were expected".to_owned())
            }
            Some(Lone::Object) if page.last().is_some_and(is_error) => {
                Some("an error where records were expected".to_owned())
            }
            Some(Lone::Object)
                if like.is_some_and(|like| !page.last().is_some_and(|one| is_like(one, like))) =>
            {
                Some(
                    "an object with other members than the records before it, which came in arrays"
                        .to_owned(),
                )
            }
            _ => None,
        };
        if let Some(what) = what {
            let place = show(path);
            let record = page.last().unwrap_or_default();
            let value = match page.lone {
                Some(Lone::Object) => record,
                _ => json::members(record)
                    .next()
                    .map_or(record, |(_, value)| value),
            };
            return Err(SelectError::Odd {
                what: format!("{place} is {what}"),
                sample: shorten(value, MOST_SAMPLE),
            });
        }
        let words = || more::error(places, signs, &WORDS);
        if page.count() > 0 {
            self.words
                .get_or_init(|| words().map(|(_, raw)| raw.to_owned()));
            return Ok(page);
        }
        if let Some((place, raw)) = more::error(places, signs, &ERRORS) {
            return Err(SelectError::Odd {
                what: format!("there are no records, but `{place}`"),
                sample: shorten(raw, MOST_SAMPLE),
            });
        }
        if page.lone == Some(Lone::Null) && like.is_some() && is_later {
            let usual = self.words.get().and_then(Option::as_deref);
            let words = words().filter(|(_, raw)| Some(*raw) != usual);
            // Who says where the next page is, or that there is none, has answered: Go writes an empty list
            // as null.
            let paging = &self.plan().paging;
            let is_answer = !paging.names_next() || walk::shows_next(paging, &page.wants);
            if words.is_some() || !is_answer {
                let (beside, sample) = match words {
                    Some((place, raw)) => (format!(", with `{place}`"), shorten(raw, MOST_SAMPLE)),
                    None => (String::new(), String::new()),
                };
                let what = format!(
                    "{} is null where the pages before had an array{beside}",
                    show(path)
                );
                return Err(SelectError::Odd { what, sample });
            }
        }
        Ok(page)
    }

    /// Remembers what records in an array look like; says whether this was the first.
    pub(in crate::harvest) fn liken(&self, record: Option<&str>) -> bool {
        if self.like.get().is_some() {
            return false;
        }
        let names = |record| {
            let names = json::members(record).map(|(name, _)| name.to_owned());
            names.collect()
        };
        record.is_some_and(|record| self.like.set(names(record)).is_ok())
    }

    /// Whether the pipeline reads records that are no objects.
    fn takes_values(&self) -> bool {
        let plan = self.plan();
        let reads = |from: &ColumnFrom| {
            match from {
                ColumnFrom::Path(path) => {
                    let first = path.steps.first();
                    first.is_none_or(|step| *step == Step::Key("value".to_owned()))
                }
                // What it makes of a record is its own affair.
                ColumnFrom::Jq(_) => true,
                ColumnFrom::Template(_) | ColumnFrom::Nothing => false,
            }
        };
        let mut columns = plan.columns.iter().flatten();
        plan.records.shape != Shape::Plain
            || !plan.transform.is_empty()
            || plan.key.iter().any(|name| name == "value")
            || columns.any(|column| reads(&column.from))
    }
}

/// The records' place, for people.
fn show(path: &Path) -> String {
    if path.steps.is_empty() {
        "the body".to_owned()
    } else {
        format!("`{path}`")
    }
}

/// Whether an object says that something went wrong, and nothing else.
fn is_error(object: &str) -> bool {
    let mut tells = false;
    for (name, value) in json::members(object) {
        let name = name.to_ascii_lowercase();
        if !OF_ERRORS.contains(&name.as_str()) {
            return false;
        }
        tells |= ERRORS.contains(&name.as_str()) && more::tells_of_error(value, 0);
    }
    tells
}

/// Whether most members of an object are among these, or it has all of these.
fn is_like(object: &str, names: &[String]) -> bool {
    let (mut shared, mut all) = (0, 0);
    for (name, _) in json::members(object) {
        all += 1;
        shared += usize::from(names.iter().any(|known| known == name));
    }
    shared * 2 > all || shared > 0 && shared == names.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_from_a_record() {
        for error in [
            r#"{"error":"quota exceeded"}"#,
            r#"{"errors":[{"detail":"x","id":7}],"status":"error"}"#,
            r#"{"error":{"code":13,"message":"later"}}"#,
            r#"{"error":true,"message":"later"}"#,
            r#"{"errors":[{"code":429}]}"#,
        ] {
            assert!(is_error(error), "{error}");
        }
        for record in [
            "{}",
            r#"{"message":"https://a.test/dog.jpg","status":"success"}"#,
            r#"{"id":1,"error":"the job failed"}"#,
            r#"{"error":null,"status":"ok"}"#,
            r#"{"error":{"code":200,"status":0}}"#,
            r#"{"error":{"code":0,"message":""},"errors":[],"ok":true}"#,
        ] {
            assert!(!is_error(record), "{record}");
        }
    }

    #[test]
    fn a_record_alone_is_like_those_in_arrays() {
        let like = ["id", "name", "url"].map(str::to_owned);
        assert!(is_like(r#"{"id":1,"name":"a"}"#, &like));
        assert!(is_like(r#"{"id":1,"name":"a","more":null}"#, &like));
        assert!(!is_like(r#"{"message":"slow down","url":"x"}"#, &like));
        assert!(!is_like("{}", &like));
        let all = r#"{"id":1,"name":"a","url":"x","tel":1,"fax":2,"mail":3,"geo":4}"#;
        assert!(is_like(all, &like));
    }
}
