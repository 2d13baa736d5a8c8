//! Whether anything may be killed in a namespace right now; asked at the start of a round and again just before each kill.

use jiff::Timestamp;
use policy::digest::digest;
use policy::eligibility::NamespaceView;
use policy::lock::{self, Locked};
use policy::outlook::is_excepted;
use policy::platform::PlatformPolicy;
use policy::record::{OptInSpec, Verdict};
use policy::settings::Settings;

use crate::refusal::Refusal;

/// A refusal of a whole namespace, and the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// The guard's answer.
    pub refusal: Refusal,
    /// What is wrong and what to do.
    pub sentence: String,
}

/// Compares the record, a hint, with the live Namespaces, the authority, as they stand at `now`. `system` is `pure-chaos`, `None` if it can't be read.
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
    let settings = lock::may_kill(namespace, system, policy, now).map_err(|locked| Forbidden {
        sentence: locked.sentence(&namespace.name),
        refusal: match locked {
            Locked::HaltedEverywhere(_) | Locked::Halted(_) => Refusal::Halted,
            Locked::NotOptedIn | Locked::Protected => Refusal::NotAdmitted,
            Locked::Expired(_) => Refusal::Expired,
            Locked::Terminating => Refusal::NamespaceTerminating,
            Locked::NotUnderstood(_) => Refusal::UnknownSetting,
        },
    })?;
    let admitted = record.verdict == Verdict::Admitted
        && record.namespace_uid == namespace.uid
        && record
            .admission
            .as_ref()
            .is_some_and(|admission| admission.digest == digest(&namespace.annotations));
    if !admitted {
        return Err(not_admitted(&namespace.name));
    }
    if let Some(hours) = settings.active_hours.as_ref().filter(|hours| !hours.contains(now)) {
        let sentence = format!("it is outside the active hours, {hours}");
        return Err(Forbidden { refusal: Refusal::OutsideActiveHours, sentence });
    }
    if is_excepted(&settings, policy, now) {
        let sentence =
            "it is a day without chaos, by `except` of the namespace or of the platform".to_owned();
        return Err(Forbidden { refusal: Refusal::Excepted, sentence });
    }
    Ok(settings)
}

/// The refusal of a namespace whose annotations the webhook did not admit as they are.
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
    use crate::views::examples::noon;
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
        let except = policy::days::Days::parse("2026-11-23");
        let policy = PlatformPolicy { except, ..PlatformPolicy::built_in() };
        let answer = permitted(&record_of(&target), &target, Some(&system), &policy, noon());
        assert_eq!(answer.unwrap_err().refusal, Refusal::Excepted, "the platform's");
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
