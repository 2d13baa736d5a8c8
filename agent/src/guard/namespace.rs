//! Decides whether anything may be killed in a namespace now. The agent asks at the start of a
//! round and again just before each kill.

use jiff::Timestamp;
use policy::digest::digest;
use policy::eligibility::NamespaceView;
use policy::kill_gate::{self, Locked};
use policy::platform::PlatformPolicy;
use policy::record::{OptInSpec, Verdict};
use policy::settings::Settings;

use crate::refusal::Refusal;

/// The refusal of a whole namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// The reason.
    pub refusal: Refusal,
    /// A sentence for people: what is wrong and what to do.
    pub sentence: String,
}

/// Decides whether a kill may happen in a namespace at `now`, and returns the settings for it. The
/// live Namespaces decide; the record is only a hint. `system` is the Namespace `pure-chaos`. If it
/// is `None`, because the agent can't read it, nothing may be killed.
///
/// # Errors
/// [`Forbidden`] with the first guard that refuses.
pub fn permitted(
    record: &OptInSpec,
    namespace: &NamespaceView,
    system: Option<&NamespaceView>,
    policy: &PlatformPolicy,
    now: Timestamp,
) -> Result<Settings, Forbidden> {
    let refused = |locked| refused(&namespace.name, &locked);
    let settings = kill_gate::may_kill(namespace, system, policy, now).map_err(refused)?;
    let admitted = record.verdict == Verdict::Admitted
        && record.namespace_uid == namespace.uid
        && record
            .admission
            .as_ref()
            .is_some_and(|admission| admission.digest == digest(&namespace.annotations));
    if !admitted {
        return Err(by_record(record, &namespace.name));
    }
    kill_gate::is_time(&settings, policy, now).map_err(refused)?;
    Ok(settings)
}

/// The refusal that belongs to a closed lock.
#[must_use]
pub fn refused(namespace: &str, locked: &Locked) -> Forbidden {
    Forbidden {
        sentence: locked.sentence(namespace),
        refusal: match locked {
            Locked::HaltedEverywhere(_) | Locked::Halted(_) => Refusal::Halted,
            Locked::NotOptedIn | Locked::Protected => Refusal::NotAdmitted,
            Locked::Expired(_) => Refusal::Expired,
            Locked::Terminating => Refusal::NamespaceTerminating,
            Locked::NotUnderstood(_) => Refusal::UnknownSetting,
            Locked::OutsideActiveHours(_) => Refusal::OutsideActiveHours,
            Locked::Excepted => Refusal::Excepted,
        },
    }
}

/// Why the namespace can't opt in, if it is protected. Without the platform's policy, this function
/// uses the built-in list of protected namespaces, which contains `default`.
#[must_use]
pub fn protection(namespace: &str, policy: Option<&PlatformPolicy>) -> Option<Forbidden> {
    let built_in = PlatformPolicy::built_in();
    let is_protected = policy.unwrap_or(&built_in).protected.covers(namespace);
    let mut forbidden = is_protected.then(|| refused(namespace, &Locked::Protected))?;
    if policy.is_none() && namespace == "default" {
        forbidden.sentence.push_str(" unless the platform's policy lists `!default`");
    }
    Some(forbidden)
}

/// The refusal of a namespace in which the API server forbade something to the agent. If
/// `is_going`, the reason is that the namespace is being deleted, else that the agent lacks a
/// right.
#[must_use]
pub fn without_right(namespace: &str, is_going: bool, error: &impl std::fmt::Display) -> Forbidden {
    if is_going {
        return refused(namespace, &Locked::Terminating);
    }
    Forbidden {
        refusal: Refusal::NoRights,
        sentence: format!("the agent lacks a right in namespace {namespace}: {error}"),
    }
}

/// The refusal to show when an earlier round left `state` in the record. Once a namespace is being
/// deleted, it stays so. The agent then loses its rights there, so a missing right still counts as
/// [`Refusal::NamespaceTerminating`].
#[must_use]
pub fn after(state: Option<&str>, namespace: &str, forbidden: Forbidden) -> Forbidden {
    let going = Refusal::NamespaceTerminating.label();
    let was_going = state.is_some_and(|state| state.split(", ").any(|word| word == going));
    if forbidden.refusal == Refusal::NoRights && was_going {
        return refused(namespace, &Locked::Terminating);
    }
    forbidden
}

/// The refusal of a namespace whose record doesn't fit its annotations, or says that the webhook did
/// not admit them. If the record gives a reason, the sentence is that reason.
#[must_use]
pub fn by_record(record: &OptInSpec, namespace: &str) -> Forbidden {
    let forbidden = not_admitted(namespace);
    match record.verdict {
        Verdict::Admitted => forbidden,
        Verdict::NotAdmitted => {
            Forbidden { sentence: record.reason.clone().unwrap_or(forbidden.sentence), ..forbidden }
        }
        Verdict::NotUnderstood => Forbidden {
            refusal: Refusal::UnknownSetting,
            sentence: record.reason.clone().unwrap_or_else(|| Refusal::UnknownSetting.meaning().to_owned()),
        },
    }
}

/// The refusal of a namespace whose current annotations the webhook did not admit.
#[must_use]
pub fn not_admitted(namespace: &str) -> Forbidden {
    Forbidden {
        refusal: Refusal::NotAdmitted,
        sentence: format!(
            "the webhook did not admit the annotations of namespace {namespace} as they are now; remove `chaos` and set it again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::snapshot::examples::noon;
    use policy::record::Admission;

    fn namespace(name: &str, pairs: &[(&str, &str)]) -> NamespaceView {
        NamespaceView {
            name: name.to_owned(),
            uid: "n-1".to_owned(),
            annotations: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            terminating: false,
        }
    }

    fn record_of(namespace: &NamespaceView) -> OptInSpec {
        OptInSpec {
            namespace_uid: namespace.uid.clone(),
            verdict: Verdict::Admitted,
            reason: None,
            admission: Some(Admission {
                user: "mara".to_owned(),
                time: "2026-11-23T11:00:00Z".to_owned(),
                digest: digest(&namespace.annotations),
                set_by: String::new(),
            }),
            settings: None,
            halt: None,
        }
    }

    fn ask(
        record: &OptInSpec,
        target: &NamespaceView,
        system: Option<&NamespaceView>,
    ) -> Result<Settings, Refusal> {
        permitted(record, target, system, &PlatformPolicy::built_in(), noon())
            .map_err(|forbidden| forbidden.refusal)
    }

    #[test]
    fn settings_say_when() {
        // Noon is on a Monday.
        let system = namespace("pure-chaos", &[]);
        for (key, value, expected) in [
            ("active-hours", "Mon 12:00-12:01 UTC", None),
            ("active-hours", "Mon 13:00-17:00 UTC", Some(Refusal::OutsideActiveHours)),
            ("except", "2026-11-22", None),
            ("except", "2026-11-23", Some(Refusal::Excepted)),
            ("expires", "2026-11-23T12:00:01Z", None),
            ("expires", "2026-11-23T12:00:00Z", Some(Refusal::Expired)),
        ] {
            let target = namespace("a", &[("chaos", "yes"), (&format!("purechaos.dev/{key}"), value)]);
            let answer = ask(&record_of(&target), &target, Some(&system));
            assert_eq!(answer.err(), expected, "{value}");
        }
        let target = namespace("a", &[("chaos", "yes")]);
        let except = policy::excluded_days::Days::parse("2026-11-23");
        let policy = PlatformPolicy { except, ..PlatformPolicy::built_in() };
        let answer = permitted(&record_of(&target), &target, Some(&system), &policy, noon());
        assert_eq!(answer.unwrap_err().refusal, Refusal::Excepted, "the platform's");
    }

    #[test]
    fn who_can_not_opt_in_is_told_so_with_and_without_the_platforms_policy() {
        let policy = PlatformPolicy::parse("protected: ['!default', prod-*]").unwrap();
        let told = |name: &str, policy| protection(name, policy).map(|forbidden| forbidden.sentence);
        let expected =
            |name: &str, more: &str| Some(format!("namespace {name} is protected and can't opt in{more}"));
        for (name, by_policy, without) in [
            ("kube-system", true, Some("")),
            ("pure-chaos", true, Some("")),
            ("default", false, Some(" unless the platform's policy lists `!default`")),
            ("prod-eu", true, None),
            ("a", false, None),
        ] {
            assert_eq!(told(name, Some(&policy)), by_policy.then(|| expected(name, "")).flatten(), "{name}");
            assert_eq!(told(name, None), without.and_then(|more| expected(name, more)), "{name}");
        }
    }

    #[test]
    fn only_what_was_admitted_counts() {
        let system = namespace("pure-chaos", &[]);
        let target = namespace("a", &[("chaos", "yes")]);
        let record = record_of(&target);
        assert_eq!(ask(&record, &target, Some(&system)), Ok(Settings::built_in()));

        let changed = namespace("a", &[("chaos", "yes"), ("purechaos.dev/limit", "2")]);
        assert_eq!(ask(&record, &changed, Some(&system)), Err(Refusal::NotAdmitted));
        let again = NamespaceView { uid: "n-2".to_owned(), ..target.clone() };
        assert_eq!(ask(&record, &again, Some(&system)), Err(Refusal::NotAdmitted));
        let by_hand = OptInSpec { admission: None, ..record.clone() };
        assert_eq!(ask(&by_hand, &target, Some(&system)), Err(Refusal::NotAdmitted));
        let not_admitted = OptInSpec { verdict: Verdict::NotAdmitted, ..record.clone() };
        assert_eq!(ask(&not_admitted, &target, Some(&system)), Err(Refusal::NotAdmitted));
    }

    #[test]
    fn what_the_record_says_is_told_as_it_is() {
        let admitted = record_of(&namespace("a", &[("chaos", "yes")]));
        let reason = Some("ceilings.limit is `5`".to_owned());
        for (verdict, reason, refusal, words) in [
            (Verdict::Admitted, None, Refusal::NotAdmitted, "remove `chaos` and set it again"),
            (Verdict::NotAdmitted, None, Refusal::NotAdmitted, "remove `chaos` and set it again"),
            (Verdict::NotAdmitted, reason.clone(), Refusal::NotAdmitted, "ceilings.limit is `5`"),
            (Verdict::NotUnderstood, reason, Refusal::UnknownSetting, "ceilings.limit is `5`"),
            (Verdict::NotUnderstood, None, Refusal::UnknownSetting, "it exceeds a ceiling"),
        ] {
            let forbidden = by_record(&OptInSpec { verdict, reason, ..admitted.clone() }, "a");
            assert_eq!(forbidden.refusal, refusal);
            assert!(forbidden.sentence.contains(words), "{}", forbidden.sentence);
        }
    }

    #[test]
    fn a_namespace_that_was_being_deleted_still_is() {
        let (going, none) = (Refusal::NamespaceTerminating, Refusal::NoRights);
        for (state, refusal, expected) in [
            (None, none, none),
            (Some("no_rights"), none, none),
            (Some("namespace_terminating"), none, going),
            (Some("namespace_terminating, below_desired"), none, going),
            (Some("namespace_terminating"), Refusal::Halted, Refusal::Halted),
        ] {
            let forbidden = Forbidden { refusal, sentence: String::new() };
            assert_eq!(after(state, "a", forbidden).refusal, expected, "{state:?}");
        }
    }

    #[test]
    fn the_live_namespace_outranks_the_record() {
        let system = namespace("pure-chaos", &[]);
        let target = namespace("a", &[("chaos", "yes")]);
        let record = record_of(&target);
        assert_eq!(ask(&record, &namespace("a", &[]), Some(&system)), Err(Refusal::NotAdmitted));
        assert_eq!(ask(&record, &target, None), Err(Refusal::Halted));
        let halted = namespace("a", &[("chaos", "yes"), ("purechaos.dev/halt", "")]);
        assert_eq!(ask(&record, &halted, Some(&system)), Err(Refusal::Halted));
        let terminating = NamespaceView { terminating: true, ..target };
        assert_eq!(ask(&record, &terminating, Some(&system)), Err(Refusal::NamespaceTerminating));
    }
}
