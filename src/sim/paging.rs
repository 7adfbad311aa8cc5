//! The paging styles of the pretend API: how pages are asked for and how the next one is told.
//!
//! Names of parameters and places are read as in `rules`.

/// How pages are asked for and found.
#[derive(Debug, Clone)]
pub enum Paging {
    /// The whole list at once.
    Whole,
    /// By page number.
    Page {
        /// Parameter with the number.
        param: String,
        /// The first number.
        start: u64,
        /// Place of the count of all records.
        total: Option<String>,
        /// Place of the last page's number.
        last: Option<String>,
    },
    /// By the number of records to pass over.
    Offset {
        /// Parameter with the offset.
        param: String,
        /// Place of the count of all records.
        total: Option<String>,
    },
    /// By an opaque token.
    Token {
        /// Parameter with the token.
        param: String,
        /// Place of the next one.
        next: String,
        /// How the last page shows that it is the last.
        end: End,
    },
    /// By a URL in the body.
    NextUrl {
        /// Parameter of that URL with the page number.
        param: String,
        /// Place of the URL.
        next: String,
        /// Whether it has scheme and host.
        absolute: bool,
        /// How the last page shows that it is the last.
        end: End,
    },
    /// By `Link: <…>; rel="next"` (RFC 8288).
    Link {
        /// Parameter of the links with the page number.
        param: String,
    },
    /// By the id of the last record seen.
    Keyset {
        /// Parameter with the id; records with a greater one are served.
        param: String,
    },
}

/// How the last page shows that it is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The place is not there.
    Absent,
    /// It is null.
    Null,
    /// It is an empty text.
    Empty,
}

impl Paging {
    /// The parameter that says which page is wanted.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Whole => None,
            Self::Page { param, .. }
            | Self::Offset { param, .. }
            | Self::Token { param, .. }
            | Self::NextUrl { param, .. }
            | Self::Link { param }
            | Self::Keyset { param } => Some(param),
        }
    }

    /// `page` from 1, nothing told about the end.
    pub fn page() -> Self {
        Self::Page {
            param: "page".to_owned(),
            start: 1,
            total: None,
            last: None,
        }
    }

    /// `page` from 1, with the count of all records at a place.
    pub fn page_total(total: &str) -> Self {
        Self::Page {
            param: "page".to_owned(),
            start: 1,
            total: Some(total.to_owned()),
            last: None,
        }
    }

    /// `page` from 1, with the last page's number at a place.
    pub fn page_last(last: &str) -> Self {
        Self::Page {
            param: "page".to_owned(),
            start: 1,
            total: None,
            last: Some(last.to_owned()),
        }
    }

    /// `offset`, nothing told about the end.
    pub fn offset() -> Self {
        Self::Offset {
            param: "offset".to_owned(),
            total: None,
        }
    }

    /// `offset`, with the count of all records at a place.
    pub fn offset_total(total: &str) -> Self {
        Self::Offset {
            param: "offset".to_owned(),
            total: Some(total.to_owned()),
        }
    }

    /// `cursor`, the next one at `next_cursor`.
    pub fn token(end: End) -> Self {
        Self::Token {
            param: "cursor".to_owned(),
            next: "next_cursor".to_owned(),
            end,
        }
    }

    /// `body.after` in a JSON body, the next one at `paging.next.after` (as `HubSpot` does).
    pub fn token_in_body(end: End) -> Self {
        Self::Token {
            param: "body.after".to_owned(),
            next: "paging.next.after".to_owned(),
            end,
        }
    }

    /// A URL at `next`.
    pub fn next_url(absolute: bool, end: End) -> Self {
        Self::NextUrl {
            param: "page".to_owned(),
            next: "next".to_owned(),
            absolute,
            end,
        }
    }

    /// Links with `page`.
    pub fn link() -> Self {
        Self::Link {
            param: "page".to_owned(),
        }
    }

    /// `after`, an id.
    pub fn keyset() -> Self {
        Self::Keyset {
            param: "after".to_owned(),
        }
    }
}
