//! The Events of the agent, as values. They show each kill, refusal and recovery in `kubectl
//! events`. The functions here are pure; [`runtime::events`] writes the Events.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use policy::record::WorkloadReference;
use runtime::events::{Event, Weight};

use crate::recovery::{Recovery, RecoveryOutcome};
use crate::refusal::Refusal;
use crate::telemetry::refusals::ToldEvent;

/// The agent's name in the field `reportingController`.
pub const REPORTER: &str = "purechaos.dev/agent";

/// The reasons of the agent's Events.
pub const REASONS: [&str; 8] = [
    "ChaosKilled",
    "ChaosRefused",
    "ChaosRecovered",
    "ChaosRecoveryTimedOut",
    "ChaosRecoveryEnded",
    "ChaosHypothesisBroken",
    "ChaosHalted",
    "ChaosResumed",
];

/// Makes `ChaosKilled` Events: one on the Pod and one on its workload.
#[must_use]
pub fn killed(namespace: &str, workload: &WorkloadReference, pod: &str, uid: &str, how: &str) -> [Event; 2] {
    let (of_pod, of_workload) = (pod_reference(namespace, pod, uid), workload_reference(namespace, workload));
    let note = format!("Killed Pod {pod} ({how}) of {} {}", workload.kind, workload.name);
    let event = deed("ChaosKilled", "Kill", note, of_pod.clone());
    [
        Event { related: Some(of_workload.clone()), ..event.clone() },
        Event { regarding: of_workload, related: Some(of_pod), ..event },
    ]
}

/// Makes a `ChaosRefused` Event on the workload or the Namespace. `None` if the agent can't write
/// Events in this namespace; the webhook tells about these refusals.
#[must_use]
pub fn refused(namespace: &str, namespace_uid: &str, refusal: &ToldEvent) -> Option<Event> {
    let ToldEvent { workload, label, sentence, is_summary, is_further } = refusal;
    let (note, regarding) = match workload {
        Some(workload) => {
            let WorkloadReference { kind, name, uid: _ } = workload;
            let further = if *is_further { " further" } else { "" };
            let note = format!("No{further} Pod of {kind} {name} was killed: {label}: {sentence}");
            (note, workload_reference(namespace, workload))
        }
        None if *is_summary => {
            let note = format!("No Pod was killed in {sentence}");
            (note, namespace_reference(namespace, namespace_uid))
        }
        None => {
            let unwritable = [Refusal::NotAdmitted, Refusal::NoRights, Refusal::NamespaceTerminating];
            if unwritable.iter().any(|refusal| refusal.label() == *label) {
                return None;
            }
            let note = format!("Nothing was killed in namespace {namespace}: {label}: {sentence}");
            (note, namespace_reference(namespace, namespace_uid))
        }
    };
    let action = if *is_summary { "Refuse".to_owned() } else { pascal(label) };
    Some(Event { weight: Weight::Refusal, ..deed("ChaosRefused", &action, note, regarding) })
}

/// Makes a `ChaosRefused` Event on the Namespace, because the API server refuses to write the
/// status of its record.
#[must_use]
pub fn record_refused(namespace: &str, namespace_uid: &str, sentence: &str) -> Event {
    let note = format!(
        "Nothing can be killed in namespace {namespace}, because the API server refuses to write the status of its record: {sentence}"
    );
    let regarding = namespace_reference(namespace, namespace_uid);
    Event {
        is_warning: true,
        weight: Weight::Refusal,
        ..deed("ChaosRefused", "WriteRecord", note, regarding)
    }
}

/// Makes a `ChaosRecovered`, `ChaosRecoveryTimedOut` or `ChaosRecoveryEnded` Event on the workload.
/// `says` is what the workload's conditions say, and `checks` has a sentence for each check of the
/// steady state. `None` if the namespace opted out or is deleted,
/// because the agent then has no right to write Events there. The webhook's `ChaosOptedOut` Event
/// ends the story.
#[must_use]
pub fn recovery_ended(
    namespace: &str,
    recovery: &Recovery,
    (outcome, duration): (RecoveryOutcome, Option<Duration>),
    says: Option<&str>,
    checks: &[String],
) -> Option<Event> {
    let workload = &recovery.workload;
    let WorkloadReference { kind, name, uid: _ } = workload;
    let killed = match recovery.victims() {
        [only] => format!("Pod {} was killed", only.name),
        _ => format!("Pods {} were killed", recovery.pods()),
    };
    let (reason, note) = match outcome {
        RecoveryOutcome::NamespaceDeleted | RecoveryOutcome::OptedOut => return None,
        RecoveryOutcome::Recovered | RecoveryOutcome::RecoveredAfterRestart => {
            let after = duration.map_or_else(
                || "after".to_owned(),
                |duration| format!("{:.1} s after", duration.as_secs_f64()),
            );
            ("ChaosRecovered", format!("{kind} {name} recovered {after} {killed}"))
        }
        RecoveryOutcome::TimedOut => {
            let seconds = recovery.limit.as_secs();
            let says = says.map_or_else(String::new, |says| format!(": {says}"));
            let note = format!("{kind} {name} did not recover within {seconds} s after {killed}{says}");
            ("ChaosRecoveryTimedOut", note)
        }
        RecoveryOutcome::WorkloadDeleted
        | RecoveryOutcome::RolledOut
        | RecoveryOutcome::Rescaled
        | RecoveryOutcome::Disturbed => {
            let (label, meaning) = (outcome.label(), outcome.meaning());
            let note = format!("The recovery of {kind} {name} after {killed} ended as {label}: {meaning}");
            ("ChaosRecoveryEnded", note)
        }
    };
    let note = std::iter::once(&note).chain(checks).map(String::as_str).collect::<Vec<_>>().join("; ");
    Some(Event {
        related: recovery.victims().first().map(|first| pod_reference(namespace, &first.name, &first.uid)),
        is_warning: outcome == RecoveryOutcome::TimedOut,
        ..deed(reason, "Recover", note, workload_reference(namespace, workload))
    })
}

/// Makes a `ChaosHypothesisBroken` Event on the workload, as soon as a sample breaks a check. `when`
/// says how long after the kill that was.
#[must_use]
pub fn hypothesis_broken(
    namespace: &str,
    workload: &WorkloadReference,
    (pod, pod_uid): (&str, &str),
    check: &str,
    when: &str,
    saw: &str,
) -> Event {
    let WorkloadReference { kind, name, uid: _ } = workload;
    let note = format!("Check `{check}` broke{when} of Pod {pod} of {kind} {name}: {saw}");
    Event {
        related: Some(pod_reference(namespace, pod, pod_uid)),
        is_warning: true,
        ..deed("ChaosHypothesisBroken", "Sample", note, workload_reference(namespace, workload))
    }
}

/// Makes a `ChaosHalted` Event on namespace `pure-chaos`.
#[must_use]
pub fn halted(namespace: &str, uid: &str, text: &str) -> Event {
    let note = format!("Every kill is halted: {text}");
    Event { is_warning: true, ..deed("ChaosHalted", "Halt", note, namespace_reference(namespace, uid)) }
}

/// Makes a `ChaosResumed` Event on namespace `pure-chaos`.
#[must_use]
pub fn resumed(namespace: &str, uid: &str) -> Event {
    let note = "The halt ended: rounds may kill again".to_owned();
    deed("ChaosResumed", "Resume", note, namespace_reference(namespace, uid))
}

/// Makes a normal Event. Callers change the fields that differ.
fn deed(reason: &'static str, action: &str, note: String, regarding: ObjectReference) -> Event {
    Event {
        regarding,
        related: None,
        is_warning: false,
        reason,
        action: action.to_owned(),
        note,
        weight: Weight::Deed,
    }
}
/// Turns a label such as `too_young` into `TooYoung`, the form that the `action` of an Event has.
fn pascal(label: &str) -> String {
    let capitalised = label.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    capitalised.collect()
}

fn namespace_reference(name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Namespace".to_owned()),
        name: Some(name.to_owned()),
        // A Namespace belongs to no namespace, and the Event would then have to be in `default`.
        // With its own name here, the Event is in that namespace.
        namespace: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn pod_reference(namespace: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn workload_reference(namespace: &str, workload: &WorkloadReference) -> ObjectReference {
    let api_version = match workload.kind.as_str() {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => Some("apps/v1"),
        "ReplicationController" => Some("v1"),
        // The agent knows only the name of a workload of another kind, not its API version.
        _ => None,
    };
    ObjectReference {
        api_version: api_version.map(str::to_owned),
        kind: Some(workload.kind.clone()),
        name: Some(workload.name.clone()),
        namespace: Some(namespace.to_owned()),
        uid: Some(workload.uid.clone()),
        ..ObjectReference::default()
    }
}
