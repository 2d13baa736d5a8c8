//! Namespaces that cannot opt in.

use crate::well_known::SYSTEM_NAMESPACE;

/// The namespaces that cannot opt in: `kube-*`, `pure-chaos`, `default` unless the platform allows
/// it, and those that match a glob in the platform's policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Protected {
    globs: Vec<String>,
    allow_default: bool,
}

impl Protected {
    /// Adds an entry of the list `protected` in the policy file. `!default` is the only entry that
    /// allows a namespace.
    ///
    /// # Errors
    /// Returns a sentence if the entry is neither `!default` nor a glob of lower-case letters,
    /// digits, `-` and `*`.
    pub fn add(&mut self, entry: &str) -> Result<(), String> {
        let is_glob = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*".contains(&byte);
        if entry == "!default" {
            self.allow_default = true;
        } else if !entry.is_empty() && entry.bytes().all(is_glob) {
            self.globs.push(entry.to_owned());
        } else {
            return Err(format!(
                "{entry:?}: expected the name of a namespace, with `*` as a wildcard, or `!default`"
            ));
        }
        Ok(())
    }

    /// Whether a namespace with this name cannot opt in.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        name.starts_with("kube-")
            || name == SYSTEM_NAMESPACE
            || (name == "default" && !self.allow_default)
            || self.globs.iter().any(|glob| matches(glob, name))
    }
}

fn matches(glob: &str, name: &str) -> bool {
    match glob.split_once('*') {
        None => glob == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).filter(|cut| tail.is_char_boundary(*cut)).any(|cut| matches(rest, &tail[cut..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let cases = [
            ("prod-*", "prod-eu", true),
            ("prod-*", "prod-", true),
            ("prod-*", "preprod-eu", false),
            ("*-prod", "eu-prod", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("*", "anything", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ];
        for (glob, name, expected) in cases {
            let mut protected = Protected::default();
            protected.add(glob).unwrap();
            assert_eq!(protected.covers(name), expected, "{glob} {name}");
        }
        let mut protected = Protected::default();
        assert!(
            protected.add("Prod").is_err() && protected.add("").is_err() && protected.add("!kube-x").is_err()
        );
        protected.add("!default").unwrap();
        assert!(!protected.covers("default"));
    }
}
