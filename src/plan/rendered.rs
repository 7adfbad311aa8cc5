//! A request for one partition, and how each of its pages is made from it: everything but the
//! page is decided. Templates are behind us; here values are put into slots.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use url::Url;
use url::form_urlencoded;

use super::json::Json;
use super::path::{Path, Step};
use super::place::Place;
use super::request::{Slot, header_value};

/// A value that paging puts into a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Param {
    /// A number.
    Number(i64),
    /// Text; into a body it goes as a JSON string.
    Text(String),
    /// JSON text as the API wrote it (a token from the body); into a URL it goes unquoted.
    Json(String),
}

/// Which page of a partition is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// The request as rendered.
    First,
    /// The request with one value set.
    With(Slot, Param),
    /// The request with parameters of its query set.
    Query(Vec<(String, String)>),
    /// An absolute URL that the server named; query and path are replaced, headers stay.
    Url(Url),
}

/// A request for one partition: everything but the page is decided.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// `GET` or `POST`.
    pub method: Method,
    /// Without credentials.
    pub url: Url,
    /// Without credentials.
    pub headers: HeaderMap,
    /// The body's bytes before paging.
    pub body: Option<Bytes>,
}

/// A request that cannot be rendered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct RenderProblem {
    /// What went wrong, and in which template.
    pub message: String,
    /// Where that stands in the pipeline file, if it is known.
    pub place: Option<Arc<Place>>,
}

impl RenderProblem {
    pub(super) fn new(key: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self {
            message: format!("{key}: {cause}"),
            place: None,
        }
    }
}

impl Rendered {
    /// The request of one page.
    pub fn page(&self, turn: &Turn) -> Result<Rendered, RenderProblem> {
        let mut page = self.clone();
        match turn {
            Turn::First => {}
            Turn::With(Slot::Query(name), param) => {
                let value = param.text("query", name)?;
                let query = with_pair(page.url.query().unwrap_or_default(), name, &value);
                page.url.set_query(Some(&query));
            }
            Turn::With(Slot::Header(name), param) => {
                let value = header_value(name, &param.text("headers", name)?)?;
                page.headers.insert(name, value);
            }
            Turn::With(Slot::Body(path), param) => page.set_in_body(path, param)?,
            Turn::Query(pairs) => {
                let mut query = page.url.query().unwrap_or_default().to_owned();
                for (name, value) in pairs {
                    query = with_pair(&query, name, value);
                }
                page.url.set_query((!query.is_empty()).then_some(&query));
            }
            Turn::Url(url) => {
                check(url).map_err(|problem| RenderProblem::new("the next page", problem))?;
                page.url = url.clone();
                page.url.set_fragment(None);
            }
        }
        Ok(page)
    }

    fn set_in_body(&mut self, path: &Path, param: &Param) -> Result<(), RenderProblem> {
        let problem = |cause: String| RenderProblem::new(format!("body.{path}"), cause);
        let body = self.body_text();
        if self.is_form() {
            let value = param.text("body", path)?;
            let form = with_pair(body.unwrap_or_default(), &form_name(path), &value);
            self.body = Some(form.into());
            return Ok(());
        }
        let mut json = match body {
            None => Json::Null,
            Some(text) => Json::parse(text)
                .map_err(|_| problem("the request's body is not JSON".to_owned()))?,
        };
        json.set(path, param.json().map_err(problem)?)
            .map_err(problem)?;
        self.body = Some(json.to_string().into());
        if !self.headers.contains_key(CONTENT_TYPE) {
            let content_type = HeaderValue::from_static("application/json");
            self.headers.insert(CONTENT_TYPE, content_type);
        }
        Ok(())
    }

    /// What `slot` holds in the request, as text: the page size, say.
    pub fn get(&self, slot: &Slot) -> Option<String> {
        match slot {
            Slot::Query(name) => pair(self.url.query()?, name),
            Slot::Header(name) => Some(self.headers.get(name)?.to_str().ok()?.to_owned()),
            Slot::Body(path) if self.is_form() => pair(self.body_text()?, &form_name(path)),
            Slot::Body(path) => match Json::parse(self.body_text()?).ok()?.at(path)? {
                Json::Null => None,
                json => Some(json.spelled()),
            },
        }
    }

    /// A 64-bit hash of method, URL and body, for loop guards and the index.
    ///
    /// It is the same on every machine and in every version (FNV-1a): it is kept on disk.
    pub fn fingerprint(&self) -> u64 {
        let body = self.body.as_deref().unwrap_or_default();
        self.hashed(self.url.as_str(), body)
    }

    /// [`Self::fingerprint`] of what `hide` makes of URL and body: of a request that is the same whatever
    /// the values of its secrets are.
    pub fn fingerprint_hiding(&self, hide: impl Fn(&str) -> String) -> u64 {
        let body = self.body.as_deref().unwrap_or_default();
        let hidden = self.body_text().map(&hide);
        let body = hidden.as_deref().map_or(body, str::as_bytes);
        self.hashed(&hide(self.url.as_str()), body)
    }

    fn hashed(&self, url: &str, body: &[u8]) -> u64 {
        let parts = [self.method.as_str().as_bytes(), url.as_bytes(), body];
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        for part in parts {
            part.iter().copied().for_each(&mut add);
            // Stands in neither a method nor a URL, so parts cannot run into one another.
            add(0xff);
        }
        hash
    }

    fn body_text(&self) -> Option<&str> {
        std::str::from_utf8(self.body.as_deref()?).ok()
    }

    fn is_form(&self) -> bool {
        self.headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                let media_type = value.split(';').next().unwrap_or_default().trim();
                media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
            })
    }
}

impl Param {
    /// As it goes into a URL or a header.
    fn text(&self, part: &str, name: impl fmt::Display) -> Result<String, RenderProblem> {
        match self {
            Self::Number(number) => Ok(number.to_string()),
            Self::Text(text) => Ok(text.clone()),
            Self::Json(json) => Json::parse(json)
                .map(|json| json.spelled())
                .map_err(|problem| RenderProblem::new(format!("{part}.{name}"), problem)),
        }
    }

    fn json(&self) -> Result<Json, String> {
        match self {
            Self::Number(number) => Ok(Json::Number(number.to_string())),
            Self::Text(text) => Ok(Json::Text(text.clone())),
            Self::Json(json) => Json::parse(json),
        }
    }
}

/// Whether a URL may be asked at all.
pub(super) fn check(url: &Url) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "only http and https URLs are fetched, not `{}:`",
            url.scheme()
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL holds a user name or password; use `auth`".to_owned());
    }
    Ok(())
}

/// A query with `name` set in the place of its first use, or at the end; the other parameters
/// keep their bytes, because servers sign and compare them.
fn with_pair(query: &str, name: &str, value: &str) -> String {
    let mut changed = String::with_capacity(query.len() + name.len() + value.len() + 2);
    let mut is_set = false;
    let mut push = |written: &str, is_ours: bool| {
        if is_ours && is_set {
            return;
        }
        if !changed.is_empty() {
            changed.push('&');
        }
        if is_ours {
            is_set = true;
            changed.extend(form_urlencoded::byte_serialize(name.as_bytes()));
            changed.push('=');
            changed.extend(form_urlencoded::byte_serialize(value.as_bytes()));
        } else {
            changed.push_str(written);
        }
    };
    for written in query.split('&').filter(|written| !written.is_empty()) {
        push(written, pair(written, name).is_some());
    }
    push("", true);
    changed
}

/// The value of the first parameter of that name.
fn pair(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.into_owned())
}

/// A form has no levels: its names are the path as written, without quotes.
pub(super) fn form_name(path: &Path) -> String {
    let mut name = String::new();
    for (index, step) in path.steps.iter().enumerate() {
        if index > 0 {
            name.push('.');
        }
        match step {
            Step::Key(key) => name.push_str(key),
            Step::All => name.push('*'),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str, body: Option<&'static str>) -> Rendered {
        Rendered {
            method: Method::GET,
            url: Url::parse(url).unwrap(),
            headers: HeaderMap::new(),
            body: body.map(|text| Bytes::from_static(text.as_bytes())),
        }
    }

    fn query(name: &str) -> Slot {
        Slot::Query(name.to_owned())
    }

    fn body(path: &str) -> Slot {
        Slot::Body(Path::parse(path).unwrap())
    }

    #[test]
    fn a_query_parameter_is_set_in_its_place() {
        let first = request("https://x.example/a?b=%20x&page=1&c=d+e&page=2", None);
        let page = |slot, param| {
            first
                .page(&Turn::With(slot, param))
                .unwrap()
                .url
                .to_string()
        };
        assert_eq!(
            page(query("page"), Param::Number(7)),
            "https://x.example/a?b=%20x&page=7&c=d+e"
        );
        assert_eq!(
            page(query("t[0]"), Param::Json("\"a=b\"".to_owned())),
            "https://x.example/a?b=%20x&page=1&c=d+e&page=2&t%5B0%5D=a%3Db"
        );
        assert_eq!(
            page(
                query("b"),
                Param::Json("1234567890123456789012345".to_owned())
            ),
            "https://x.example/a?b=1234567890123456789012345&page=1&c=d+e&page=2"
        );
        assert_eq!(first.get(&query("c")).as_deref(), Some("d e"));
        assert_eq!(first.get(&query("gone")), None);
        let bare = request("https://x.example/", None);
        let page = bare
            .page(&Turn::With(query("p"), Param::Text("a b".to_owned())))
            .unwrap();
        assert_eq!(page.url.as_str(), "https://x.example/?p=a+b");
    }

    #[test]
    fn a_body_changes_in_one_place() {
        let first = request(
            "https://x.example/",
            Some(r#"{"price":1.10,"page":{"size":100}}"#),
        );
        let turn = Turn::With(body("page.after"), Param::Json("[1,2.50]".to_owned()));
        let page = first.page(&turn).unwrap();
        assert_eq!(
            page.body.as_ref().unwrap(),
            r#"{"price":1.10,"page":{"size":100,"after":[1,2.50]}}"#
        );
        assert_eq!(page.get(&body("page.size")).as_deref(), Some("100"));
        assert!(
            first
                .page(&Turn::With(body("price.x"), Param::Number(1)))
                .is_err()
        );
        let text = request("https://x.example/", Some("not json"));
        let problem = text
            .page(&Turn::With(body("a"), Param::Number(1)))
            .unwrap_err();
        assert_eq!(problem.message, "body.a: the request's body is not JSON");

        let mut form = request("https://x.example/", Some("a=1&b=2"));
        let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        form.headers.insert(CONTENT_TYPE, content_type);
        let page = form
            .page(&Turn::With(body("a"), Param::Text("x y".to_owned())))
            .unwrap();
        assert_eq!(page.body.as_ref().unwrap(), "a=x+y&b=2");
        assert_eq!(page.get(&body("b")).as_deref(), Some("2"));
    }

    #[test]
    fn headers_and_urls() {
        let first = request("https://x.example/a", None);
        let slot = Slot::Header(http::HeaderName::from_static("x-next"));
        let page = first
            .page(&Turn::With(slot.clone(), Param::Text("t1".to_owned())))
            .unwrap();
        assert_eq!(page.get(&slot).as_deref(), Some("t1"));
        assert!(
            first
                .page(&Turn::With(slot, Param::Text("a\nb".to_owned())))
                .is_err()
        );
        let next = Url::parse("https://x.example/a?p=2#x").unwrap();
        let page = first.page(&Turn::Url(next)).unwrap();
        assert_eq!(page.url.as_str(), "https://x.example/a?p=2");
        let other = Url::parse("ftp://x.example/").unwrap();
        assert!(first.page(&Turn::Url(other)).is_err());
    }

    #[test]
    fn the_fingerprint_is_stable_and_tells_requests_apart() {
        let one = request("https://x.example/a", None);
        assert_eq!(one.fingerprint(), one.clone().fingerprint());
        // Kept on disk, so this figure may never change.
        assert_eq!(one.fingerprint(), 1_592_749_489_890_277_099);
        let two = request("https://x.example/a", Some("{}"));
        let three = one.page(&Turn::With(query("p"), Param::Number(1))).unwrap();
        assert_ne!(one.fingerprint(), two.fingerprint());
        assert_ne!(one.fingerprint(), three.fingerprint());
    }
}
