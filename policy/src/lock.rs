//! Whether a kill may happen in a namespace right now: the one rule that the agent's live re-read and the webhook's lock both ask.

use jiff::Timestamp;

use crate::consent::Consent;
use crate::eligibility::{Eligibility, NamespaceView};
use crate::keys::{CHAOS, HALT, SYSTEM_NAMESPACE};
use crate::platform::PlatformPolicy;
use crate::settings::Settings;

/// Why no kill may happen in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locked {
    /// Halted everywhere, with the text of the halt, or because the halt can't be read.
    HaltedEverywhere(String),
    /// Halted in this namespace, with the text of the halt.
    Halted(String),
    /// The namespace did not opt in.
    NotOptedIn,
    /// The namespace is protected.
    Protected,
    /// The namespace is being deleted.
    Terminating,
    /// The opt-in ended at this instant.
    Expired(Timestamp),
    /// The namespace's annotations aren't understood or past a ceiling; all problems.
    NotUnderstood(String),
}

impl Locked {
    /// A sentence for whoever tried, naming the namespace and what would open the lock.
    #[must_use]
    pub fn sentence(&self, namespace: &str) -> String {
        match self {
            Self::HaltedEverywhere(text) => {
                format!(
                    "Pure Chaos is halted ({text}); remove {HALT} from namespace {SYSTEM_NAMESPACE} to go on"
                )
            }
            Self::Halted(text) => {
                format!("namespace {namespace} is halted ({text}); remove {HALT} from it to go on")
            }
            Self::NotOptedIn => {
                format!(
                    "namespace {namespace} is not opted in; its owner can run: kubectl annotate namespace {namespace} {CHAOS}=yes"
                )
            }
            Self::Protected => format!("namespace {namespace} is protected and can't opt in"),
            Self::Terminating => format!("namespace {namespace} is being deleted"),
            Self::Expired(end) => format!(
                "the opt-in of namespace {namespace} expired at {end}; its owner can set a later purechaos.dev/expires, or remove it"
            ),
            Self::NotUnderstood(problem) => format!("namespace {namespace}: {problem}"),
        }
    }
}

/// Asks whether a kill may happen in `namespace` at `now`. `system` is the namespace `pure-chaos`, `None` if it couldn't be read, which halts.
///
/// # Errors
/// [`Locked`] with the first reason why not.
pub fn may_kill(
    namespace: &NamespaceView,
    system: Option<&NamespaceView>,
    policy: &PlatformPolicy,
    now: Timestamp,
) -> Result<Settings, Locked> {
    match system.map(halt) {
        None => {
            return Err(Locked::HaltedEverywhere(format!("namespace {SYSTEM_NAMESPACE} can't be read")));
        }
        Some(Some(text)) => return Err(Locked::HaltedEverywhere(text)),
        Some(None) => {}
    }
    if let Some(text) = halt(namespace) {
        return Err(Locked::Halted(text));
    }
    // Before consent, as the admission policy asks: the owner of a protected namespace must not be told to opt in.
    if policy.protected.covers(&namespace.name) {
        return Err(Locked::Protected);
    }
    if namespace.terminating {
        return Err(Locked::Terminating);
    }
    match Eligibility::of(namespace, policy, now) {
        Eligibility::Eligible(settings) => Ok(*settings),
        Eligibility::OptedOut => Err(Locked::NotOptedIn),
        Eligibility::Protected => Err(Locked::Protected),
        Eligibility::Terminating => Err(Locked::Terminating),
        Eligibility::Expired(end) => Err(Locked::Expired(end)),
        Eligibility::NotUnderstood(_) if Consent::parse(&namespace.annotations) != Consent::Yes => {
            Err(Locked::NotOptedIn)
        }
        Eligibility::NotUnderstood(problems) => Err(Locked::NotUnderstood(
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        )),
    }
}

/// The text of a namespace's halt, if it has one; its presence halts, whatever the text.
#[must_use]
pub fn halt(namespace: &NamespaceView) -> Option<String> {
    namespace.annotations.get(HALT).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str, pairs: &[(&str, &str)]) -> NamespaceView {
        NamespaceView {
            name: name.to_owned(),
            annotations: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..NamespaceView::default()
        }
    }

    fn ask(target: &NamespaceView, system: Option<&NamespaceView>) -> Result<Settings, Locked> {
        may_kill(target, system, &PlatformPolicy::built_in(), "2026-11-23T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn each_reason_locks() {
        let system = namespace("pure-chaos", &[]);
        let opted_in = namespace("a", &[("chaos", "yes")]);
        assert_eq!(ask(&opted_in, Some(&system)), Ok(Settings::built_in()));

        let halted = namespace("pure-chaos", &[(HALT, "")]);
        assert_eq!(ask(&opted_in, Some(&halted)), Err(Locked::HaltedEverywhere(String::new())));
        assert!(matches!(ask(&opted_in, None), Err(Locked::HaltedEverywhere(_))));
        let here = namespace("a", &[("chaos", "yes"), (HALT, "incident 4711")]);
        assert_eq!(ask(&here, Some(&system)), Err(Locked::Halted("incident 4711".to_owned())));

        assert_eq!(ask(&namespace("a", &[]), Some(&system)), Err(Locked::NotOptedIn));
        assert_eq!(ask(&namespace("a", &[("chaos", "no")]), Some(&system)), Err(Locked::NotOptedIn));
        assert_eq!(ask(&namespace("kube-x", &[("chaos", "yes")]), Some(&system)), Err(Locked::Protected));
        let terminating = NamespaceView { terminating: true, ..opted_in.clone() };
        assert_eq!(ask(&terminating, Some(&system)), Err(Locked::Terminating));
        let expired = namespace("a", &[("chaos", "yes"), ("purechaos.dev/expires", "2026-11-23T12:00:00Z")]);
        assert!(matches!(ask(&expired, Some(&system)), Err(Locked::Expired(_))));
        let past = namespace("a", &[("chaos", "yes"), ("purechaos.dev/limit", "6")]);
        assert!(matches!(ask(&past, Some(&system)), Err(Locked::NotUnderstood(_))));
    }

    #[test]
    fn the_sentence_says_what_to_write() {
        assert_eq!(
            Locked::NotOptedIn.sentence("learning-place"),
            "namespace learning-place is not opted in; its owner can run: kubectl annotate namespace learning-place chaos=yes"
        );
    }
}
