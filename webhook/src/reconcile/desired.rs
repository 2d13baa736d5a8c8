//! Decides what a namespace's record should say, as a pure function of the Namespace, the existing
//! record, and what this replica remembers.

use jiff::Timestamp;
use policy::eligibility::Eligibility;
use policy::kill_gate;
use policy::platform::PlatformPolicy;
use policy::record::{Admission, OptInSpec, RecordedSettings, Verdict};
use policy::well_known::{AGENT_BINDING, CHAOS, YES};
use runtime::text::cut;

use crate::namespaces::Stored;

/// The user in the record of an opt-in whose admission nobody saw, and which counts because of the
/// platform's `adoptExisting`.
pub const ADOPTED: &str = "unknown (adoptExisting)";

/// The longest reason in a record, in bytes.
pub const LONGEST_REASON: usize = 1_000;

/// What should exist in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    /// The namespace and everything in it is being deleted, so nothing needs to be done.
    LeftAlone,
    /// No record and no RoleBinding should exist, for this reason.
    Nothing(&'static str),
    /// This record should exist. Its RoleBinding should exist if the verdict is `Admitted`.
    Record(Box<OptInSpec>),
}

/// Returns what should exist in a namespace. `known` is the spec of the existing record.
/// `remembered` is the admission of exactly these annotations, if this replica knows it.
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
    // For the same annotations, set by the same request, the first admission stays. A later review
    // does not change the user's name.
    let kept = kept(stored, known);
    let is_seen = |admission: &Admission| admission.user != ADOPTED;
    let admission = kept
        .clone()
        .filter(is_seen)
        .or(remembered)
        .or(kept)
        .filter(|admission| policy.adopt_existing || is_seen(admission))
        .or_else(|| (policy.adopt_existing && settings.is_some()).then(|| adopted(stored, now)));
    let (verdict, reason) = match (&settings, &admission) {
        (None, _) => {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            (Verdict::NotUnderstood, Some(cut(all.join("; "), LONGEST_REASON)))
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
        halt: kill_gate::halt(namespace).map(|text| cut(text, LONGEST_REASON)),
    }))
}

/// Returns the admission in the existing record, if it is for exactly these annotations, set by the
/// same request. Such an admission stays, whichever replica saw it.
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

/// Tells the owner what to do about annotations that the webhook did not see when they were set.
/// Setting the same annotations again would be no change, so the API server would not ask for a
/// review.
fn how_to_be_admitted(namespace: &str) -> String {
    format!(
        "the webhook did not review this opt-in; remove the annotation and set it again: \
         kubectl annotate namespace {namespace} {CHAOS}- ; kubectl annotate namespace {namespace} {CHAOS}={YES}"
    )
}

/// Tells the owner what to do about a RoleBinding that has our name and is not ours.
#[must_use]
pub fn how_to_make_room(namespace: &str) -> String {
    format!(
        "Pure Chaos did not create RoleBinding {AGENT_BINDING} in this namespace, \
         so the agent may have no rights; \
         delete it: kubectl -n {namespace} delete rolebinding {AGENT_BINDING}"
    )
}

#[cfg(test)]
mod tests;
