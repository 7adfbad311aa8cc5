//! `records: { jq: … }`: the records that a filter makes of a whole answer.

use super::page::{Made, Page};
use super::problem::{self, SelectError};
use crate::json;
use crate::plan::jq::{Input, Jq};

/// The records that a filter gives of `text`, which is known to be JSON; `found` says what else was
/// found in it.
///
/// What it gives is taken as what stands at a path: an array is opened, null is no record. jq says null
/// of a member that is not there too; so null and nothing else is an error, unless records may be
/// missing.
pub(super) fn records(
    text: &str,
    found: Page,
    jq: &Jq,
    optional: bool,
) -> Result<Page, SelectError> {
    let wrong = |output: Option<usize>, what: String| SelectError::Filter {
        filter: problem::around(jq.written(), 0, problem::SAMPLE),
        output,
        what,
        sample: problem::around(text.trim_ascii(), 0, problem::AROUND * 4),
    };
    let mut made = Made::new(Page {
        wants: found.wants,
        ..Page::default()
    });
    let (mut outputs, mut nulls, mut full) = (0_usize, 0_usize, None);
    let input = Input::read(text.trim_ascii()).map_err(|e| wrong(None, e.message))?;
    let ran = jq.run(&input, |output| {
        outputs += 1;
        nulls += usize::from(output == "null");
        let mut add = |value: &str| made.add(value);
        let added = match output.as_bytes().first() {
            Some(b'[') => json::elements(output).try_for_each(add),
            Some(b'n') => Ok(()),
            _ => add(output),
        };
        if let Err(what) = added {
            full.get_or_insert((outputs, what));
        }
    });
    if let Some((output, what)) = full {
        return Err(wrong(Some(output), what));
    }
    ran.map_err(|e| wrong((outputs > 0).then_some(outputs + 1), e.message))?;
    let is_absent = outputs > 0 && nulls == outputs;
    if is_absent && !optional {
        return Err(wrong(None, "it gives null and nothing else".to_owned()));
    }
    let mut page = made.page();
    page.absent = is_absent;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::super::select::Selector;
    use super::*;
    use crate::plan::path::Path;
    use crate::plan::{RecordsPlan, Shape};

    fn select(filter: &str, optional: bool, body: &str) -> Result<Page, SelectError> {
        let plan = RecordsPlan {
            path: Path::default(),
            optional,
            shape: Shape::Filtered(Jq::parse(filter).expect("a filter")),
            place: None,
        };
        let total = Path::parse("meta.total").expect("a path");
        Selector::shaped(&plan, &[&total]).select(body.as_bytes())
    }

    fn lines(filter: &str, body: &str) -> String {
        let page = select(filter, false, body).expect("records");
        assert_eq!(page.count(), page.records().count());
        String::from_utf8(page.lines.to_vec()).expect("text")
    }

    #[test]
    fn outputs_are_taken_as_what_stands_at_a_path() {
        let body = r#"{"meta":{"total":3},"a":[{"id":1.10},{"id":12345678901234567890123}],"b":{"id":"x"}}"#;
        let all = "{\"id\":1.10}\n{\"id\":12345678901234567890123}\n";
        assert_eq!(lines(".a", body), all);
        assert_eq!(lines(".a[]", body), all);
        assert_eq!(lines(".a[], .b", body), format!("{all}{{\"id\":\"x\"}}\n"));
        assert_eq!(lines(".b.id, null", body), "{\"value\":\"x\"}\n");
        assert_eq!(lines(".a[] | select(.id > 99e99)", body), "");
        assert_eq!(lines("[]", body), "");
        let page = select(".a", false, body).expect("records");
        assert_eq!(page.wants, [Some("3".to_owned())]);
        // Lines of the body do not show in records.
        assert_eq!(lines(".", "[{\n\"a\": [1,\n2]}\n]"), "{\"a\":[1,2]}\n");
    }

    #[test]
    fn what_is_missing_is_no_success_unless_that_is_said() {
        for body in [r#"{"itmes":[]}"#, r#"{"items":null}"#] {
            let said = select(".items", false, body).unwrap_err().to_string();
            assert!(said.contains("it gives null and nothing else"), "{said}");
            let page = select(".items", true, body).expect("none");
            assert!(page.absent && page.count() == 0);
        }
        assert!(select("empty", false, "{}").is_ok_and(|page| page.count() == 0));
    }

    #[test]
    fn what_fails_says_which_filter_and_shows_the_answer() {
        let body = format!(r#"{{"items":[1,"x"],"more":"{}"}}"#, "y".repeat(500));
        let said = select(".items[] | . + 1", false, &body).unwrap_err();
        let said = said.to_string();
        assert!(
            said.starts_with("`records: { jq: .items[] | . + 1 }`, output 2: "),
            "{said}"
        );
        assert!(
            said.contains("; the answer begins \"{\\\"items\\\""),
            "{said}"
        );
        assert!(said.len() < 400, "{said}");
        let said = select("range(1e9)", false, "{}").unwrap_err().to_string();
        assert!(said.contains("steps") || said.contains("GiB"), "{said}");
        // What is no JSON is told as everywhere.
        assert!(matches!(
            select(".", false, "<html></html>"),
            Err(SelectError::Markup { .. })
        ));
    }
}
