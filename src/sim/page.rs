//! One page of a listing: which records a request asks for, and the body that carries them.

use bytes::Bytes;

use super::data::Dataset;
use super::paging::{End, Paging};
use super::request::{SimReply, SimRequest};
use super::rules::{Listing, Source};

/// Renders the page a request asks for, or the 400 it deserves.
pub fn render(listing: &Listing, request: &SimRequest) -> SimReply {
    match page(listing, request) {
        Ok(reply) => reply,
        Err(message) => SimReply::error(400, &message),
    }
}

fn page(listing: &Listing, request: &SimRequest) -> Result<SimReply, String> {
    let data = choose(&listing.source, request)?;
    let size = match &listing.size_param {
        None => listing.size,
        Some(name) => number(request, name)?.map_or(listing.size, |asked| {
            usize::try_from(asked).unwrap_or(usize::MAX)
        }),
    };
    let size = size.clamp(1, listing.max_size.max(1));
    let from = start(listing, data, request, size)?;
    let to = from.saturating_add(size).min(data.len());
    let (from, to) = match listing.paging {
        Paging::Whole => (0, data.len()),
        _ => (from, to),
    };

    let mut out = Places::default();
    if let Some(place) = &listing.records {
        out.put(place, Node::Rows(data.slice(from, to)));
    }
    tell(listing, request, data.len(), size, to, &mut out);
    for (place, json) in &listing.extra {
        out.put(place, Node::Json(json.clone()));
    }

    let mut body = Vec::with_capacity(data.slice(from, to).len() + 200);
    if listing.records.is_some() {
        out.body.write(&mut body);
    } else {
        Node::Rows(data.slice(from, to)).write(&mut body);
    }
    let mut reply = SimReply::json(200, body);
    for (name, value) in &out.headers {
        reply = reply.header(name, value);
    }
    Ok(reply)
}

/// The records a request is about.
fn choose<'a>(source: &'a Source, request: &SimRequest) -> Result<&'a Dataset, String> {
    match source {
        Source::One(data) => Ok(data),
        Source::By { param, sets } => {
            let value = request
                .param(param)
                .ok_or_else(|| format!("parameter {param} is missing"))?;
            sets.iter()
                .find(|(key, _)| *key == value)
                .map(|(_, data)| data.as_ref())
                .ok_or_else(|| format!("parameter {param} has no such value"))
        }
    }
}

/// The place of the first record asked for.
fn start(
    listing: &Listing,
    data: &Dataset,
    request: &SimRequest,
    size: usize,
) -> Result<usize, String> {
    let by_page = |param: &str, first: u64| {
        let page = number(request, param)?.unwrap_or(first);
        let passed = page
            .checked_sub(first)
            .ok_or_else(|| format!("parameter {param} is too small"))?;
        Ok(usize::try_from(passed)
            .unwrap_or(usize::MAX)
            .saturating_mul(size))
    };
    match &listing.paging {
        Paging::Whole => Ok(0),
        Paging::Page { param, start, .. } => by_page(param, *start),
        Paging::NextUrl { param, .. } | Paging::Link { param } => by_page(param, 1),
        Paging::Offset { param, .. } => {
            Ok(number(request, param)?.map_or(0, |at| usize::try_from(at).unwrap_or(usize::MAX)))
        }
        Paging::Token { param, .. } => match request.param(param) {
            None => Ok(0),
            Some(token) if token.is_empty() => Ok(0),
            Some(token) => {
                untoken(&token).ok_or_else(|| format!("parameter {param} is no token of ours"))
            }
        },
        Paging::Keyset { param } => match request.param(param) {
            None => Ok(0),
            Some(text) => text
                .parse()
                .map(|key| data.after_key(key))
                .map_err(|_| format!("parameter {param} is no id")),
        },
    }
}

/// Puts totals, tokens and links where the paging style has them.
fn tell(
    listing: &Listing,
    request: &SimRequest,
    all: usize,
    size: usize,
    to: usize,
    out: &mut Places,
) {
    let more = to < all;
    let last_page = all.div_ceil(size).max(1);
    let next_page = to / size + 1;
    match &listing.paging {
        Paging::Whole | Paging::Keyset { .. } => {}
        Paging::Page {
            start, total, last, ..
        } => {
            if let Some(place) = total {
                out.put(place, Node::Json(all.to_string()));
            }
            if let Some(place) = last {
                let number = last_page as u64 - 1 + start;
                out.put(place, Node::Json(number.to_string()));
            }
        }
        Paging::Offset { total, .. } => {
            if let Some(place) = total {
                out.put(place, Node::Json(all.to_string()));
            }
        }
        Paging::Token { next, end, .. } => {
            out.put_next(next, more.then(|| token(to)), *end);
        }
        Paging::NextUrl {
            param,
            next,
            absolute,
            end,
        } => {
            let url = more.then(|| {
                let target = request.target_with(param, &next_page.to_string());
                if *absolute {
                    format!("{}{target}", request.origin)
                } else {
                    target
                }
            });
            out.put_next(next, url, *end);
        }
        Paging::Link { param } => {
            let link = |page: usize, rel: &str| {
                let target = request.target_with(param, &page.to_string());
                format!("<{}{target}>; rel=\"{rel}\"", request.origin)
            };
            let mut links = Vec::new();
            if more {
                links.push(link(next_page, "next"));
            }
            links.push(link(last_page, "last"));
            links.push(link(1, "first"));
            out.headers.push(("link".to_owned(), links.join(", ")));
        }
    }
}

fn number(request: &SimRequest, param: &str) -> Result<Option<u64>, String> {
    request
        .param(param)
        .map(|text| {
            text.parse()
                .map_err(|_| format!("parameter {param} is no number"))
        })
        .transpose()
}

const TOKEN_MASK: u64 = 0x5bd1_e995_27d4_eb2f;

/// A token that says nothing and must be percent-encoded in a query to come back whole.
fn token(at: usize) -> String {
    format!("c+/{:016x}==", at as u64 ^ TOKEN_MASK)
}

fn untoken(text: &str) -> Option<usize> {
    let hex = text.strip_prefix("c+/")?.strip_suffix("==")?;
    usize::try_from(u64::from_str_radix(hex, 16).ok()? ^ TOKEN_MASK).ok()
}

/// What goes where in an answer.
#[derive(Default)]
struct Places {
    headers: Vec<(String, String)>,
    body: Tree,
}

impl Places {
    fn put(&mut self, place: &str, node: Node) {
        match (place.strip_prefix("header:"), node) {
            (Some(name), Node::Json(json)) => {
                let text = serde_json::from_str::<String>(&json).unwrap_or(json);
                self.headers.push((name.to_owned(), text));
            }
            (_, node) => self.body.put(place, node),
        }
    }

    fn put_next(&mut self, place: &str, next: Option<String>, end: End) {
        let json = match (next, end) {
            (Some(text), _) => serde_json::Value::from(text).to_string(),
            (None, End::Absent) => return,
            (None, End::Null) => "null".to_owned(),
            (None, End::Empty) => "\"\"".to_owned(),
        };
        self.put(place, Node::Json(json));
    }
}

/// A JSON object under construction whose leaves are already JSON.
#[derive(Default)]
struct Tree(Vec<(String, Node)>);

enum Node {
    Json(String),
    Rows(Bytes),
    Tree(Tree),
}

impl Tree {
    fn put(&mut self, dotted: &str, node: Node) {
        let Some((key, rest)) = dotted.split_once('.') else {
            self.0.push((dotted.to_owned(), node));
            return;
        };
        for (name, inner) in &mut self.0 {
            if let (true, Node::Tree(tree)) = (name == key, inner) {
                tree.put(rest, node);
                return;
            }
        }
        let mut tree = Self::default();
        tree.put(rest, node);
        self.0.push((key.to_owned(), Node::Tree(tree)));
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (at, (key, node)) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(serde_json::Value::from(key.as_str()).to_string().as_bytes());
            out.push(b':');
            node.write(out);
        }
        out.push(b'}');
    }
}

impl Node {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Json(json) => out.extend_from_slice(json.as_bytes()),
            Self::Rows(rows) => {
                out.push(b'[');
                out.extend_from_slice(rows);
                out.push(b']');
            }
            Self::Tree(tree) => tree.write(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use http::{HeaderMap, Method};

    fn five() -> Dataset {
        Dataset::from_texts((1..=5).map(|n| format!(r#"{{"id":{}}}"#, n * 10)))
    }

    fn get(listing: &Listing, target: &str) -> SimReply {
        ask(listing, Method::GET, target, "")
    }

    fn ask(listing: &Listing, method: Method, target: &str, body: &'static str) -> SimReply {
        let request = SimRequest::new(
            Clock::system().now(),
            method,
            "http://a.test",
            target,
            HeaderMap::new(),
            Bytes::from_static(body.as_bytes()),
        );
        render(listing, &request)
    }

    #[test]
    fn pages_by_number_tell_total_and_last() {
        let mut listing = Listing::new(five(), Paging::page_total("meta.total")).size(2);
        assert_eq!(
            get(&listing, "/x?page=3").body,
            r#"{"data":[{"id":50}],"meta":{"total":5}}"#
        );
        assert_eq!(
            get(&listing, "/x?page=4").body,
            r#"{"data":[],"meta":{"total":5}}"#
        );
        assert_eq!(get(&listing, "/x?page=0").status, 400);
        assert_eq!(get(&listing, "/x?page=z").status, 400);
        listing.paging = Paging::page_last("header:x-pages");
        let reply = get(&listing.bare(), "/x?per_page=1");
        assert_eq!(reply.body, r#"[{"id":10}]"#);
        assert_eq!(reply.headers["x-pages"], "5");
    }

    #[test]
    fn offset_and_keyset_pass_over_records() {
        let offset = Listing::new(five(), Paging::offset_total("count"));
        assert_eq!(
            get(&offset, "/x?offset=3&limit=1").body,
            r#"{"data":[{"id":40}],"count":5}"#
        );
        let keyset = Listing::new(five(), Paging::keyset()).size(2).bare();
        assert_eq!(get(&keyset, "/x").body, r#"[{"id":10},{"id":20}]"#);
        assert_eq!(get(&keyset, "/x?after=40").body, r#"[{"id":50}]"#);
        assert_eq!(get(&keyset, "/x?after=50").body, "[]");
    }

    #[test]
    fn tokens_lead_through_every_record_and_end_as_told() {
        for (end, mark) in [
            (End::Absent, None),
            (End::Null, Some(serde_json::Value::Null)),
            (End::Empty, Some("".into())),
        ] {
            let listing = Listing::new(five(), Paging::token_in_body(end)).size(2);
            let mut body = "{}".to_owned();
            let mut seen = Vec::new();
            let last = loop {
                let reply = ask(&listing, Method::POST, "/x", body.leak());
                let page: serde_json::Value = serde_json::from_slice(&reply.body).expect("json");
                seen.extend(page["data"].as_array().expect("list").clone());
                match page.pointer("/paging/next/after") {
                    Some(serde_json::Value::String(next)) if !next.is_empty() => {
                        body = serde_json::json!({ "after": next }).to_string();
                    }
                    other => break other.cloned(),
                }
            };
            assert_eq!((seen.len(), last), (5, mark));
        }
        let query = Listing::new(five(), Paging::token(End::Null));
        assert_eq!(get(&query, "/x?cursor=made-up").status, 400);
    }

    #[test]
    fn links_and_urls_keep_the_other_parameters() {
        let link = Listing::new(five(), Paging::link()).size(2).bare();
        let reply = get(&link, "/x?q=1");
        let header = reply.headers["link"].to_str().expect("text");
        assert!(header.starts_with("<http://a.test/x?q=1&page=2>; rel=\"next\", "));
        let last = get(&link, "/x?q=1&page=3");
        assert!(
            !last.headers["link"]
                .to_str()
                .expect("text")
                .contains("next")
        );
        let url = Listing::new(five(), Paging::next_url(false, End::Null)).size(4);
        let page: serde_json::Value =
            serde_json::from_slice(&get(&url, "/x?page=1&q=1").body).expect("json");
        assert_eq!(page["next"], "/x?page=2&q=1");
    }

    #[test]
    fn sets_are_chosen_by_a_parameter() {
        let listing = Listing::new(
            Source::By {
                param: "section".into(),
                sets: vec![("a".into(), five().into_arc())],
            },
            Paging::Whole,
        );
        assert_eq!(get(&listing, "/x?section=a").status, 200);
        assert_eq!(get(&listing, "/x?section=b").status, 400);
        assert_eq!(get(&listing, "/x").status, 400);
    }

    impl Dataset {
        fn into_arc(self) -> std::sync::Arc<Self> {
            std::sync::Arc::new(self)
        }
    }
}
