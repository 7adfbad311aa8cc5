//! A page that was fetched and understood, on its way to be kept.

use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::budget::Reservation;
use crate::harvest::answer::large::Large;
use crate::records::page::Page;

/// A page that was fetched and understood.
#[derive(Debug)]
pub(in crate::harvest) struct Fetched {
    /// Its records and what it says about the next page.
    pub(in crate::harvest) page: Page,
    /// What its records are read from, where the page holds the last of them alone.
    pub(in crate::harvest) large: Option<Large>,
    /// Its records after `transform`, if there is one; paging goes by those that the API gave.
    pub(in crate::harvest) transformed: Option<Page>,
    /// Status of the answer.
    pub(in crate::harvest) status: StatusCode,
    /// Headers of the answer.
    pub(in crate::harvest) headers: HeaderMap,
    /// The body, decompressed; empty where nobody reads it any more.
    pub(in crate::harvest) body: BytesMut,
    /// Bytes of the body.
    pub(in crate::harvest) size: usize,
    /// Where it came from at last, after redirects; without credentials.
    pub(in crate::harvest) url: Url,
    /// Whether a rule said that no page follows.
    pub(in crate::harvest) last: bool,
    /// From sent to the body's end.
    pub(in crate::harvest) took: Duration,
    /// Held until the page is on disk.
    pub(in crate::harvest) reservation: Reservation,
}
