//! Whether a round may kill anything in a namespace, before its Pods are looked at.

use jiff::Timestamp;
use policy::consent::Consent;
use policy::eligibility::{Eligibility, NamespaceView};
use policy::kill_gate::Locked;
use policy::platform::PlatformPolicy;
use policy::record::{OptIn, RecordedSettings, Verdict as Admitted};
use policy::settings::Settings;

use super::explanation::Verdict;
use crate::guard;
use crate::guard::namespace::{Forbidden, by_record, permitted};
use crate::refusal::Refusal;

/// Whether a round may kill anything in the namespace, and the settings that apply.
pub fn whole(
    name: &str,
    namespace: Option<&NamespaceView>,
    system: &NamespaceView,
    (record, refused): (Option<&OptIn>, Option<String>),
    policy: &PlatformPolicy,
    now: Timestamp,
) -> (Verdict, Option<Settings>) {
    let understood = |namespace: &NamespaceView| policy.settings(&namespace.annotations).ok();
    match (namespace, record) {
        (Some(namespace), _) if Consent::parse(&namespace.annotations) == Consent::Absent => {
            let sentence = format!(
                "namespace {name} has not opted in; a user who may delete Pods there can run: kubectl \
                 annotate namespace {name} chaos=yes"
            );
            (Verdict::no(Refusal::NotAdmitted, sentence), None)
        }
        (Some(namespace), _) if namespace.terminating => {
            let sentence = Refusal::NamespaceTerminating.meaning().to_owned();
            (Verdict::no(Refusal::NamespaceTerminating, sentence), understood(namespace))
        }
        (_, Some(record)) if record.spec.verdict != Admitted::Admitted => {
            let Forbidden { refusal, sentence } = by_record(&record.spec, name);
            (Verdict::no(refusal, sentence), namespace.and_then(understood))
        }
        (Some(namespace), Some(record)) => {
            match permitted(&record.spec, namespace, Some(system), policy, now) {
                Ok(settings) => match &record.spec.reason {
                    // The record gives this reason if the webhook could not give the agent its
                    // rights. Everything else allows a kill.
                    Some(reason) => (Verdict::no(Refusal::NoRights, reason.clone()), Some(settings)),
                    None => (Verdict::yes("A round may kill here now"), Some(settings)),
                },
                Err(forbidden) => (Verdict::no(forbidden.refusal, forbidden.sentence), understood(namespace)),
            }
        }
        (Some(namespace), None) => {
            // The webhook keeps no record of these namespaces.
            let locked = match Eligibility::of(namespace, policy, now) {
                Eligibility::Expired(end) => Some(Locked::Expired(end)),
                Eligibility::Protected => Some(Locked::Protected),
                _ => None,
            };
            if let Some(Forbidden { refusal, sentence }) =
                locked.map(|locked| guard::namespace::refused(name, &locked))
            {
                return (Verdict::no(refusal, sentence), understood(namespace));
            }
            let sentence = refused.unwrap_or_else(|| {
                format!(
                    "namespace {name} has no record, because the webhook has not written it yet or could \
                     not write it; to see why, run: kubectl -n {name} events"
                )
            });
            (Verdict::no(Refusal::NotAdmitted, sentence), understood(namespace))
        }
        (None, Some(record)) => {
            let settings = record.spec.settings.as_ref().and_then(RecordedSettings::understood);
            (Verdict::yes("According to the record, a round may kill here"), settings)
        }
        (None, None) => {
            let sentence = format!(
                "no record of namespace {name} could be read, so the namespace has probably not opted in, or its \
                 opt-in has expired"
            );
            (Verdict::no(Refusal::NotAdmitted, sentence), None)
        }
    }
}
