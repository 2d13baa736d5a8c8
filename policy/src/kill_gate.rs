//! Whether a kill may happen in a namespace right now. The agent asks this rule when it reads the
//! Namespace again before a kill. The webhook asks the same rule when it reviews a kill.

use jiff::Timestamp;

use crate::consent::Consent;
use crate::eligibility::{Eligibility, NamespaceView};
use crate::feasibility::is_excepted;
use crate::platform::PlatformPolicy;
use crate::settings::Settings;
use crate::well_known::{CHAOS, HALT, SYSTEM_NAMESPACE};

/// Why no kill may happen in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locked {
    /// Everything is halted. Holds the text of the halt, or says that the halt cannot be read.
    HaltedEverywhere(String),
    /// This namespace is halted. Holds the text of the halt.
    Halted(String),
    /// The namespace did not opt in.
    NotOptedIn,
    /// The namespace is protected.
    Protected,
    /// The namespace is being deleted.
    Terminating,
    /// The opt-in expired at this instant.
    Expired(Timestamp),
    /// The annotations are not understood or exceed a ceiling. Holds all problems.
    NotUnderstood(String),
    /// The time is outside these active hours.
    OutsideActiveHours(String),
    /// The day is a day without chaos, of the namespace or of the platform.
    Excepted,
}

impl Locked {
    /// A sentence for the client that tried to kill. The sentence names the namespace, and says
    /// what would allow the kill if anything would.
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
            Self::OutsideActiveHours(hours) => {
                format!("namespace {namespace} is outside its active hours, {hours}")
            }
            Self::Excepted => {
                format!(
                    "namespace {namespace} has a day without chaos: \
                     its own `except` or the platform's lists this day"
                )
            }
        }
    }
}

/// Checks whether a kill may happen in `namespace` at `now`. [`is_time`] checks the active hours
/// and the days without chaos.
///
/// `system` is the namespace `pure-chaos`. `None` means that it could not be read, and then
/// everything counts as halted.
///
/// # Errors
/// Returns [`Locked`] with the first reason why no kill may happen.
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
    // Check this before consent, as the admission policy does: the owner of a protected namespace
    // must not be told to opt in.
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

/// Checks whether these settings and the platform's policy allow kills at the time `now`.
///
/// # Errors
/// Returns [`Locked::OutsideActiveHours`] or [`Locked::Excepted`].
pub fn is_time(settings: &Settings, policy: &PlatformPolicy, now: Timestamp) -> Result<(), Locked> {
    match &settings.active_hours {
        Some(hours) if !hours.contains(now) => Err(Locked::OutsideActiveHours(hours.to_string())),
        _ if is_excepted(settings, policy, now) => Err(Locked::Excepted),
        _ => Ok(()),
    }
}

/// The text of a namespace's halt. `None` if the namespace is not halted. A halt with an empty text
/// is a halt too.
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
    fn hours_and_days_lock() {
        // 2026-11-23 is a Monday.
        for (key, value, expected) in [
            ("active-hours", "Mon 12:00-12:01 UTC", Ok(())),
            (
                "active-hours",
                "Mon 13:00-17:00 UTC",
                Err(Locked::OutsideActiveHours("Mon 13:00-17:00 UTC".to_owned())),
            ),
            ("except", "2026-11-22", Ok(())),
            ("except", "2026-11-23", Err(Locked::Excepted)),
        ] {
            let system = namespace("pure-chaos", &[]);
            let target = namespace("a", &[("chaos", "yes"), (&format!("purechaos.dev/{key}"), value)]);
            let settings = ask(&target, Some(&system)).unwrap();
            let now = "2026-11-23T12:00:00Z".parse().unwrap();
            assert_eq!(is_time(&settings, &PlatformPolicy::built_in(), now), expected, "{value}");
            let except = crate::excluded_days::Days::parse("2026-11-23");
            let policy = PlatformPolicy { except, ..PlatformPolicy::built_in() };
            assert!(is_time(&settings, &policy, now).is_err(), "the platform's");
        }
    }

    #[test]
    fn the_sentence_says_what_to_write() {
        assert_eq!(
            Locked::NotOptedIn.sentence("learning-place"),
            "namespace learning-place is not opted in; its owner can run: kubectl annotate namespace learning-place chaos=yes"
        );
    }
}
