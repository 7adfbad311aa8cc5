//! How the next page is found: the paging styles as checked values.

use super::language::Template;
use super::path::Path;
use super::request::Slot;

/// What asks for the next page.
#[derive(Debug)]
pub enum Paging {
    /// One page. Where `pages` was left out, an answer that shows another page is an error.
    None {
        /// Whether `pages: none` was written.
        declared: bool,
    },
    /// `Link: <…>; rel="next"` (RFC 8288).
    Link,
    /// A URL in the body.
    Next(Path),
    /// A page number.
    Page {
        /// Where the number goes.
        to: Slot,
        /// The first number.
        start: i64,
        /// The parameter that holds the page size.
        size: Option<Slot>,
        /// Where a page says how many records there are.
        total: Option<Path>,
        /// Where a page says what the last page number is.
        last: Option<Path>,
    },
    /// A number of records to pass over.
    Offset {
        /// Where the offset goes.
        to: Slot,
        /// The first offset.
        start: i64,
        /// The parameter that holds the page size; without, the count of the first page.
        size: Option<Slot>,
        /// Where a page says how many records there are.
        total: Option<Path>,
    },
    /// An opaque token.
    Token {
        /// Where a page gives the next one.
        from: TokenFrom,
        /// Where it goes.
        to: Slot,
        /// What the first page sends.
        start: Option<Template>,
    },
    /// A value of the last record.
    Keyset {
        /// Path in the last record.
        field: Path,
        /// Where it goes.
        to: Slot,
        /// Added to it (integers only).
        add: Option<i64>,
        /// The parameter that holds the page size; a shorter page is the last.
        size: Option<Slot>,
    },
    /// An object whose members go into the query of the next request, in place of those of the
    /// same name: the `continue` of `MediaWiki`.
    Merge(Path),
}

impl Paging {
    /// Whether each page is asked for with what the one before gave: a token, a URL, a value.
    pub fn is_led(&self) -> bool {
        matches!(
            self,
            Self::Link | Self::Next(_) | Self::Token { .. } | Self::Keyset { .. } | Self::Merge(_)
        )
    }

    /// Whether each page itself says where the next one is, so that none is asked for that is not there.
    pub fn names_next(&self) -> bool {
        self.is_led() && !matches!(self, Self::Keyset { .. })
    }
}

/// Where a page gives the next token.
#[derive(Debug)]
pub enum TokenFrom {
    /// In the body.
    Body(Path),
    /// In a header.
    Header(http::HeaderName),
}
