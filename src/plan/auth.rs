//! How to authenticate, checked: credentials that last, and how one is had that does not.

use std::time::Duration;

use super::language::Template;
use super::paging::TokenFrom;
use super::request::{RequestPlan, TreeTemplate};

/// How to authenticate; a credential that renders empty is not sent.
#[derive(Debug)]
pub enum AuthPlan {
    /// No credential.
    None,
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer(Template),
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// User name.
        user: Template,
        /// Password; may be empty.
        password: Template,
    },
    /// Headers of the API's own.
    Header(Vec<(http::HeaderName, Template)>),
    /// Query parameters; kept out of every message.
    Query(Vec<(String, Template)>),
    /// A token that is had first, and does not last.
    Token(Box<TokenPlan>),
}

/// A token that does not last.
#[derive(Debug)]
pub struct TokenPlan {
    /// How it is had.
    pub from: TokenSource,
    /// How it is sent; its templates see `token`. Never [`AuthPlan::Token`].
    pub carry: AuthPlan,
    /// Whether the file says how it is sent: then the server need not call it a bearer token.
    pub carry_said: bool,
}

/// How a token is had.
#[derive(Debug)]
pub enum TokenSource {
    /// For the client's own id and secret (RFC 6749, section 4.4).
    ClientCredentials(GrantPlan),
    /// For a refresh token (RFC 6749, section 6).
    RefreshToken {
        /// Where, and who asks.
        grant: GrantPlan,
        /// The first refresh token.
        token: Template,
    },
    /// For a signed statement (RFC 7523, section 2.1).
    Assertion {
        /// What is signed.
        jwt: JwtPlan,
        /// Where it is sent.
        grant: GrantPlan,
    },
    /// A signed statement that is sent itself.
    Signed(JwtPlan),
    /// For a request of the API's own.
    Login(LoginPlan),
}

/// A call of a token endpoint, as far as all grants are alike.
#[derive(Debug)]
pub struct GrantPlan {
    /// The token endpoint.
    pub url: Template,
    /// The client's id and secret, where it shows them.
    pub client: Option<(Template, Option<Template>)>,
    /// Where they go.
    pub place: ClientPlace,
    /// What the token may do.
    pub scope: Option<Template>,
    /// Whom it is for.
    pub audience: Option<Template>,
    /// More members of the form.
    pub form: Vec<(String, TreeTemplate)>,
}

/// Where a client's id and secret go (RFC 6749, section 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientPlace {
    /// The header `Authorization: Basic …`.
    Basic,
    /// The form.
    Body,
}

/// A signed statement (RFC 7519).
#[derive(Debug)]
pub struct JwtPlan {
    /// The key.
    pub key: KeyFrom,
    /// How it is signed.
    pub alg: Alg,
    /// The key's id.
    pub kid: Option<Template>,
    /// Who says it.
    pub iss: Option<Template>,
    /// About whom.
    pub sub: Option<Template>,
    /// For whom.
    pub aud: Option<Template>,
    /// What is asked for.
    pub scope: Option<Template>,
    /// How long it holds.
    pub lifetime: Duration,
    /// More claims.
    pub claims: Vec<(String, TreeTemplate)>,
}

/// Where a key comes from.
#[derive(Debug)]
pub enum KeyFrom {
    /// Its text.
    Text(Template),
    /// A file, relative to the project.
    File(Template),
}

/// How a statement is signed (RFC 7518, section 3.1; RFC 8037, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

impl Alg {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
    ];

    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.name() == name)
    }
}

/// A request that answers with a token.
#[derive(Debug)]
pub struct LoginPlan {
    /// What is asked.
    pub request: RequestPlan,
    /// The credential of this request alone.
    pub auth: LoginAuth,
    /// Where the token is in the answer.
    pub token: TokenFrom,
    /// How long it holds.
    pub expires: Expiry,
}

/// The credential of a login.
#[derive(Debug)]
pub enum LoginAuth {
    /// One that lasts, or none. Never [`AuthPlan::Token`].
    Plain(AuthPlan),
    /// A signed statement, sent as a bearer.
    Signed(Box<JwtPlan>),
}

/// How long a token holds.
#[derive(Debug)]
pub enum Expiry {
    /// Until it is refused.
    Untold,
    /// For so long.
    After(Duration),
    /// As the answer says: seconds, or an instant.
    Told(TokenFrom),
}
