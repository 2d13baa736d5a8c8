//! What a namespace's record should say, as a pure function of the Namespace, the record there is, and what this replica remembers.

use jiff::Timestamp;
use policy::eligibility::Eligibility;
use policy::keys::{AGENT_BINDING, CHAOS, YES};
use policy::platform::PlatformPolicy;
use policy::record::{Admission, OptInSpec, RecordedSettings, Verdict};

use crate::namespaces::Stored;
use crate::review::shortened;

/// The user of an opt-in that nobody saw being admitted, and that the platform's `adoptExisting` lets count all the same.
pub const ADOPTED: &str = "unknown (adoptExisting)";

/// Characters of a record's reason.
const LONGEST_REASON: usize = 1_000;

/// What should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    /// The namespace is being deleted, and everything in it: nothing is to be done.
    LeftAlone,
    /// No record and no RoleBinding, for this reason.
    Nothing(&'static str),
    /// This record; its RoleBinding where the verdict is `Admitted`.
    Record(Box<OptInSpec>),
}

/// Derives it. `known` is the spec of the record there is, `remembered` the admission of exactly these annotations that this
/// replica knows of.
#[must_use]
pub fn desired(
    stored: &Stored,
    known: Option<&OptInSpec>,
    remembered: Option<Admission>,
    policy: &PlatformPolicy,
    now: Timestamp,
) -> Desired {
    let namespace = &stored.view;
    if namespace.terminating {
        return Desired::LeftAlone;
    }
    let eligibility = Eligibility::of(namespace, policy, now);
    let (settings, problems) = match eligibility {
        Eligibility::OptedOut => return Desired::Nothing("opted out"),
        Eligibility::Protected => return Desired::Nothing("protected"),
        Eligibility::Terminating => return Desired::LeftAlone,
        Eligibility::Expired(_) => return Desired::Nothing("expired"),
        Eligibility::NotUnderstood(problems) => (None, problems),
        Eligibility::Eligible(settings) => (Some(RecordedSettings::from(&*settings)), Vec::new()),
    };
    // What was admitted last comes first: the same annotations may have been set again by somebody else.
    let admission = remembered
        .or_else(|| kept(stored, known))
        .filter(|admission| policy.adopt_existing || admission.user != ADOPTED)
        .or_else(|| (policy.adopt_existing && settings.is_some()).then(|| adopted(stored, now)));
    let (verdict, reason) = match (&settings, &admission) {
        (None, _) => {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            (Verdict::NotUnderstood, Some(shortened(all.join("; "), LONGEST_REASON)))
        }
        (Some(_), None) => (Verdict::NotAdmitted, Some(how_to_be_admitted(&namespace.name))),
        (Some(_), Some(_)) => (Verdict::Admitted, None),
    };
    Desired::Record(Box::new(OptInSpec {
        namespace_uid: namespace.uid.clone(),
        verdict,
        reason,
        admission,
        settings,
    }))
}

/// The admission that the record there is holds, if it is one of exactly these annotations, set by the same request: whichever replica
/// saw it, it stays.
#[must_use]
pub fn kept(stored: &Stored, known: Option<&OptInSpec>) -> Option<Admission> {
    known
        .filter(|spec| spec.namespace_uid == stored.view.uid)
        .and_then(|spec| spec.admission.clone())
        .filter(|admission| admission.digest == stored.digest() && admission.set_by == stored.set_by)
}

fn adopted(stored: &Stored, now: Timestamp) -> Admission {
    Admission {
        user: ADOPTED.to_owned(),
        time: now.to_string(),
        digest: stored.digest(),
        set_by: stored.set_by.clone(),
    }
}

/// What to do about annotations that were set unseen; setting them again unchanged is no change, and so not reviewed.
fn how_to_be_admitted(namespace: &str) -> String {
    format!(
        "set while the webhook did not see it; remove the annotation and set it again: \
         kubectl annotate namespace {namespace} {CHAOS}- ; kubectl annotate namespace {namespace} {CHAOS}={YES}"
    )
}

/// What to do about a RoleBinding of our name that is not ours.
#[must_use]
pub fn how_to_make_room(namespace: &str) -> String {
    format!(
        "RoleBinding {AGENT_BINDING} here was not made by Pure Chaos, so the agent may have no rights; \
         delete it: kubectl -n {namespace} delete rolebinding {AGENT_BINDING}"
    )
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
