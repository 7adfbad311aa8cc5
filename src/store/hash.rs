//! Hashes that are written to disk: the same in every version and on every machine.

use std::hash::Hasher;

/// A hash of a sequence of texts, for fingerprints of requests and of what a pipeline asks.
///
/// SipHash-2-4 with the key 0. Not a secret-keeper: never give it a secret alone.
#[expect(
    deprecated,
    reason = "the algorithm must not change; std's other hashers may"
)]
pub fn stable(texts: &[&str]) -> u64 {
    let mut hasher = std::hash::SipHasher::new_with_keys(0, 0);
    for text in texts {
        // With their lengths, so that "ab","c" is not "a","bc".
        hasher.write(&(text.len() as u64).to_le_bytes());
        hasher.write(text.as_bytes());
    }
    hasher.finish()
}

/// As 16 hexadecimal digits: JSON readers round large numbers.
pub(super) mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(in crate::store) fn serialize<S: Serializer>(
        value: &u64,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:016x}"))
    }

    /// Reads.
    pub(in crate::store) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_on_disk_never_changes() {
        assert_eq!(stable(&["GET", "/items"]), 0xc6cb_82c8_4150_c653);
        assert_ne!(stable(&["ab", "c"]), stable(&["a", "bc"]));
    }
}
