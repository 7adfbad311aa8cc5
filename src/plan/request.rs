//! What is asked: the request template, and the request rendered for one partition.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use minijinja::Value;
use url::Url;

use super::language::Template;
use super::path::Path;

/// Where in a request a value goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// A query parameter.
    Query(String),
    /// A place in the JSON body.
    Body(Path),
    /// A header.
    Header(HeaderName),
}

/// The request of a stream, with source-wide headers and query already merged in.
#[derive(Debug)]
pub struct RequestPlan {
    /// `get` or `post`.
    pub method: Method,
    /// Path appended to the base URL, or an absolute URL where it begins with a template.
    pub target: Template,
    /// Parameters in order; a value that renders empty is dropped, a list repeats the name.
    pub query: Vec<(String, TreeTemplate)>,
    /// Headers in order; one that renders empty is dropped.
    pub headers: Vec<(HeaderName, Template)>,
    /// What a `post` carries.
    pub body: BodyPlan,
    /// Whether a repeat would act or cost twice.
    pub once: bool,
}

/// What a request carries.
#[derive(Debug)]
pub enum BodyPlan {
    /// Nothing.
    None,
    /// `application/json`.
    Json(TreeTemplate),
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, TreeTemplate)>),
    /// `text/plain`, unless a header says otherwise.
    Text(Template),
}

/// A tree whose scalars may be templates.
#[derive(Debug)]
pub enum TreeTemplate {
    /// A scalar without a template: its JSON text (`null`, `true`, `1.10`, `"x"`) and its spelling.
    Literal {
        /// As JSON text; numbers keep their spelling.
        json: String,
        /// As sent in a URL.
        spelled: String,
    },
    /// A scalar with a template.
    Template(Template),
    /// A list.
    List(Vec<TreeTemplate>),
    /// An object, in order.
    Map(Vec<(String, TreeTemplate)>),
}

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
}

impl RequestPlan {
    /// Renders the request for one partition. `base` is the rendered source URL.
    pub fn render(&self, base: &Url, names: &Value) -> Result<Rendered, RenderProblem> {
        let _ = (base, names);
        todo!()
    }
}

impl Rendered {
    /// The request of one page.
    pub fn page(&self, turn: &Turn) -> Result<Rendered, RenderProblem> {
        let _ = turn;
        todo!()
    }

    /// What `slot` holds in the request, as text: the page size, say.
    pub fn get(&self, slot: &Slot) -> Option<String> {
        let _ = slot;
        todo!()
    }

    /// A 64-bit hash of method, URL and body, for loop guards and the index.
    pub fn fingerprint(&self) -> u64 {
        todo!()
    }
}
