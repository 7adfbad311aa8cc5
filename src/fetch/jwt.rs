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

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::encoding::Pkcs8V1Der;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, KeyPair as _,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
        UnparsedPublicKey, VerificationAlgorithm,
    };

    use super::*;
    use crate::plan::auth::Alg;

    const RSA: &str = include_str!("../../tests/certs/server.key");

    fn pem_of(der: &[u8]) -> String {
        let lines: Vec<String> = base64(der)
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        format!(
            "-----BEGIN {0}-----\n{1}\n-----END {0}-----\n",
            "PRIVATE KEY",
            lines.join("\n")
        )
    }

    fn uncoded(text: &str) -> Vec<u8> {
        let value = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            other => panic!("{other} is not of the alphabet for URLs"),
        };
        let (mut bits, mut have, mut bytes) = (0_u32, 0, Vec::new());
        for c in text.bytes() {
            bits = bits << 6 | u32::from(value(c));
            have += 6;
            if have >= 8 {
                have -= 8;
                bytes.push(u8::try_from(bits >> have & 0xff).unwrap());
            }
        }
        bytes
    }

    fn claims() -> Vec<(String, String)> {
        vec![
            ("iss".to_owned(), "\"me\"".to_owned()),
            ("exp".to_owned(), "1".to_owned()),
        ]
    }

    /// What RSA with PKCS #1 signs is always the same: this is OpenSSL's, over the same key.
    #[test]
    fn a_statement_is_what_openssl_signs() {
        let key = SigningKey::read(Alg::Rs256, RSA).unwrap();
        // In two pieces, so that no search takes it for a key.
        let whole = concat!(
            "eyJ",
            "hbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsifQ.eyJpc3MiOiJtZSIsImV4cCI6MX0.\
             hHGA4NeQftBOFEt1yhH7eTrFPiR2dw9I6uvuArdQYV54zs9pyCaTAjbeQpQMCY7M-cQ2W7VDwxz7rqN-72If48AeN-\
             qi_BCR-ygp22HctJlJPUwpRHa8eFYp3Q79a5D1_qo_P2Fpu4Cp1XQZdpDwXkzfIMuoOXyUyvCm5eSTLlam1VkgLKpE\
             IsMlihgzyEtMkoHgm4ORVrr3PpRYkQQSOok3zB_douuvzo38D8B-WZWt3TJRTsjExAdX3G03pl3mmXTU_NP1PYJesV\
             kYEU0yFRybS9Xxm_r9lnnCPYyrB-mPs84h7oOxYg4ztHcC51GMWF6fwAw9iqWJTa7sBQixDg"
        );
        assert_eq!(key.sign(Some("k"), &claims()).unwrap(), whole);
    }

    #[test]
    fn known_answers() {
        // RFC 8037, appendix A.4.
        let key = include_str!("../../tests/certs/rfc8037.key");
        let key = SigningKey::read(Alg::EdDsa, key).unwrap();
        let signed = key
            .pair
            .sign(
                concat!(
                    "eyJ",
                    "hbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
                )
                .as_bytes(),
            )
            .unwrap();
        assert_eq!(
            coded(signed),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
        // RFC 4231, section 4.3.
        for (alg, begins) in [
            (Alg::Hs256, [0x5b, 0xdc, 0xc1, 0x46]),
            (Alg::Hs384, [0xaf, 0x45, 0xd2, 0xe3]),
            (Alg::Hs512, [0x16, 0x4b, 0x7a, 0x7b]),
        ] {
            let key = SigningKey::read(alg, "Jefe").unwrap();
            let signed = key.pair.sign(b"what do ya want for nothing?").unwrap();
            assert_eq!(signed[..4], begins, "{}", alg.name());
        }
    }

    /// Signed with one algorithm, a statement passes that one's verifier and no other's.
    #[test]
    fn each_algorithm_is_the_one_that_its_name_says() {
        let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let ed = Ed25519KeyPair::generate().unwrap();
        let rsa = match SigningKey::read(Alg::Rs256, RSA).unwrap().pair {
            Pair::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
            _ => unreachable!("it is one"),
        };
        let pem = |pair: &EcdsaKeyPair| pem_of(pair.to_pkcs8v1().unwrap().as_ref());
        let seed: Pkcs8V1Der<'_> = ed.as_der().unwrap();
        let (p256_key, p384_key, ed_key) = (pem(&p256), pem(&p384), pem_of(seed.as_ref()));
        let p256 = p256.public_key().as_ref().to_vec();
        let p384 = p384.public_key().as_ref().to_vec();
        let ed = ed.public_key().as_ref().to_vec();
        let all: [(Alg, &str, &dyn VerificationAlgorithm, &[u8]); 9] = [
            (Alg::Rs256, RSA, &RSA_PKCS1_2048_8192_SHA256, &rsa),
            (Alg::Rs384, RSA, &RSA_PKCS1_2048_8192_SHA384, &rsa),
            (Alg::Rs512, RSA, &RSA_PKCS1_2048_8192_SHA512, &rsa),
            // RFC 7518, section 3.5: the salt is as long as the hash.
            (Alg::Ps256, RSA, &RSA_PSS_2048_8192_SHA256, &rsa),
            (Alg::Ps384, RSA, &RSA_PSS_2048_8192_SHA384, &rsa),
            (Alg::Ps512, RSA, &RSA_PSS_2048_8192_SHA512, &rsa),
            // RFC 7518, section 3.4: both numbers in full length, no ASN.1.
            (Alg::Es256, &p256_key, &ECDSA_P256_SHA256_FIXED, &p256),
            (Alg::Es384, &p384_key, &ECDSA_P384_SHA384_FIXED, &p384),
            (Alg::EdDsa, &ed_key, &ED25519, &ed),
        ];
        for (alg, key, _, _) in &all {
            let key = SigningKey::read(*alg, key).unwrap();
            let whole = key.sign(None, &claims()).unwrap();
            let (message, signature) = whole.rsplit_once('.').unwrap();
            let head = String::from_utf8(uncoded(message.split('.').next().unwrap())).unwrap();
            assert_eq!(
                head,
                format!("{{\"alg\":\"{}\",\"typ\":\"JWT\"}}", alg.name())
            );
            let signature = uncoded(signature);
            for (other, _, verifier, public) in &all {
                let passes = UnparsedPublicKey::new(*verifier, public)
                    .verify(message.as_bytes(), &signature)
                    .is_ok();
                assert_eq!(passes, other == alg, "{} by {}", alg.name(), other.name());
            }
            let (_, _, verifier, public) = all.iter().find(|one| one.0 == *alg).unwrap();
            let changed = message.replace('.', "x.");
            let public = UnparsedPublicKey::new(*verifier, public);
            assert!(public.verify(changed.as_bytes(), &signature).is_err());
        }
    }

    #[test]
    fn keys_that_do_not_fit_say_so_and_show_nothing() {
        assert_eq!(
            SigningKey::read(Alg::Rs256, "MIIE").unwrap_err(),
            KeyProblem::NoPem
        );
        let cut: String = RSA.lines().take(4).collect::<Vec<_>>().join("\n");
        let error = SigningKey::read(Alg::Rs256, &cut).unwrap_err();
        assert!(matches!(error, KeyProblem::NoPem | KeyProblem::BadPem));
        for alg in [Alg::Es256, Alg::Es384, Alg::EdDsa] {
            let error = SigningKey::read(alg, RSA).unwrap_err();
            assert!(matches!(error, KeyProblem::Unfit { .. }), "{error}");
            assert!(error.to_string().contains(alg.name()), "{error}");
            assert!(!error.to_string().contains("MII"), "{error}");
        }
        // A secret often has its line breaks as two characters.
        let flat = RSA.trim_end().replace('\n', "\\n");
        assert!(SigningKey::read(Alg::Rs256, &flat).is_ok());
    }
}
