//! `source.auth`: the credential, and how one is had that does not last, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;
use super::choice::{ScalarOr, Table};
use super::stream::BodySpec;
use super::tree::Tree;

/// How to authenticate.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthSpec {
    /// No credential.
    None,
    /// `Authorization: Bearer …`.
    Bearer(At<String>),
    /// `Authorization: Basic …`.
    Basic(BasicSpec),
    /// Headers of the API's own.
    Header(Table<At<String>>),
    /// Query parameters; kept out of every message.
    Query(Table<At<String>>),
    /// A token from an OAuth 2 server (RFC 6749).
    Oauth2(Box<At<OauthSpec>>),
    /// A signed statement (RFC 7519): sent itself, or exchanged for a token (RFC 7523).
    Jwt(Box<At<JwtSpec>>),
    /// A request of the API's own that answers with a token.
    Login(Box<At<LoginSpec>>),
}

/// User and password.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicSpec {
    /// User name.
    pub user: At<String>,
    /// Password; empty if left out.
    pub password: Option<At<String>>,
}

/// What an OAuth 2 server gives a token for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OauthSpec {
    /// The client's own id and secret (RFC 6749, section 4.4).
    ClientCredentials(ClientSpec),
    /// A refresh token (RFC 6749, section 6); one that changes is kept.
    RefreshToken(RefreshSpec),
}

/// A client that asks for itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientSpec {
    /// The token endpoint.
    pub url: At<String>,
    /// The client's id.
    pub id: At<String>,
    /// The client's secret.
    pub secret: At<String>,
    /// What the token may do, as the API names it.
    pub scope: Option<At<String>>,
    /// Whom the token is for, where the server asks.
    pub audience: Option<At<String>>,
    /// Where id and secret go; default `basic`.
    #[serde(rename = "in")]
    pub place: Option<At<ClientPlaceSpec>>,
    /// More members of the form that is sent.
    pub form: Option<Table<Tree>>,
    /// How the token is sent; default `bearer`.
    #[serde(rename = "as")]
    pub carry: Option<CarrySpec>,
}

/// A client that somebody gave a refresh token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshSpec {
    /// The token endpoint.
    pub url: At<String>,
    /// The client's id.
    pub id: At<String>,
    /// The client's secret; public clients have none.
    pub secret: Option<At<String>>,
    /// The first refresh token; a later one is kept in the user's state folder.
    pub token: At<String>,
    /// What the token may do, as the API names it.
    pub scope: Option<At<String>>,
    /// Where id and secret go; default `basic`, and `body` without a secret.
    #[serde(rename = "in")]
    pub place: Option<At<ClientPlaceSpec>>,
    /// More members of the form that is sent.
    pub form: Option<Table<Tree>>,
    /// How the token is sent; default `bearer`.
    #[serde(rename = "as")]
    pub carry: Option<CarrySpec>,
}

/// Where a client's id and secret go.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ClientPlaceSpec {
    /// The header `Authorization: Basic …`.
    Basic,
    /// The form: `client_id` and `client_secret`.
    Body,
}

/// A signed statement.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtSpec {
    /// The private key: PEM, or a service account's whole JSON key. For HS algorithms the secret itself.
    pub key: Option<At<String>>,
    /// A file with it, relative to the project, in place of `key`.
    pub key_file: Option<At<String>>,
    /// RS256 (default), RS384, RS512, PS256, PS384, PS512, ES256, ES384, `EdDSA`, HS256, HS384 or HS512.
    pub alg: Option<At<String>>,
    /// The key's id, for the header.
    pub kid: Option<At<String>>,
    /// Who says it; a JSON key's `client_email` if left out.
    pub iss: Option<At<String>>,
    /// About whom.
    pub sub: Option<At<String>>,
    /// For whom; `url` if left out.
    pub aud: Option<At<String>>,
    /// What is asked for, as the API names it.
    pub scope: Option<At<String>>,
    /// How long it holds; default 10min.
    pub lifetime: Option<At<String>>,
    /// More claims.
    pub claims: Option<Table<Tree>>,
    /// The token endpoint that takes it (RFC 7523); left out, it is sent itself.
    pub url: Option<At<String>>,
    /// More members of the form that is sent to `url`.
    pub form: Option<Table<Tree>>,
    /// How the token is sent; default `bearer`.
    #[serde(rename = "as")]
    pub carry: Option<CarrySpec>,
}

/// A request that answers with a token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginSpec {
    /// Path appended to `source.url`, or an absolute URL.
    pub post: Option<At<String>>,
    /// The same, asked with GET.
    pub get: Option<At<String>>,
    /// Parameters.
    pub query: Option<Table<Tree>>,
    /// Headers.
    pub headers: Option<Table<At<String>>>,
    /// What a `post` carries.
    pub body: Option<At<BodySpec>>,
    /// The credential of this request alone.
    pub auth: Option<At<LoginAuthSpec>>,
    /// Path of the token in the answer, or `headers.NAME`.
    pub token: At<String>,
    /// How long the token holds: `30min`, or the path of seconds or of an instant; left out, until it
    /// is refused.
    pub expires: Option<At<String>>,
    /// How the token is sent; default `bearer`.
    #[serde(rename = "as")]
    pub carry: Option<CarrySpec>,
}

/// The credential of a login.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoginAuthSpec {
    /// `Authorization: Bearer …`.
    Bearer(At<String>),
    /// `Authorization: Basic …`.
    Basic(BasicSpec),
    /// Headers of the API's own.
    Header(Table<At<String>>),
    /// Query parameters; kept out of every message.
    Query(Table<At<String>>),
    /// A signed statement, sent itself.
    Jwt(Box<At<JwtSpec>>),
}

/// How a token is sent: `bearer`, or where its text goes.
pub type CarrySpec = At<ScalarOr<CarryWord, CarryPlaceSpec>>;

/// How a token is sent, in one word.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CarryWord {
    /// `Authorization: Bearer …`.
    Bearer,
}

/// Where a token goes; its templates see `token`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CarryPlaceSpec {
    /// `Authorization: Bearer …`.
    Bearer(At<String>),
    /// `Authorization: Basic …`.
    Basic(BasicSpec),
    /// Headers of the API's own.
    Header(Table<At<String>>),
    /// Query parameters; kept out of every message.
    Query(Table<At<String>>),
}
