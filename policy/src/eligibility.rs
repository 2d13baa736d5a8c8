//! Decides which namespaces are eligible, and why the others are not.

mod advice;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use self::advice::unknown;
use crate::consent::Consent;
use crate::platform::PlatformPolicy;
use crate::settings::{Problem, Settings};
use crate::well_known::CHAOS;

/// The part of a Namespace that the rules need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamespaceView {
    /// The namespace's name.
    pub name: String,
    /// The namespace's UID, which differs from the UID of an earlier namespace with the same name.
    pub uid: String,
    /// All annotations of the namespace.
    pub annotations: BTreeMap<String, String>,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
}

impl NamespaceView {
    /// Whether this is the Namespace with the UID, and nobody is deleting it.
    #[must_use]
    pub fn is_still(&self, uid: &str) -> bool {
        self.uid == uid && !self.terminating
    }
}

/// What the annotations of a namespace mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Eligibility {
    /// The namespace did not opt in.
    OptedOut,
    /// The namespace is protected, so it cannot opt in.
    Protected,
    /// The namespace is being deleted, so it cannot opt in.
    Terminating,
    /// The annotations contain something that is not understood or not allowed. Holds the problems.
    NotUnderstood(Vec<Problem>),
    /// The opt-in expired at this instant.
    Expired(Timestamp),
    /// The namespace opted in, with these settings.
    Eligible(Box<Settings>),
}

impl Eligibility {
    /// Judges a namespace at the instant `now`. The result does not say whether the webhook
    /// admitted the opt-in.
    #[must_use]
    pub fn of(namespace: &NamespaceView, policy: &PlatformPolicy, now: Timestamp) -> Self {
        let consent = Consent::parse(&namespace.annotations);
        if consent == Consent::Absent {
            return Self::OptedOut;
        }
        if policy.protected.covers(&namespace.name) {
            return Self::Protected;
        }
        if namespace.terminating {
            return Self::Terminating;
        }
        if let Consent::Invalid(value) = consent {
            let problem = Problem::invalid(
                format!("metadata.annotations[{CHAOS}]"),
                &value,
                "write `yes` to opt in, or remove the annotation to opt out".to_owned(),
            );
            return Self::NotUnderstood(vec![problem]);
        }
        match policy.settings(&namespace.annotations) {
            Ok(Settings { expires: Some(expires), .. }) if expires <= now => Self::Expired(expires),
            Ok(settings) => Self::Eligible(Box::new(settings)),
            Err(problems) => {
                let advised = |problem| advice::advised(problem, &namespace.annotations);
                Self::NotUnderstood(problems.into_iter().map(advised).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str, pairs: &[(&str, &str)]) -> NamespaceView {
        NamespaceView {
            name: name.to_owned(),
            uid: "1".to_owned(),
            annotations: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            terminating: false,
        }
    }

    fn of(namespace: &NamespaceView) -> Eligibility {
        Eligibility::of(namespace, &PlatformPolicy::built_in(), "2026-11-23T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn consent_makes_a_namespace_eligible() {
        assert_eq!(of(&namespace("a", &[])), Eligibility::OptedOut);
        assert_eq!(of(&namespace("a", &[("purechaos.dev/limit", "9")])), Eligibility::OptedOut);
        assert_eq!(
            of(&namespace("a", &[("chaos", "yes")])),
            Eligibility::Eligible(Box::new(Settings::built_in()))
        );
    }

    #[test]
    fn protected_and_terminating_namespaces_are_never_eligible() {
        for name in ["kube-system", "kube-anything", "pure-chaos", "default"] {
            assert_eq!(of(&namespace(name, &[("chaos", "yes")])), Eligibility::Protected, "{name}");
        }
        let terminating = NamespaceView { terminating: true, ..namespace("a", &[("chaos", "yes")]) };
        assert_eq!(of(&terminating), Eligibility::Terminating);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let Eligibility::NotUnderstood(problems) = of(&namespace("a", &[("chaos", "Yes")])) else { panic!() };
        assert_eq!(
            problems[0].to_string(),
            "metadata.annotations[chaos]: Invalid value: \"Yes\": write `yes` to opt in, or remove the annotation to opt out"
        );
        assert!(matches!(
            of(&namespace("a", &[("chaos", "yes"), ("purechaos.dev/limit", "9")])),
            Eligibility::NotUnderstood(_)
        ));
    }

    #[test]
    fn an_opt_in_ends_at_its_instant() {
        let until =
            |instant: &str| of(&namespace("a", &[("chaos", "yes"), ("purechaos.dev/expires", instant)]));
        assert!(matches!(until("2026-11-23T12:00:00.001Z"), Eligibility::Eligible(_)));
        assert!(matches!(until("2026-11-23T12:00:00Z"), Eligibility::Expired(_)));
        assert!(matches!(until("2020-01-01T00:00:00Z"), Eligibility::Expired(_)));
    }
}
