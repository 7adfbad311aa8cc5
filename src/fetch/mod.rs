//! One request: transport, redirects, bodies with caps.

pub mod agent;
pub mod body;
pub mod hint;
pub mod link;
pub mod redirect;
pub mod transport;
