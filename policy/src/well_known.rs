//! Names of annotations and objects that several crates use, and the rules that recognize a
//! mistyped key.

/// The annotation by which a namespace opts in.
pub const CHAOS: &str = "chaos";
/// The only value of [`CHAOS`] that opts in.
pub const YES: &str = "yes";
/// The prefix of all other annotations of this project.
pub const PREFIX: &str = "purechaos.dev/";
/// [`PREFIX`] without its slash.
const DOMAIN: &str = "purechaos.dev";
/// [`DOMAIN`] without `.dev`.
const NAME: &str = "purechaos";
/// How many letters of a name may be wrong, missing, added or swapped with a neighbour. The name
/// then still counts as a mistyped one.
const SLIP: usize = 1;
/// The length in bytes above which a domain is not compared with ours. No mistyped form is longer.
const LONGEST_DOMAIN: usize = 40;
/// The characters that separate the words of a key.
const SEPARATORS: [char; 3] = ['.', '-', '_'];
/// The annotation that halts kills. On a namespace, it stops all kills there. On
/// [`SYSTEM_NAMESPACE`], it stops all kills everywhere. The annotation halts with any value.
pub const HALT: &str = "purechaos.dev/halt";

/// The annotation or label by which a Pod or its workload asks to be left alone. Any value asks,
/// except a clear no such as `false`. See [`crate::exclusion`].
pub const EXCLUDE: &str = "purechaos.dev/exclude";

/// The namespace that Pure Chaos runs in.
pub const SYSTEM_NAMESPACE: &str = "pure-chaos";
/// The name of the `OptIn` record in each namespace that has one.
pub const RECORD: &str = "chaos";
/// The name of the RoleBinding that gives the agent its rights in an eligible namespace, and of the
/// ClusterRole to which the RoleBinding refers.
pub const AGENT_BINDING: &str = "pure-chaos-agent";
/// Name of the agent's Lease, in namespace [`SYSTEM_NAMESPACE`].
pub const LEASE: &str = "agent";

/// Whether a key is one of Pure Chaos, or a mistyped one. The API server also accepts
/// `PureChaos.dev/dry-run` and `pure-chaos.dev/dry-run`. Somebody who writes such a key expects a
/// dry run, and must not get a kill.
#[must_use]
pub fn is_ours(key: &str) -> bool {
    key.eq_ignore_ascii_case(CHAOS) || word(key).is_some()
}

/// Whether a key is part of a namespace's consent. All keys of Pure Chaos are, except [`HALT`],
/// because a halt can only stop kills.
#[must_use]
pub fn is_chaos_key(key: &str) -> bool {
    key != HALT && is_ours(key)
}

/// The part of a key that follows the prefix of this project. The prefix may be mistyped, if its
/// domain is still near `purechaos.dev`. `None` if the key has no such prefix.
#[must_use]
pub fn word(key: &str) -> Option<&str> {
    match key.split_once('/') {
        Some((domain, word)) => is_near_our_domain(domain).then_some(word),
        // The slash itself is easily mistyped, and the ending is easily forgotten.
        None => [DOMAIN, NAME].into_iter().find_map(|ours| {
            let (domain, rest) = key.split_at_checked(ours.len())?;
            let is_ours =
                domain.eq_ignore_ascii_case(ours) && (rest.is_empty() || rest.starts_with(SEPARATORS));
            is_ours.then(|| rest.trim_start_matches(SEPARATORS))
        }),
    }
}

/// Whether the author of a key may have meant a halt, whatever the prefix of the key is. This is so
/// if the part after the last slash contains `halt` or is one slip away from it.
#[must_use]
pub fn is_near_halt(key: &str) -> bool {
    const WORD: &str = "halt";
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name).to_ascii_lowercase();
    name.contains(WORD)
        || (name.len() <= WORD.len() + SLIP && strsim::damerau_levenshtein(&name, WORD) <= SLIP)
}

/// Whether `domain` is `purechaos.dev`, or a mistyped form of it: in another case, with other
/// separators, with another ending, or with one wrong letter. The domains of other projects, such as
/// `chaos-mesh.org`, are farther away.
fn is_near_our_domain(domain: &str) -> bool {
    // The correct domain needs no comparison. A comparison costs a review more than all other
    // checks of a key.
    if domain == DOMAIN {
        return true;
    }
    if domain.len() > LONGEST_DOMAIN {
        return false;
    }
    // A subdomain, such as `purechaos.example.com`, belongs to the owner of the domain above it, and
    // its name is too long to be near.
    let (name, ending) = domain.rsplit_once('.').unwrap_or((domain, ""));
    is_near_our_name(name) || (ending.is_empty() && is_near_our_name(domain.trim_end_matches("dev")))
}

/// Whether `name` is `purechaos`, in any case, with any separators between its letters, and with at
/// most one [`SLIP`].
fn is_near_our_name(name: &str) -> bool {
    let letters = || {
        let letters = name.chars().filter(|letter| !SEPARATORS.contains(letter));
        letters.map(|letter| letter.to_ascii_lowercase())
    };
    // One slip leaves the beginning or the end as it is. Almost every other name ends here, which
    // costs less than a comparison.
    let is_possible = letters().take(3).eq("pur".chars()) || letters().rev().take(4).eq("soah".chars());
    is_possible && strsim::damerau_levenshtein(&letters().collect::<String>(), NAME) <= SLIP
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
        ] {
            assert_eq!(is_chaos_key(key), expected, "{key}");
        }
    }

    #[test]
    fn what_may_be_meant_for_a_halt() {
        for key in [
            HALT,
            "purechos.dev/halt",
            "halt",
            "Halt",
            "chaos.dev/halt",
            "purechaos.dev/Halt",
            "x/halts",
            "x/hat",
            "x/hlat",
            "x/hallt",
            "purechaos.dev.halt",
            "x/halt-all",
        ] {
            assert!(is_near_halt(key), "{key}");
        }
        for key in [
            "",
            "x/",
            "team",
            "halt.example.com/team",
            "helm.sh/chart",
            "kubernetes.io/metadata.name",
            "app.kubernetes.io/part-of",
            "app.kubernetes.io/managed-by",
            "pod-security.kubernetes.io/audit",
            "kustomize.toolkit.fluxcd.io/ssa",
            "x/what",
            "x/default",
        ] {
            assert!(!is_near_halt(key), "{key}");
        }
    }

    #[test]
    fn a_slip_makes_no_key_somebody_elses_and_nobody_elses_key_ours() {
        for (key, expected) in [
            ("purechaos.dev/limit", Some("limit")),
            ("pure-chaos.dev/halt", Some("halt")),
            ("Pure_Chaos.dev/halt", Some("halt")),
            ("purechaos.io/halt", Some("halt")),
            ("purechaos.develop/limit", Some("limit")),
            ("purechaos.dé/limit", Some("limit")),
            ("purechoas.dev/halt", Some("halt")),
            ("purchaos.dev/halt", Some("halt")),
            ("purechaos/halt", Some("halt")),
            ("pure-chaos-dev/halt", Some("halt")),
            ("purechaos.dev.halt", Some("halt")),
            ("purechaos.dev-halt", Some("halt")),
            ("purechaos.dev", Some("")),
            ("purechaos-exclude", Some("exclude")),
            ("purechaos", Some("")),
            ("pure.chaos.dev/exclude", Some("exclude")),
            ("urechaos.dev/exclude", Some("exclude")),
            ("ourechaos.dev/exclude", Some("exclude")),
            ("xpurechaos.dev/exclude", Some("exclude")),
            ("uprechaos.dev/exclude", Some("exclude")),
            ("purechao.dev/exclude", Some("exclude")),
            ("purecaos.dev/exclude", Some("exclude")),
            ("purcehaos.dev/exclude", Some("exclude")),
            ("purechaosdev/exclude", Some("exclude")),
            ("chaos", None),
            ("chaos-mesh.org/inject", None),
            ("litmuschaos.io/chaos", None),
            ("chaos.alpha.kubernetes.io/enabled", None),
            ("purestorage.com/backend", None),
            ("purechain.io/team", None),
            ("purechaoss.developers", None),
            ("purpose.example.com/team", None),
            ("purechaos.example.com/team", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(word(key), expected, "{key}");
        }
    }
}
