//! Pods that ask to be left alone. The agent's guards and the webhook's check of each kill both use
//! these rules.

use std::collections::BTreeMap;

use crate::narrowing;
use crate::pod_selector::Targets;
use crate::well_known::{CHAOS, EXCLUDE, word};

/// Keys by which a Pod or its workload asks other systems to leave it alone. The author of such a
/// key expects Pure Chaos to obey it too.
const OTHERS: [(&str, Asks); 4] = [
    // Karpenter reads these two. The value is `true` or a duration. `do-not-evict` is the older
    // name.
    ("karpenter.sh/do-not-disrupt", Asks::UnlessNo),
    ("karpenter.sh/do-not-evict", Asks::UnlessNo),
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", Asks::UnlessYes),
    ("descheduler.alpha.kubernetes.io/prefer-no-eviction", Asks::Always),
];
/// Priority classes of Pods without which a cluster or a node stops working.
const CRITICAL: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

const YES: [&str; 5] = ["true", "yes", "on", "1", "y"];
const NO: [&str; 5] = ["false", "no", "off", "0", "n"];
/// Further values with which `chaos` on a Pod can only mean no.
const NEVER: [&str; 5] = ["disabled", "disable", "never", "none", "deny"];

/// The values with which a key asks. A value that is not understood asks too, because a Pod that
/// lives on by mistake is the lesser harm.
#[derive(Debug, Clone, Copy)]
enum Asks {
    Always,
    UnlessNo,
    UnlessYes,
    IfNo,
}

impl Asks {
    fn with(self, value: &str) -> bool {
        let is_one_of = |words: &[&str]| words.iter().any(|word| value.trim().eq_ignore_ascii_case(word));
        match self {
            Self::Always => true,
            Self::UnlessNo => !is_one_of(&NO),
            Self::UnlessYes => !is_one_of(&YES),
            Self::IfNo => is_one_of(&NO) || is_one_of(&NEVER),
        }
    }
}

/// What a Pod or a workload says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Marks<'a> {
    /// The annotations. Those for which [`matters`] is `false` may be missing.
    pub annotations: &'a BTreeMap<String, String>,
    /// The labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The name of the Pod's PriorityClass.
    pub priority_class: Option<&'a str>,
    /// Whether these are the marks of a Pod. Its annotations can narrow settings
    /// ([`crate::narrowing`]).
    pub is_pod: bool,
}

/// Whether an annotation with this key can matter to [`Exclusion::of`]. You need not keep other
/// annotations.
#[must_use]
pub fn matters(key: &str) -> bool {
    is(key, CHAOS) || OTHERS.iter().any(|(known, _)| is(key, known)) || word(key).is_some()
}

/// Whether somebody who writes `key` means `known`. An annotation's key can have capital letters.
fn is(key: &str, known: &str) -> bool {
    key.eq_ignore_ascii_case(known)
}

/// Why a Pod must be left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exclusion {
    /// The Pod or its workload carries this key with this value.
    Asked(String, String),
    /// The Pod or its workload carries this key, which is a key of Pure Chaos or nearly one. The
    /// key has no effect there.
    Unknown(String),
    /// The Pod has this critical priority class.
    Critical(String),
}

impl Exclusion {
    /// Why a Pod, or the Pods of a workload, must be left alone. `None` if nothing in `marks` asks
    /// for it.
    #[must_use]
    pub fn of(marks: Marks<'_>) -> Option<Self> {
        let Marks { annotations, labels, priority_class, is_pod } = marks;
        let narrows = |key: &str| is_pod && narrowing::key(key).is_some();
        let critical = || priority_class.filter(|class| CRITICAL.contains(class));
        annotations
            .iter()
            .filter(|(key, _)| !narrows(key))
            .chain(labels)
            .find_map(|(key, value)| Self::by_key(key, value))
            .or_else(|| critical().map(|class| Self::Critical(class.to_owned())))
    }

    fn by_key(key: &str, value: &str) -> Option<Self> {
        let asked = |asks: Asks| asks.with(value).then(|| Self::Asked(key.to_owned(), value.to_owned()));
        if let Some((_, asks)) = OTHERS.iter().find(|(known, _)| is(key, known)) {
            return asked(*asks);
        }
        match key {
            EXCLUDE => asked(Asks::UnlessNo),
            // `chaos` with a clear no asks. Any other value may belong to another tool.
            _ if is(key, CHAOS) => {
                Asks::IfNo.with(value).then(|| Self::Asked(key.to_owned(), value.to_owned()))
            }
            _ => word(key).map(|_| Self::Unknown(key.to_owned())),
        }
    }

    /// Whether the exclusion holds with these `targets`. A critical Pod may be killed if the
    /// targets demand one of its labels, because then the owner named that Pod.
    #[must_use]
    pub fn holds(&self, targets: Option<&Targets>) -> bool {
        match self {
            Self::Asked(..) | Self::Unknown(_) => true,
            Self::Critical(_) => !targets.is_some_and(Targets::demand_a_label),
        }
    }

    /// The reason, as a sentence about `what`, such as `the Pod`.
    #[must_use]
    pub fn sentence(&self, what: &str) -> String {
        match self {
            Self::Asked(key, value) => format!("{what} asks to be left alone: {key}={value}"),
            Self::Unknown(key) => format!(
                "{what} carries {key}, which has no effect there and may be mistyped; to exclude {what}, \
                 write {EXCLUDE}=true, otherwise remove the key"
            ),
            Self::Critical(class) => format!(
                "{what} is critical (priority class {class}); \
                 it may die only if `targets` demands one of its labels"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// The kind of exclusion that a key and its value cause, or `None`. An annotation and a label
    /// must give the same result.
    fn by(key: &str, value: &str) -> Option<&'static str> {
        let (marks, none) = (map(&[(key, value)]), BTreeMap::new());
        let [annotated, labelled] = [(&marks, &none), (&none, &marks)].map(|(annotations, labels)| {
            Exclusion::of(Marks { annotations, labels, priority_class: None, is_pod: false })
        });
        assert_eq!(annotated, labelled);
        assert!(annotated.is_none() || matters(key), "{key}");
        annotated.map(|exclusion| match exclusion {
            Exclusion::Asked(..) => "asked",
            Exclusion::Unknown(_) => "unknown",
            Exclusion::Critical(_) => "critical",
        })
    }

    #[test]
    fn a_pods_annotation_can_narrow_a_setting_and_nothing_else_can() {
        let (marks, none) = (map(&[("purechaos.dev/mode", "evict")]), BTreeMap::new());
        let of = |annotations, labels, is_pod| {
            Exclusion::of(Marks { annotations, labels, priority_class: None, is_pod }).is_some()
        };
        assert!(!of(&marks, &none, true));
        assert!(of(&marks, &none, false), "on a workload it has no effect");
        assert!(of(&none, &marks, true), "as a label it has no effect");
    }

    #[test]
    fn what_is_meant_to_protect_does() {
        let exclude = "purechaos.dev/exclude";
        let safe = "cluster-autoscaler.kubernetes.io/safe-to-evict";
        for (key, value, expected) in [
            (exclude, "true", Some("asked")),
            (exclude, "True", Some("asked")),
            (exclude, "yes", Some("asked")),
            (exclude, "", Some("asked")),
            (exclude, "until Friday", Some("asked")),
            (exclude, "false", None),
            (exclude, "No", None),
            (exclude, " off ", None),
            (exclude, "0", None),
            ("karpenter.sh/do-not-disrupt", "true", Some("asked")),
            ("karpenter.sh/do-not-disrupt", "4h", Some("asked")),
            ("karpenter.sh/do-not-disrupt", "false", None),
            ("karpenter.sh/do-not-evict", "true", Some("asked")),
            (safe, "false", Some("asked")),
            (safe, "False", Some("asked")),
            (safe, "no", Some("asked")),
            (safe, "true", None),
            ("descheduler.alpha.kubernetes.io/prefer-no-eviction", "", Some("asked")),
            ("descheduler.alpha.kubernetes.io/prefer-no-eviction", "false", Some("asked")),
            // Keys of Pure Chaos that have no effect on a Pod.
            ("purechaos.dev/exlude", "true", Some("unknown")),
            ("purechaos.dev/excluded", "false", Some("unknown")),
            ("purechaos.dev/halt", "incident", Some("unknown")),
            ("PureChaos.dev/exclude", "true", Some("unknown")),
            ("pure-chaos.dev/exclude", "true", Some("unknown")),
            ("chaos", "no", Some("asked")),
            ("chaos", "false", Some("asked")),
            ("chaos", "disabled", Some("asked")),
            ("Chaos", "no", Some("asked")),
            ("Karpenter.sh/do-not-disrupt", "true", Some("asked")),
            ("urechaos.dev/exclude", "true", Some("unknown")),
            ("pure.chaos.dev/exclude", "true", Some("unknown")),
            ("purechaos-exclude", "true", Some("unknown")),
            // Keys and values of other tools.
            ("chaos", "yes", None),
            ("chaos", "monkey", None),
            ("chaos-mesh.org/inject", "disabled", None),
            ("exclude", "true", None),
        ] {
            assert_eq!(by(key, value), expected, "{key}={value}");
        }
    }

    #[test]
    fn critical_pods_die_only_where_they_are_named() {
        let none = BTreeMap::new();
        let of = |annotations: &BTreeMap<String, String>, class: &str| {
            Exclusion::of(Marks { annotations, labels: &none, priority_class: Some(class), is_pod: true })
        };
        assert_eq!(of(&none, "high"), None);
        let targets = |text: &str| Targets::parse(text).unwrap();
        for class in CRITICAL {
            let critical = of(&none, class).unwrap();
            assert!(critical.holds(None) && critical.sentence("the Pod").contains(class));
            assert!(
                critical.holds(Some(&targets("!legacy,tier!=front"))),
                "nothing that it carries is named"
            );
            assert!(!critical.holds(Some(&targets("app=dns"))));
        }
        let asked = of(&map(&[(EXCLUDE, "x")]), "system-node-critical").unwrap();
        assert!(asked.holds(Some(&targets("app=dns"))), "what asks is obeyed even so");
    }

    #[test]
    fn the_sentence_names_the_key() {
        let sentence = |key: &str, value: &str| Exclusion::by_key(key, value).unwrap().sentence("the Pod");
        assert_eq!(
            sentence("karpenter.sh/do-not-disrupt", "4h"),
            "the Pod asks to be left alone: karpenter.sh/do-not-disrupt=4h"
        );
        assert_eq!(
            sentence("purechaos.dev/exlude", "true"),
            "the Pod carries purechaos.dev/exlude, which has no effect there and may be mistyped; \
             to exclude the Pod, write purechaos.dev/exclude=true, otherwise remove the key"
        );
    }
}
