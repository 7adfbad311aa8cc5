//! Signed statements: JSON Web Tokens (RFC 7519) in compact form (RFC 7515, section 7.1).
//!
//! Only made, never checked. The signatures are those of the library that TLS uses, so that no second
//! one is in the program; nothing else imports it.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use serde::Deserialize;

use super::credentials::base64;
use crate::plan::auth::Alg;

/// A key that statements are signed with. Never shows itself.
pub struct SigningKey {
    alg: Alg,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Shared(Box<hmac::Key>),
}

/// A service account's key, in the form that Google gives out.
#[derive(Deserialize)]
pub struct ServiceAccount {
    /// Who signs.
    pub client_email: Option<String>,
    /// The key's id.
    pub private_key_id: Option<String>,
    /// The key, as PEM.
    pub private_key: String,
}

/// Why a key cannot sign; never shows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// No PEM.
    #[error("it holds no private key in PEM form")]
    NoPem,
    /// PEM that is cut short or damaged.
    #[error("its PEM form is damaged; line breaks may have been lost on the way into the secret")]
    BadPem,
    /// JSON of another kind.
    #[error("it is JSON without a `private_key`: not the key of a service account")]
    NoKeyInJson,
    /// A key of another kind.
    #[error("the key is not one for {alg}: {why}")]
    Unfit {
        /// The algorithm.
        alg: &'static str,
        /// What the library said.
        why: String,
    },
    /// It could not sign.
    #[error("signing failed")]
    Unsigned,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.alg.name()).finish()
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServiceAccount")
            .field(&self.client_email)
            .finish()
    }
}

impl ServiceAccount {
    /// Reads one, if `text` is JSON.
    pub fn read(text: &str) -> Option<Result<Self, KeyProblem>> {
        text.trim_start()
            .starts_with('{')
            .then(|| serde_json::from_str(text).map_err(|_| KeyProblem::NoKeyInJson))
    }
}

impl SigningKey {
    /// A key for `alg`: PEM (PKCS #8, PKCS #1 or SEC 1), or the shared secret itself.
    pub fn read(alg: Alg, text: &str) -> Result<Self, KeyProblem> {
        let pair = match alg {
            Alg::Hs256 => shared(hmac::HMAC_SHA256, text),
            Alg::Hs384 => shared(hmac::HMAC_SHA384, text),
            Alg::Hs512 => shared(hmac::HMAC_SHA512, text),
            Alg::Rs256 => rsa(alg, text, &RSA_PKCS1_SHA256)?,
            Alg::Rs384 => rsa(alg, text, &RSA_PKCS1_SHA384)?,
            Alg::Rs512 => rsa(alg, text, &RSA_PKCS1_SHA512)?,
            Alg::Ps256 => rsa(alg, text, &RSA_PSS_SHA256)?,
            Alg::Ps384 => rsa(alg, text, &RSA_PSS_SHA384)?,
            Alg::Ps512 => rsa(alg, text, &RSA_PSS_SHA512)?,
            Alg::Es256 => ec(alg, text, &ECDSA_P256_SHA256_FIXED_SIGNING)?,
            Alg::Es384 => ec(alg, text, &ECDSA_P384_SHA384_FIXED_SIGNING)?,
            Alg::EdDsa => Ed25519KeyPair::from_pkcs8(pem(text)?.secret_der())
                .map(Pair::Ed)
                .map_err(|why| unfit(alg, &why))?,
        };
        Ok(Self { alg, pair })
    }

    /// A statement with these claims, each a name and its JSON.
    pub fn sign(
        &self,
        kid: Option<&str>,
        claims: &[(String, String)],
    ) -> Result<String, KeyProblem> {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut head = vec![
            ("alg".to_owned(), quoted(self.alg.name())),
            ("typ".to_owned(), quoted("JWT")),
        ];
        head.extend(kid.map(|kid| ("kid".to_owned(), quoted(kid))));
        let object = |members: &[(String, String)]| {
            let members: Vec<String> = members
                .iter()
                .map(|(name, json)| format!("{}:{json}", quoted(name)))
                .collect();
            format!("{{{}}}", members.join(","))
        };
        let mut text = format!("{}.{}", coded(object(&head)), coded(object(claims)));
        let signature = self.pair.sign(text.as_bytes())?;
        text.push('.');
        text.push_str(&coded(signature));
        Ok(text)
    }
}

impl Pair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyProblem> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)
                    .map_err(|_| KeyProblem::Unsigned)?;
                Ok(signature)
            }
            Self::Ec(pair) => {
                let signature = pair.sign(&random, message);
                let signature = signature.map_err(|_| KeyProblem::Unsigned)?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Self::Shared(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
        }
    }
}

fn shared(algorithm: hmac::Algorithm, text: &str) -> Pair {
    Pair::Shared(Box::new(hmac::Key::new(algorithm, text.as_bytes())))
}

fn rsa(alg: Alg, text: &str, encoding: &'static dyn RsaEncoding) -> Result<Pair, KeyProblem> {
    let key = pem(text)?;
    let pair = match &key {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        other => RsaKeyPair::from_pkcs8(other.secret_der()),
    };
    pair.map(|pair| Pair::Rsa(pair, encoding))
        .map_err(|why| unfit(alg, &why))
}

fn ec(alg: Alg, text: &str, algorithm: &'static EcdsaSigningAlgorithm) -> Result<Pair, KeyProblem> {
    let key = pem(text)?;
    let pair = match &key {
        PrivateKeyDer::Sec1(der) => {
            EcdsaKeyPair::from_private_key_der(algorithm, der.secret_sec1_der())
        }
        other => EcdsaKeyPair::from_pkcs8(algorithm, other.secret_der()),
    };
    pair.map(Pair::Ec).map_err(|why| unfit(alg, &why))
}

fn unfit(alg: Alg, why: &impl fmt::Display) -> KeyProblem {
    KeyProblem::Unfit {
        alg: alg.name(),
        why: why.to_string(),
    }
}

/// Environments often hold line breaks as two characters.
fn pem(text: &str) -> Result<PrivateKeyDer<'static>, KeyProblem> {
    let broken = text.replace("\\n", "\n");
    PrivateKeyDer::from_pem_slice(broken.as_bytes()).map_err(|error| match error {
        PemError::NoItemsFound => KeyProblem::NoPem,
        _ => KeyProblem::BadPem,
    })
}

/// RFC 7515, section 2: base64 for URLs, without padding.
fn coded(bytes: impl AsRef<[u8]>) -> String {
    let text = base64(bytes.as_ref());
    let text = text.trim_end_matches('=');
    text.replace('+', "-").replace('/', "_")
}
