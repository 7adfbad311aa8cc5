//! What a run keeps on disk: parts and their index.
//!
//! A [`part::Part`] holds a stream's records as the API sent them, one JSON object a line, pages
//! in order of arrival; the [`index::Index`] says where each page lies, so that publish can read
//! them in canonical order.

pub mod folder;
pub mod index;
pub mod part;
