//! Signs in an answer that it is not all, or no data: what APIs put beside the records while there is another
//! page, and where something went wrong. Looked for whatever the pipeline says of paging, so that neither the
//! first page, nor a short one, nor an error is taken for everything.
//!
//! Only names that mean this and nothing else, and only beside the records: in the objects that
//! hold them and in those where APIs keep what they say of a page. An API that says outright that
//! there is no more is believed, whatever cursor it gives.

use std::fmt::{self, Display};

use crate::json;
use crate::plan::path::{Path, Step};

/// True while there is more: Stripe, Slack, Notion, GraphQL's connections, Pipedrive, `ArcGIS`,
/// `PagerDuty`, Amazon S3, GitHub's trees.
const TRUE: [&str; 16] = [
    "has_more",
    "hasMore",
    "has_more_items",
    "hasMoreItems",
    "more_items_in_collection",
    "more_available",
    "moreAvailable",
    "more",
    "has_next",
    "hasNext",
    "has_next_page",
    "hasNextPage",
    "truncated",
    "isTruncated",
    "IsTruncated",
    "exceededTransferLimit",
];

/// False while there is more: Jira, Spring, Zendesk, GBIF, Salesforce.
const FALSE: [&str; 8] = [
    "isLast",
    "is_last",
    "isLastPage",
    "is_last_page",
    "last",
    "end_of_stream",
    "endOfRecords",
    "done",
];

/// Those of them that say other things too, of a job or of one object: they take back no lead, and
/// are taken back by a word that says outright that there is no more.
const LOOSE: [&str; 4] = ["more", "truncated", "last", "done"];

/// Lead to more, and are absent, null or empty otherwise: addresses, tokens, numbers of pages.
const LEADS: [&str; 35] = [
    "next",
    "next_url",
    "nextUrl",
    "next_uri",
    "next_href",
    "next_link",
    "nextLink",
    "@odata.nextLink",
    "odata.nextLink",
    "nextRecordsUrl",
    "after_url",
    "next_results",
    "next_page",
    "nextPage",
    "next_page_url",
    "nextPageUrl",
    "next_page_uri",
    "next_page_token",
    "nextPageToken",
    "next_page_offset",
    "next_cursor",
    "nextCursor",
    "next-cursor",
    "next_token",
    "nextToken",
    "NextToken",
    "NextContinuationToken",
    "next_marker",
    "nextMarker",
    "NextMarker",
    "next_offset",
    "nextOffset",
    "continuation_token",
    "continuationToken",
    "continue",
];

/// Objects in which APIs keep what they say of a page.
const HOLDERS: [&str; 18] = [
    "links",
    "_links",
    "link",
    "meta",
    "_meta",
    "metadata",
    "_metadata",
    "paging",
    "pagination",
    "page",
    "pages",
    "page_info",
    "pageInfo",
    "response_metadata",
    "result_info",
    "search_metadata",
    "additional_data",
    "info",
];

/// Members of an object that leads on: HAL and JSON:API, `HubSpot`, Intercom, `MediaWiki`.
const INSIDE: [&str; 10] = [
    "href",
    "url",
    "uri",
    "after",
    "cursor",
    "token",
    "page",
    "offset",
    "starting_after",
    "continue",
];

/// Hold what went wrong, and are absent, null or empty otherwise.
pub(in crate::harvest) const ERRORS: [&str; 2] = ["error", "errors"];

/// Hold words for people: of an error, or of nothing.
pub(in crate::harvest) const WORDS: [&str; 6] = [
    "message",
    "msg",
    "detail",
    "error_message",
    "errorMessage",
    "reason",
];

/// Texts that stand for nothing.
const NOTHING: [&str; 7] = ["", "0", "-1", "null", "none", "false", "undefined"];

/// Texts that say that there is no error.
const FINE: [&str; 5] = ["ok", "success", "successful", "no error", "no errors"];

/// What one member says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// Outright that there is more.
    More,
    /// Outright that there is not.
    Over,
    /// Where there is more.
    Leads,
    Nothing,
}

/// Where signs may be in an answer whose records are at `records`; none where they are the root,
/// which has nothing beside it.
pub(in crate::harvest) fn places(records: &Path) -> Vec<Path> {
    let mut places = Vec::new();
    let mut above = Vec::new();
    for step in &records.steps {
        // What stands beside one of these is another one.
        if *step == Step::All {
            break;
        }
        let names = TRUE.iter().chain(&FALSE).chain(&LEADS).chain(&HOLDERS);
        let names = names.chain(&ERRORS).chain(&WORDS);
        for name in names {
            let step_to = Step::Key((*name).to_owned());
            if step_to != *step {
                let mut steps = above.clone();
                steps.push(step_to);
                places.push(Path { steps });
            }
        }
        above.push(step.clone());
    }
    places
}

/// A sign of another page, in words, given what was found at [`places`].
pub(in crate::harvest) fn sign(places: &[Path], found: &[Option<String>]) -> Option<String> {
    let (mut is_over, mut leads) = (false, None);
    for (place, raw) in places.iter().zip(found) {
        let (Some(raw), Some(Step::Key(name))) = (raw, place.steps.last()) else {
            continue;
        };
        let mut more = None;
        look(name, raw, place, 0, &mut |says, what| match says {
            Says::More => more = more.take().or_else(|| Some(what.to_string())),
            Says::Over => is_over = true,
            Says::Leads => leads = leads.take().or_else(|| Some(what.to_string())),
            Says::Nothing => {}
        });
        if more.is_some() {
            return more;
        }
    }
    leads.filter(|_| !is_over)
}

/// What stands at one of [`places`] that has one of these names and tells of an error, and its place.
pub(in crate::harvest) fn error<'f>(
    places: &[Path],
    found: &'f [Option<String>],
    names: &[&str],
) -> Option<(String, &'f str)> {
    let mut both = places.iter().zip(found);
    both.find_map(|(place, raw)| {
        let (raw, Some(Step::Key(name))) = (raw.as_deref()?, place.steps.last()) else {
            return None;
        };
        let is_one = names.contains(&name.as_str()) && tells_of_error(raw, 0);
        is_one.then(|| (place.to_string(), raw))
    })
}

/// Whether the value of such a member tells of an error: inside of it, words do, and codes that are not of success.
pub(in crate::harvest) fn tells_of_error(raw: &str, depth: u8) -> bool {
    match raw.as_bytes().first() {
        Some(b'"') => {
            let text = json::plain(raw).trim().to_ascii_lowercase();
            !NOTHING.contains(&text.as_str()) && !FINE.contains(&text.as_str())
        }
        Some(b'{') if depth < 4 => json::members(raw)
            .any(|(name, value)| tells_of_error(value, depth + 1) || is_bad_code(name, value)),
        Some(b'[') if depth < 4 => json::elements(raw).any(|one| tells_of_error(one, depth + 1)),
        Some(b't' | b'0'..=b'9') if depth == 0 => is_something(raw, false),
        _ => false,
    }
}

/// Whether a member of an error is a number that does not say that all is well.
fn is_bad_code(name: &str, raw: &str) -> bool {
    matches!(name, "code" | "status" | "status_code")
        && raw
            .parse::<u32>()
            .is_ok_and(|code| code != 0 && !(200..300).contains(&code))
}

/// Looks at a member and, where it is a holder, at what is in it.
fn look(
    name: &str,
    raw: &str,
    place: &dyn Display,
    depth: u8,
    told: &mut dyn FnMut(Says, fmt::Arguments<'_>),
) {
    let says = says(name, raw);
    match (says, raw) {
        (Says::More | Says::Leads, "true" | "false") => {
            told(says, format_args!("`{place}` is {raw}"));
        }
        _ => told(says, format_args!("it has a `{place}`")),
    }
    if depth > 1 || !HOLDERS.contains(&name) {
        return;
    }
    for (key, value) in json::members(raw) {
        let key = json::unescape(key);
        look(&key, value, &format_args!("{place}.{key}"), depth + 1, told);
    }
    // Links by their relation: Atom (RFC 4287, RFC 5005), FHIR, PayPal.
    let one = raw.starts_with('{').then_some(raw);
    for link in json::elements(raw).chain(one) {
        let is_next = json::members(link).any(|(key, value)| {
            matches!(key, "rel" | "@rel" | "relation") && json::plain(value) == "next"
        });
        if is_next {
            told(
                Says::Leads,
                format_args!("`{place}` has one that is `next`"),
            );
        }
    }
}

fn says(name: &str, raw: &str) -> Says {
    if TRUE.contains(&name) || FALSE.contains(&name) {
        let more = if TRUE.contains(&name) {
            "true"
        } else {
            "false"
        };
        return match raw {
            "true" | "false" if raw == more && LOOSE.contains(&name) => Says::Leads,
            "true" | "false" if LOOSE.contains(&name) => Says::Nothing,
            "true" | "false" if raw == more => Says::More,
            "true" | "false" => Says::Over,
            _ => Says::Nothing,
        };
    }
    if LEADS.contains(&name) && is_something(raw, true) {
        return Says::Leads;
    }
    Says::Nothing
}

/// Whether a value can be sent to get more.
fn is_something(raw: &str, may_hold: bool) -> bool {
    match raw.as_bytes().first() {
        Some(b'"') => {
            let text = json::plain(raw);
            // A sentence is no address and no token.
            !text.contains(char::is_whitespace)
                && !NOTHING.contains(&text.to_ascii_lowercase().as_str())
        }
        Some(b'{') => {
            may_hold
                && json::members(raw)
                    .any(|(key, value)| INSIDE.contains(&key) && is_something(value, false))
        }
        Some(b't') => true,
        Some(b'0'..=b'9') => raw.parse::<f64>().is_ok_and(|number| number > 0.0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an answer with records at `data.rows` says.
    fn said(root: &str) -> Option<String> {
        let records = Path::parse("data.rows").expect("a path");
        let places = places(&records);
        let found: Vec<_> = places
            .iter()
            .map(|place| json::get(root, place).map(str::to_owned))
            .collect();
        sign(&places, &found)
    }

    #[test]
    fn another_page_is_seen() {
        for (answer, wanted) in [
            (r#"{"has_more":true,"data":{}}"#, "`has_more` is true"),
            (r#"{"isLast":false}"#, "`isLast` is false"),
            (r#"{"next":"https://a.test/?page=2"}"#, "it has a `next`"),
            (r#"{"next":2}"#, "it has a `next`"),
            (r#"{"last":false}"#, "`last` is false"),
            (
                r#"{"done":true,"truncated":false,"next_cursor":"x"}"#,
                "it has a `next_cursor`",
            ),
            (
                r#"{"data":{"rows":[],"nextPageToken":"x"}}"#,
                "it has a `data.nextPageToken`",
            ),
            (
                r#"{"data":{"pageInfo":{"hasNextPage":true,"endCursor":"x"}}}"#,
                "`data.pageInfo.hasNextPage` is true",
            ),
            (
                r#"{"meta":{"next_cursor":"x"}}"#,
                "it has a `meta.next_cursor`",
            ),
            (
                r#"{"meta":{"pagination":{"next":"x"}}}"#,
                "it has a `meta.pagination.next`",
            ),
            (
                r#"{"_links":{"next":{"href":"/b"}}}"#,
                "it has a `_links.next`",
            ),
            (
                r#"{"paging":{"next":{"after":"12"}}}"#,
                "it has a `paging.next`",
            ),
            (
                r#"{"metadata":{"continue":"x"}}"#,
                "it has a `metadata.continue`",
            ),
            (
                r#"{"continue":{"apcontinue":"B","continue":"-||"}}"#,
                "it has a `continue`",
            ),
            (
                r#"{"@odata.nextLink":"https://a.test"}"#,
                "it has a `@odata.nextLink`",
            ),
            (
                r#"{"link":[{"relation":"self"},{"relation":"next","url":"x"}]}"#,
                "`link` has one that is `next`",
            ),
            (
                r#"{"link":{"@rel":"next"}}"#,
                "`link` has one that is `next`",
            ),
            // The plain word counts more than what leads on.
            (r#"{"next":null,"has_more":true}"#, "`has_more` is true"),
        ] {
            // Paths are written with quotes where they need some.
            let said =
                said(answer).map(|said| said.replace("`\"@odata.nextLink\"`", "`@odata.nextLink`"));
            assert_eq!(said.as_deref(), Some(wanted), "{answer}");
        }
    }

    #[test]
    fn the_last_page_and_what_only_looks_alike_are_no_signs() {
        for answer in [
            "{}",
            r#"{"next":null,"next_cursor":"","has_more":false,"isLast":true}"#,
            r#"{"next_cursor":0,"nextPage":"0","next_page":"-1","next_token":false}"#,
            r#"{"next":{},"links":{"next":null,"self":"/a"},"_links":{"next":{"href":null}}}"#,
            // It always gives a cursor, and says that there is no more.
            r#"{"meta":{"has_more":false,"next_cursor":"x"}}"#,
            r#"{"next_cursor":"x","data":{"pageInfo":{"hasNextPage":false}}}"#,
            // Done is the job, or one thing in it.
            r#"{"done":false,"has_more":false,"data":{"last":false}}"#,
            r#"{"done":true,"last":true,"more":false}"#,
            // Words, not places.
            r#"{"next":"the next update comes on Monday","more":"see the manual"}"#,
            r#"{"last":"2026-01-01","done":1,"truncated":"no"}"#,
            // Where one stands, not where it goes on.
            r#"{"paging":{"cursors":{"after":"x","before":"y"}},"page":{"number":0}}"#,
            r#"{"cursor":"x","page_token":"x","offset":100,"after":"x"}"#,
            r#"{"link":"https://a.test","links":[{"rel":"self"},{"rel":"prev"}]}"#,
            // In the records.
            r#"{"data":{"rows":[{"next":"x","has_more":true}],"other":{"has_more":true}}}"#,
        ] {
            assert_eq!(said(answer), None, "{answer}");
        }
    }

    #[test]
    fn nothing_is_beside_the_root_and_the_way_to_the_records_is_no_sign() {
        assert!(places(&Path::default()).is_empty());
        let records = Path::parse("links.next.*.more").expect("a path");
        let shown: Vec<String> = places(&records).iter().map(ToString::to_string).collect();
        assert!(!shown.contains(&"links".to_owned()) && shown.contains(&"next".to_owned()));
        assert!(!shown.contains(&"links.next".to_owned()));
        assert!(shown.contains(&"links.more".to_owned()));
        let among = shown.iter().any(|place| place.starts_with("links.next."));
        assert!(!among, "what `*` goes over is looked into once: {shown:?}");
        assert!(!shown.iter().any(|place| place.contains('*')));
    }
}
