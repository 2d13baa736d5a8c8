//! Events for people: `kubectl events` shows each kill, refusal and recovery. An Event that can't be written never delays a kill.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use policy::keys::SYSTEM_NAMESPACE;
use policy::record::WorkloadReference;
use policy::settings::Mode;
use runtime::client::call;
use tokio_util::task::TaskTracker;

use crate::recovery::Recovery;
use crate::refusal::Refusal;

/// How long the process waits at its end for Events under way.
const LAST_EVENTS: Duration = Duration::from_secs(3);

/// The most bytes in a note: the API server's validation of `events.k8s.io/v1`.
const LONGEST_NOTE: usize = 1_024;

const ELLIPSIS: &str = "…";

/// Writes Events in the background.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    recorder: Recorder,
    tasks: TaskTracker,
}

impl Events {
    /// Writes with this client; `instance` tells this process from others.
    #[must_use]
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter { controller: "purechaos.dev/agent".to_owned(), instance };
        let recorder = Recorder::new(client.clone(), reporter.clone());
        Self { client, reporter, recorder, tasks: TaskTracker::new() }
    }

    /// Waits for the Events under way, but not for long.
    pub async fn finish(&self) {
        self.tasks.close();
        if tokio::time::timeout(LAST_EVENTS, self.tasks.wait()).await.is_err() {
            tracing::warn!(lost = self.tasks.len(), "some Events were not written before the end");
        }
    }

    /// `ChaosKilled`, on the Pod and on its workload.
    pub fn killed(&self, namespace: &str, workload: &WorkloadReference, pod: &str, uid: &str, mode: Mode) {
        let pod_reference = pod_reference(namespace, pod, uid);
        let workload_reference = workload_reference(namespace, workload);
        let note = format!("Killed Pod {pod} ({mode}) of {} {}", workload.kind, workload.name);
        self.publish(
            EventType::Normal,
            "ChaosKilled",
            "Kill",
            note.clone(),
            pod_reference.clone(),
            Some(workload_reference.clone()),
        );
        self.publish(EventType::Normal, "ChaosKilled", "Kill", note, workload_reference, Some(pod_reference));
    }

    /// `ChaosRefused`, on the workload.
    pub fn refused(&self, namespace: &str, workload: &WorkloadReference, refusal: Refusal) {
        let note = format!("No Pod of {} {} was killed: {}", workload.kind, workload.name, refusal.label());
        let regarding = workload_reference(namespace, workload);
        // Events that differ only in their note are counted as one, with the first one's note: the action tells them apart.
        self.publish(EventType::Normal, "ChaosRefused", &pascal(refusal.label()), note, regarding, None);
    }

    /// `ChaosRefused`, on the Namespace, where nothing in it may be killed. Not where the agent may not or can't write Events.
    pub fn refused_everywhere(&self, namespace: &str, uid: &str, refusal: Refusal, sentence: &str) {
        if matches!(refusal, Refusal::NotAdmitted | Refusal::NoRights | Refusal::NamespaceTerminating) {
            return;
        }
        let note = format!("Nothing was killed in namespace {namespace}: {}: {sentence}", refusal.label());
        let regarding = namespace_reference(namespace, uid);
        self.publish(EventType::Normal, "ChaosRefused", &pascal(refusal.label()), note, regarding, None);
    }

    /// `ChaosRecovered`, on the workload.
    pub fn recovered(&self, namespace: &str, recovery: &Recovery, duration: Option<Duration>) {
        let Recovery { workload, victim, victim_uid, .. } = recovery;
        let note = match duration {
            Some(duration) => format!(
                "{} {} recovered {:.1} s after Pod {victim} was killed",
                workload.kind,
                workload.name,
                duration.as_secs_f64()
            ),
            None => format!("{} {} recovered after Pod {victim} was killed", workload.kind, workload.name),
        };
        let regarding = workload_reference(namespace, workload);
        let related = Some(pod_reference(namespace, victim, victim_uid));
        self.publish(EventType::Normal, "ChaosRecovered", "Recover", note, regarding, related);
    }

    /// `ChaosRecoveryTimedOut`, on the workload.
    pub fn timed_out(&self, namespace: &str, recovery: &Recovery) {
        let Recovery { workload, victim, victim_uid, .. } = recovery;
        let note = format!(
            "{} {} did not recover within {} s after Pod {victim} was killed",
            workload.kind,
            workload.name,
            recovery.limit.as_secs()
        );
        let regarding = workload_reference(namespace, workload);
        let related = Some(pod_reference(namespace, victim, victim_uid));
        self.publish(EventType::Warning, "ChaosRecoveryTimedOut", "Recover", note, regarding, related);
    }

    /// `ChaosHalted`, on the namespace `pure-chaos`.
    pub fn halted(&self, uid: &str, text: &str) {
        let event = Event {
            type_: EventType::Warning,
            reason: "ChaosHalted".to_owned(),
            note: Some(format!("Every kill is halted: {text}")),
            action: "Halt".to_owned(),
            secondary: None,
        };
        // A recorder of its own: counted with the halt before, this one would be told with that one's reason.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        self.write(recorder, event, namespace_reference(SYSTEM_NAMESPACE, uid));
    }

    fn publish(
        &self,
        type_: EventType,
        reason: &'static str,
        action: &str,
        note: String,
        regarding: ObjectReference,
        secondary: Option<ObjectReference>,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary,
        };
        self.write(self.recorder.clone(), event, regarding);
    }

    fn write(&self, recorder: Recorder, mut event: Event, regarding: ObjectReference) {
        event.note = event.note.map(shortened);
        self.tasks.spawn(async move {
            if let Err(error) = call(recorder.publish(&event, &regarding)).await {
                let namespace = regarding.namespace.as_deref().unwrap_or_default();
                tracing::warn!(namespace, reason = event.reason, error = %error, "failed to write an Event");
            }
        });
    }
}

/// A note that the API server takes: whoever halts may write more.
fn shortened(mut note: String) -> String {
    if note.len() > LONGEST_NOTE {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE - ELLIPSIS.len()));
        note.push_str(ELLIPSIS);
    }
    note
}

/// `too_young` as `TooYoung`, the form of an Event's action.
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
        // Set to itself, or the Event would have to live in `default`.
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
    ObjectReference {
        api_version: Some("apps/v1".to_owned()),
        kind: Some(workload.kind.clone()),
        name: Some(workload.name.clone()),
        namespace: Some(namespace.to_owned()),
        uid: Some(workload.uid.clone()),
        ..ObjectReference::default()
    }
}
