//! A fingerprint of what a namespace's owner consented to.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::keys::is_chaos_key;

/// SHA-256, in hexadecimal, of the sorted chaos keys and values of a namespace, `halt` left out. Keys and values are written with
/// their lengths, so that no two different sets are the same bytes.
#[must_use]
pub fn digest(annotations: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for (key, value) in annotations.iter().filter(|(key, _)| is_chaos_key(key)) {
        for word in [key, value] {
            hash.update((word.len() as u64).to_be_bytes());
            hash.update(word.as_bytes());
        }
    }
    hex(&hash.finalize())
}

/// Bytes as lower-case hexadecimal.
#[must_use]
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> String {
        digest(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn it_follows_the_chaos_keys_and_nothing_else() {
        let consent = of(&[("chaos", "yes"), ("purechaos.dev/limit", "1")]);
        let same =
            of(&[("chaos", "yes"), ("purechaos.dev/limit", "1"), ("team", "a"), ("purechaos.dev/halt", "x")]);
        assert_eq!(consent, same);
        assert_ne!(consent, of(&[("chaos", "yes"), ("purechaos.dev/limit", "2")]));
        assert_ne!(consent, of(&[("chaos", "yes")]));
        assert_ne!(of(&[("chaos", "yes")]), of(&[("chaos", "ye"), ("purechaos.dev/s", "")]));
    }

    #[test]
    fn it_stays_what_stored_records_hold() {
        assert_eq!(
            of(&[("chaos", "yes")]),
            "00d58856315f20bebe251a43e596a5aadab6f9bb9eec2c3134308a3469708b43"
        );
    }
}
