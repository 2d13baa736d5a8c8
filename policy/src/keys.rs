//! Every annotation, label and object name that this project writes or reads, in one place.

/// The opt-in annotation of a namespace.
pub const CHAOS: &str = "chaos";
/// The one value of [`CHAOS`] that opts in.
pub const YES: &str = "yes";
/// Prefix of all other annotations of this project.
pub const PREFIX: &str = "purechaos.dev/";
/// On a namespace: no kill there; on [`SYSTEM_NAMESPACE`]: no kill anywhere. Its presence counts, whatever the value.
pub const HALT: &str = "purechaos.dev/halt";

/// On a Pod: `true` leaves it alone.
pub const EXCLUDE: &str = "purechaos.dev/exclude";

/// The namespace that Pure Chaos itself runs in.
pub const SYSTEM_NAMESPACE: &str = "pure-chaos";
/// Name of the record in each namespace that has one.
pub const RECORD: &str = "chaos";
/// Name of the RoleBinding that gives the agent its rights in an eligible namespace, and of the ClusterRole it binds.
pub const AGENT_BINDING: &str = "pure-chaos-agent";

/// Whether a key is ours, or would be but for its case: the API server takes `PureChaos.dev/dry-run` as well, and whoever writes that must
/// not get a kill for it.
#[must_use]
pub fn is_ours(key: &str) -> bool {
    key.eq_ignore_ascii_case(CHAOS) || word(key).is_some()
}

/// Whether a key is one that consent is made of: all of ours, but for [`HALT`], which only ever narrows it.
#[must_use]
pub fn is_chaos_key(key: &str) -> bool {
    key != HALT && is_ours(key)
}

/// What follows our prefix, in whatever case that is written.
#[must_use]
pub fn word(key: &str) -> Option<&str> {
    let (prefix, word) = key.split_at_checked(PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_makes_no_key_somebody_elses() {
        for (key, expected) in [
            ("chaos", true),
            ("Chaos", true),
            ("purechaos.dev/limit", true),
            ("PureChaos.dev/limit", true),
            ("purechaos.dev/Halt", true),
            ("purechaos.dev/halt", false),
            ("chaosx", false),
            ("purechaos.develop/limit", false),
            ("purechaos.dé/limit", false),
        ] {
            assert_eq!(is_chaos_key(key), expected, "{key}");
        }
    }
}
