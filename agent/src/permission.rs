//! Whether anything may be killed in a namespace right now; asked at the start of a round and again just before each kill.

use policy::digest::digest;
use policy::eligibility::NamespaceView;
use policy::lock::{self, Locked};
use policy::platform::PlatformPolicy;
use policy::record::{OptInSpec, Verdict};
use policy::settings::Settings;

use crate::guards::Refusal;

/// A refusal of a whole namespace, and the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// The guard's answer.
    pub refusal: Refusal,
    /// What is wrong and what to do.
    pub sentence: String,
}

/// Compares the record, a hint, with the live Namespaces, the authority. `system` is `pure-chaos`, `None` if it can't be read.
///
/// # Errors
/// [`Forbidden`] with the first guard that refuses.
pub fn permitted(
    record: &OptInSpec,
    namespace: &NamespaceView,
    system: Option<&NamespaceView>,
    policy: &PlatformPolicy,
) -> Result<Settings, Forbidden> {
    let settings = lock::may_kill(namespace, system, policy).map_err(|locked| Forbidden {
        sentence: locked.sentence(&namespace.name),
        refusal: match locked {
            Locked::HaltedEverywhere(_) | Locked::Halted(_) => Refusal::Halted,
            Locked::NotOptedIn | Locked::Protected => Refusal::NotAdmitted,
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
    if admitted { Ok(settings) } else { Err(not_admitted(&namespace.name)) }
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
            }),
            settings: None,
        }
    }

    fn ask(
        record: &OptInSpec,
        target: &NamespaceView,
        system: Option<&NamespaceView>,
    ) -> Result<Settings, Refusal> {
        permitted(record, target, system, &PlatformPolicy::built_in()).map_err(|forbidden| forbidden.refusal)
    }

    #[test]
    fn only_what_was_admitted_counts() {
        let system = namespace("pure-chaos", &[]);
        let target = namespace("a", &[("chaos", "yes")]);
        let record = record_of(&target);
        assert_eq!(ask(&record, &target, Some(&system)), Ok(Settings::BUILT_IN));

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
