//! A digest of what a namespace's owner agreed to.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::settings::Key;
use crate::well_known::{CHAOS, PREFIX, is_chaos_key};

/// The SHA-256, in hexadecimal, of the chaos keys of a namespace and their values. The keys are
/// sorted, and the halt is left out.
///
/// The length of each key and of each value is hashed before it, so that two different sets never
/// give the same bytes.
#[must_use]
pub fn digest(annotations: &BTreeMap<String, String>) -> String {
    of_keys(annotations, is_chaos_key)
}

/// Like [`digest`], but only of `chaos` and the settings.
///
/// The webhook is certain to review only these keys. Its match condition recognizes fewer mistyped
/// keys than [`is_chaos_key`] does. In a namespace with very many annotations, the match condition
/// knows only `chaos` and the settings.
#[must_use]
pub fn reviewed(annotations: &BTreeMap<String, String>) -> String {
    of_keys(annotations, |key| {
        key == CHAOS || key.strip_prefix(PREFIX).is_some_and(|word| Key::of(word).is_some())
    })
}

fn of_keys(annotations: &BTreeMap<String, String>, is_one: impl Fn(&str) -> bool) -> String {
    let mut hash = Sha256::new();
    for (key, value) in annotations.iter().filter(|(key, _)| is_one(key)) {
        for word in [key, value] {
            hash.update((word.len() as u64).to_be_bytes());
            hash.update(word.as_bytes());
        }
    }
    hex::encode(hash.finalize())
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

    #[test]
    fn only_chaos_and_the_settings_are_sure_to_be_reviewed() {
        let of = |pairs: &[(&str, &str)]| {
            reviewed(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let plain = of(&[("chaos", "yes"), ("purechaos.dev/limit", "1")]);
        for key in
            ["purechos.dev/x", "purechaos.dev/foo", "PureChaos.dev/limit", "Chaos", "purechaos.dev/halt"]
        {
            assert_eq!(of(&[("chaos", "yes"), ("purechaos.dev/limit", "1"), (key, "1")]), plain, "{key}");
        }
        assert_ne!(of(&[("chaos", "yes"), ("purechaos.dev/limit", "2")]), plain);
        assert_ne!(of(&[("purechaos.dev/limit", "1")]), plain);
    }
}
