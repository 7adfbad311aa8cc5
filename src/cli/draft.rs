//! The text of a new pipeline file, with comments that say what to look at next.

use std::fmt::Write;

use clap::ValueEnum;
use url::Url;

/// How an API pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Pages {
    /// Not known yet: a run stops where an answer tells of more
    Unknown,
    /// One page is all
    None,
    /// A Link header with rel=next
    Link,
    /// A URL in the body
    Next,
    /// A page number
    Page,
    /// A number of records to pass over
    Offset,
    /// A token or cursor in the body
    Token,
    /// A value of the last record
    Keyset,
}

/// How an API wants to know who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Auth {
    /// Not at all
    None,
    /// Authorization: Bearer TOKEN
    Bearer,
    /// A header of its own: X-Api-Key: TOKEN
    Header,
    #[expect(clippy::doc_markdown, reason = "clap shows it as written")]
    /// A query parameter: api_key=TOKEN
    Query,
    /// A user name and a password
    Basic,
}

/// The format of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Comma-separated values, RFC 4180
    Csv,
    /// One JSON object a line, as the API wrote it
    Ndjson,
}

/// Everything that is known about the new pipeline.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) records: Option<String>,
    pub(super) pages: Pages,
    pub(super) limit: Option<String>,
    pub(super) contact: Option<String>,
    pub(super) auth: Auth,
    pub(super) format: Format,
}

/// Where to ask, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The base URL.
    pub(super) base: String,
    /// The path after it.
    pub(super) get: String,
    /// Parameters, in order.
    pub(super) query: Vec<(String, String)>,
    /// A parameter that looked like a credential; its value is not kept.
    pub(super) credential: Option<String>,
}

/// Names under which APIs are told at which page of a list to begin, in small letters, and how those page that have them.
const PLACES: [(&str, Pages); 14] = [
    ("page", Pages::Page),
    ("page_number", Pages::Page),
    ("pagenumber", Pages::Page),
    ("offset", Pages::Offset),
    ("cursor", Pages::Token),
    ("next_cursor", Pages::Token),
    ("page_token", Pages::Token),
    ("pagetoken", Pages::Token),
    ("next_token", Pages::Token),
    ("nexttoken", Pages::Token),
    ("next_page_token", Pages::Token),
    ("nextpagetoken", Pages::Token),
    ("continuation_token", Pages::Token),
    ("starting_after", Pages::Keyset),
];

/// Names under which APIs take credentials in the query.
const CREDENTIALS: [&str; 9] = [
    "api_key",
    "apikey",
    "api-key",
    "key",
    "token",
    "access_token",
    "auth",
    "secret",
    "appid",
];

impl Place {
    /// Takes a URL apart; `get`, where given, is what follows the base.
    pub(super) fn read(url: &str, get: Option<&str>) -> Result<Self, String> {
        let whole = if url.contains("://") {
            url.to_owned()
        } else {
            format!("https://{url}")
        };
        let parsed = Url::parse(&whole).map_err(|error| format!("`{url}` is no URL: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
            return Err(format!("`{url}` is no http or https URL"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("a URL must not hold a password; use --auth basic".to_owned());
        }
        let origin = parsed.origin().ascii_serialization();
        let (base, path) = match get {
            None => (origin, parsed.path().to_owned()),
            Some(get) => (
                format!("{origin}{}", parsed.path().trim_end_matches('/')),
                format!("/{}", get.trim_start_matches('/')),
            ),
        };
        let (get, written) = path.split_once('?').unwrap_or((path.as_str(), ""));
        let mut place = Self {
            base,
            get: get.to_owned(),
            query: Vec::new(),
            credential: None,
        };
        let pairs = url::form_urlencoded::parse(written.as_bytes());
        for (name, value) in parsed.query_pairs().chain(pairs) {
            if CREDENTIALS.contains(&name.to_ascii_lowercase().as_str()) {
                place.credential = Some(name.into_owned());
            } else {
                place.query.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(place)
    }

    /// A name for the pipeline: the host without what hosts have in common.
    pub(super) fn name(&self) -> String {
        let host = Url::parse(&self.base)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned));
        let host = host.unwrap_or_default();
        if host.parse::<std::net::IpAddr>().is_ok() {
            return "local".to_owned();
        }
        let parts: Vec<&str> = host.split('.').collect();
        let part = match parts.as_slice() {
            [.., name, _top] => name,
            [name] => name,
            [] => "api",
        };
        identifier(part, "api")
    }

    /// How its parameters look like it pages.
    pub(super) fn pages(&self) -> Pages {
        let mut styles = [Pages::Page, Pages::Offset].into_iter();
        let style = styles.find(|style| self.told(*style).is_some());
        style.unwrap_or(Pages::Unknown)
    }

    /// The parameter that says where in a list to begin, for an API that pages so.
    fn told(&self, style: Pages) -> Option<&(String, String)> {
        let mut all = self.query.iter();
        all.find(|(name, value)| begins(name, value) == Some(style))
    }

    /// A name for the stream: the last part of the path that is a word.
    fn stream(&self) -> String {
        let parts = self.get.split('/').rev();
        let mut words = parts.filter(|part| part.starts_with(|c: char| c.is_ascii_alphabetic()));
        let word = words.next().unwrap_or_default();
        identifier(word.split('.').next().unwrap_or_default(), "items")
    }
}

/// How an API pages that is told by this parameter where in a list to begin. `page=Rust` names an article.
fn begins(name: &str, value: &str) -> Option<Pages> {
    let name = name.to_ascii_lowercase();
    let (_, style) = PLACES.into_iter().find(|(known, _)| *known == name)?;
    let counts = matches!(style, Pages::Page | Pages::Offset);
    (!counts || value.parse::<u64>().is_ok()).then_some(style)
}

impl Draft {
    /// The file.
    pub(super) fn yaml(&self) -> String {
        let mut out = String::new();
        let stream = self.place.stream();
        self.head(&mut out);
        self.source(&mut out);
        self.stream(&mut out, &stream);
        let ending = match self.format {
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
        };
        let _ = write!(
            out,
            "\n# One file a stream; it is replaced when a run is complete, and not before.\n\
             sink:\n  {ending}: data/{}/{{{{ stream }}}}.{ending}\n",
            self.name
        );
        out
    }

    fn head(&self, out: &mut String) {
        let about = format!("Records of {}.", self.place.base);
        let _ = write!(
            out,
            "# yaml-language-server: $schema=pipeline.schema.json\n\
             #\n\
             # gleaner check {name}     all mistakes of this file, offline\n\
             # gleaner preview {name}   the first page of each stream\n\
             # gleaner run {name}       everything\n\
             about: {}\n",
            scalar(&about),
            name = self.name
        );
    }

    fn source(&self, out: &mut String) {
        let _ = write!(out, "\nsource:\n  url: {}\n", scalar(&self.place.base));
        match &self.contact {
            Some(contact) => {
                let _ = writeln!(out, "  contact: {}", scalar(contact));
            }
            None => out.push_str(
                "  # contact: you@example.org  # sent with every request: many APIs ask for it\n",
            ),
        }
        out.push_str(&self.credential());
        match &self.limit {
            Some(limit) => {
                let limits: Vec<String> = limit.split(',').map(|one| scalar(one.trim())).collect();
                let written = if limit.trim() == "none" {
                    "none".to_owned()
                } else {
                    format!("[{}]", limits.join(", "))
                };
                let _ = write!(out, "  # What the API allows; a run never exceeds it.\n  limits: {written}\n");
            }
            None => out.push_str(
                "  # A guess: look up what the API allows (as 5000/h, 80/min or 1/3s) and write it here.\n  \
                 limits: [1/s]\n",
            ),
        }
    }

    fn credential(&self) -> String {
        let secret = |what: &str| format!("\"{{{{ secret.{}_{what} }}}}\"", constant(&self.name));
        let parameter = self.place.credential.as_deref().unwrap_or("api_key");
        let auth = match self.auth {
            Auth::None => return String::new(),
            Auth::Bearer => format!("{{ bearer: {} }}", secret("TOKEN")),
            Auth::Header => format!("{{ header: {{ X-Api-Key: {} }} }}", secret("TOKEN")),
            Auth::Query => format!(
                "{{ query: {{ {}: {} }} }}",
                scalar(parameter),
                secret("TOKEN")
            ),
            Auth::Basic => {
                format!(
                    "{{ basic: {{ user: {}, password: {} }} }}",
                    secret("USER"),
                    secret("PASSWORD")
                )
            }
        };
        format!(
            "  # From the environment or from a .env file beside pipelines/; never printed.\n  auth: {auth}\n"
        )
    }

    fn stream(&self, out: &mut String, stream: &str) {
        let _ = write!(
            out,
            "\nstreams:\n  {stream}:\n    get: {}\n",
            scalar(&self.place.get)
        );
        let mut query = self.place.query.clone();
        let told = self.place.told(self.pages);
        let to = |usual: &str| told.map_or(usual, |(name, _)| name.as_str()).to_owned();
        let (pages, why, parameter) = match self.pages {
            Pages::Unknown => (
                "link".to_owned(),
                "How the API pages, where it does. Without, a run stops where an answer tells of more:\n    \
                 # link, { next: PATH }, { page: { to: page } }, { offset: { to: offset, size: limit } },\n    \
                 # { token: { from: PATH, to: cursor } }, { keyset: { field: id, to: after } }, or none.",
                None,
            ),
            Pages::None => ("none".to_owned(), "One page is all there is.", None),
            Pages::Link => (
                "link".to_owned(),
                "The next page is named by a Link header.",
                None,
            ),
            Pages::Next => (
                "{ next: next }".to_owned(),
                "Where the body holds the URL of the next page.",
                None,
            ),
            Pages::Page => (
                // Some APIs count from 0, and where one was asked for page 0 it does.
                match told {
                    Some((name, first)) if first.parse() == Ok(0) => {
                        format!("{{ page: {{ to: {}, start: 0 }} }}", scalar(name))
                    }
                    _ => format!("{{ page: {{ to: {} }} }}", scalar(&to("page"))),
                },
                "`to` is the parameter of the page number. If the answer tells how many records there\n    \
                 # are, add `total: PATH` and `size: PARAMETER`: pages are then fetched side by side.",
                Some(to("page")),
            ),
            Pages::Offset => (
                format!(
                    "{{ offset: {{ to: {}, size: limit }} }}",
                    scalar(&to("offset"))
                ),
                "`to` is the parameter of the offset, `size` the one of the page size.",
                Some(to("offset")),
            ),
            Pages::Token => (
                format!(
                    "{{ token: {{ from: next_cursor, to: {} }} }}",
                    scalar(&to("cursor"))
                ),
                "`from` is where the body holds the next token, `to` the parameter that takes it.",
                Some(to("cursor")),
            ),
            Pages::Keyset => (
                format!(
                    "{{ keyset: {{ field: id, to: {} }} }}",
                    scalar(&to("after"))
                ),
                "`field` of the last record goes into the parameter `to`.",
                Some(to("after")),
            ),
        };
        // What paging sets must not be set beside it, and the first page is in the middle of no list.
        query.retain(|(name, _)| Some(name) != parameter.as_ref());
        if self.pages != Pages::None {
            query.retain(|(name, value)| begins(name, value).is_none());
        }
        if self.pages == Pages::Offset && !query.iter().any(|(name, _)| name == "limit") {
            query.push(("limit".to_owned(), "100".to_owned()));
        }
        if !query.is_empty() {
            out.push_str("    query:\n");
            for (name, value) in &query {
                let _ = writeln!(out, "      {}: {}", scalar(name), scalar(value));
            }
        }
        let unsaid = if self.pages == Pages::Unknown {
            "# "
        } else {
            ""
        };
        let _ = write!(out, "    # {why}\n    {unsaid}pages: {pages}\n");
        match &self.records {
            Some(path) => {
                let _ = writeln!(out, "    records: {}", scalar(path));
            }
            None => out.push_str(
                "    # records: data  # where the list is, if not at the top\n    \
                 # format: csv    # where answers are no JSON: ndjson, csv, xml, text\n",
            ),
        }
        out.push_str(
            "    # key: id         # what identifies a record; repeats are dropped\n    \
             # columns:        # without, every field becomes a column\n    \
             #   id:\n    \
             #   author: user.login\n    \
             #   created_at: { type: timestamp }  # `gleaner preview NAME --columns` drafts all of them\n",
        );
    }
}

/// Letters, digits and underscores, in small letters.
pub(super) fn identifier(text: &str, otherwise: &str) -> String {
    let letters = text.chars().map(|c| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    });
    let name: String = letters.collect();
    let name = name.trim_matches('_');
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.to_owned()
    } else {
        otherwise.to_owned()
    }
}

fn constant(name: &str) -> String {
    identifier(name, "api").to_ascii_uppercase()
}

/// Text as a YAML scalar: plain where that is beyond doubt, else quoted as JSON, which YAML reads.
pub(super) fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-+@: %=".contains(c))
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if plain {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_middle_of_a_list_is_not_kept() {
        let url = "https://api.example.com/v1/items?state=all&page=2&pageToken=xyz&Cursor=xyz&after=2024-01-01";
        for pages in [
            Pages::Unknown,
            Pages::Link,
            Pages::Page,
            Pages::Offset,
            Pages::Token,
        ] {
            let place = Place::read(url, None).unwrap();
            let draft = Draft {
                name: place.name(),
                place,
                records: None,
                pages,
                limit: None,
                contact: None,
                auth: Auth::None,
                format: Format::Csv,
            };
            let yaml = draft.yaml();
            assert!(
                yaml.contains("state: all") && yaml.contains("after: 2024-01-01"),
                "{yaml}"
            );
            assert!(
                !yaml.contains("xyz") && !yaml.contains("page: \"2\"") && !yaml.contains("page: 2"),
                "{yaml}"
            );
        }
    }

    #[test]
    fn the_parameter_that_a_url_has_is_the_one_that_pages() {
        for (query, pages, written, kept) in [
            (
                "pageNumber=2",
                Pages::Page,
                "{ page: { to: pageNumber } }",
                "",
            ),
            (
                "page=0",
                Pages::Page,
                "{ page: { to: page, start: 0 } }",
                "",
            ),
            ("page=Rust", Pages::Unknown, "pages: link", "page: Rust"),
            (
                "page=Rust&offset=50",
                Pages::Offset,
                "{ offset: { to: offset, size: limit } }",
                "page: Rust",
            ),
            (
                "page_token=abc",
                Pages::Token,
                "{ token: { from: next_cursor, to: page_token } }",
                "",
            ),
            (
                "starting_after=7",
                Pages::Keyset,
                "{ keyset: { field: id, to: starting_after } }",
                "",
            ),
            ("x=1", Pages::Token, "to: cursor", "x: 1"),
        ] {
            let url = format!("https://api.example.com/items?{query}");
            let place = Place::read(&url, None).unwrap();
            let draft = Draft {
                name: place.name(),
                place,
                records: None,
                pages,
                limit: None,
                contact: None,
                auth: Auth::None,
                format: Format::Csv,
            };
            let yaml = draft.yaml();
            assert!(
                yaml.contains(written) && yaml.contains(kept),
                "{query}: {yaml}"
            );
            for dropped in ["abc", "starting_after: ", "page: 0", "pageNumber: "] {
                assert!(!yaml.contains(dropped), "{query}: {yaml}");
            }
        }
    }

    #[test]
    fn a_url_is_taken_apart_and_its_credential_is_not_kept() {
        let place = Place::read(
            "https://api.example.com/v1/users/42/orders.json?state=all&api_key=hush&page=3",
            None,
        )
        .unwrap();
        assert_eq!(
            (place.name().as_str(), place.stream().as_str()),
            ("example", "orders")
        );
        let draft = Draft {
            name: place.name(),
            place,
            records: Some("data".to_owned()),
            pages: Pages::Page,
            limit: Some("80/min, 5000/h".to_owned()),
            contact: None,
            auth: Auth::Query,
            format: Format::Csv,
        };
        assert!(!draft.yaml().contains("hush"));
        insta::assert_snapshot!(draft.yaml(), @r#"
        # yaml-language-server: $schema=pipeline.schema.json
        #
        # gleaner check example     all mistakes of this file, offline
        # gleaner preview example   the first page of each stream
        # gleaner run example       everything
        about: Records of https://api.example.com.

        source:
          url: https://api.example.com
          # contact: you@example.org  # sent with every request: many APIs ask for it
          # From the environment or from a .env file beside pipelines/; never printed.
          auth: { query: { api_key: "{{ secret.EXAMPLE_TOKEN }}" } }
          # What the API allows; a run never exceeds it.
          limits: [80/min, 5000/h]

        streams:
          orders:
            get: /v1/users/42/orders.json
            query:
              state: all
            # `to` is the parameter of the page number. If the answer tells how many records there
            # are, add `total: PATH` and `size: PARAMETER`: pages are then fetched side by side.
            pages: { page: { to: page } }
            records: data
            # key: id         # what identifies a record; repeats are dropped
            # columns:        # without, every field becomes a column
            #   id:
            #   author: user.login
            #   created_at: { type: timestamp }  # `gleaner preview NAME --columns` drafts all of them

        # One file a stream; it is replaced when a run is complete, and not before.
        sink:
          csv: data/example/{{ stream }}.csv
        "#);
    }

    #[test]
    fn a_base_and_a_path_stay_apart() {
        let place = Place::read("api.example.com/v2/", Some("items?limit=5")).unwrap();
        assert_eq!(place.base, "https://api.example.com/v2");
        assert_eq!(place.get, "/items");
        assert_eq!(place.query, [("limit".to_owned(), "5".to_owned())]);
        assert_eq!(place.pages(), Pages::Unknown);
        let paged = |url: &str| Place::read(url, None).unwrap().pages();
        assert_eq!(paged("https://x.org/items?page=2"), Pages::Page);
        assert_eq!(paged("https://x.org/items?offset=0&limit=9"), Pages::Offset);
        assert_eq!(paged("https://x.org/items?pageNumber=2"), Pages::Page);
        assert_eq!(paged("https://x.org/w/api.php?page=Rust"), Pages::Unknown);
        assert!(Place::read("ftp://x.org", None).is_err());
        assert!(Place::read("https://me:pw@x.org", None).is_err());
    }

    #[test]
    fn scalars_survive_yaml() {
        for (text, written) in [
            ("/items", "/items"),
            ("no", "\"no\""),
            ("a: b", "\"a: b\""),
            ("{{ x }}", "\"{{ x }}\""),
            ("say \"hi\"", "\"say \\\"hi\\\"\""),
            ("", "\"\""),
        ] {
            assert_eq!(scalar(text), written);
        }
    }
}
