//! One request: transport, redirects, bodies with caps.
//!
//! Nothing here waits on purpose, tries again, or opens a second connection by itself: a redirect
//! is a decision handed back ([`redirect::next_hop`]), and whether credentials go along is judged
//! by origin ([`origin::Policy`]) before they are attached ([`credentials::Credentials`]).

pub mod agent;
pub mod archive;
pub mod body;
pub mod buffers;
pub mod client;
pub mod credentials;
mod encoding;
pub mod grant;
pub mod jwt;
pub mod large;
pub mod link;
pub mod origin;
pub mod reach;
pub mod record;
pub mod redirect;
pub mod replay;
pub mod room;
pub mod signals;
pub mod tape;
pub mod transport;
