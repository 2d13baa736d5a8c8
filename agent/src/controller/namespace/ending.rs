//! Ends the pending recoveries when the record of a namespace is gone.

use std::time::Duration;

use super::NamespaceTask;
use crate::cluster::live_consent::read_namespace;
use crate::recovery::RecoveryOutcome;
use crate::recovery::tracker::Ended;

/// How long the agent waits for the Pods to end, if only the Pods can tell a deleted namespace from
/// an opt-out.
const LAST_PODS: Duration = Duration::from_secs(5);

impl NamespaceTask {
    /// Ends the task after the record is gone.
    pub(super) async fn finish(mut self) {
        self.conclude().await;
        self.context.metrics.set_next_slot(&self.name, None);
    }

    /// Notes in the record what the samples found so far, for the next process.
    pub(super) fn note_samples(&mut self) {
        let sampler = self.recoveries.sampler();
        self.status_writer.set_samples(|uid| sampler.recorded(uid));
    }

    /// Ends all pending recoveries, with the outcome that the namespace is deleted or opted out.
    pub(super) async fn conclude(&mut self) -> Vec<Ended> {
        if !self.recoveries.is_empty() {
            let outcome = match read_namespace(&self.context.client, &self.name).await {
                Ok(namespace) if !namespace.is_still(&self.record.spec.namespace_uid) => {
                    RecoveryOutcome::NamespaceDeleted
                }
                Ok(_) => RecoveryOutcome::OptedOut,
                Err(error) if error.code() == Some(404) => RecoveryOutcome::NamespaceDeleted,
                Err(_) => self.outcome_by_the_pods().await,
            };
            return self.recoveries.conclude_all(outcome, &mut self.status_writer);
        }
        Vec::new()
    }

    /// Decides by the Pods whether the namespace is deleted or opted out. The agent lost its rights
    /// together with the record, but an open watch stays open for a while. A namespace that is
    /// being deleted loses all its Pods; one that opted out keeps them. No recovery can end in
    /// another way in the meantime: consent ended with the record, even if the owner opts in again.
    async fn outcome_by_the_pods(&mut self) -> RecoveryOutcome {
        let waiting = tokio::time::timeout(LAST_PODS, async {
            while !self.recoveries.all_pods_lost() {
                match self.recoveries.next_event().await {
                    Some(event) => self.recoveries.note(event),
                    None => break,
                }
            }
        });
        match waiting.await {
            Ok(()) if self.recoveries.all_pods_lost() => RecoveryOutcome::NamespaceDeleted,
            _ => RecoveryOutcome::OptedOut,
        }
    }
}
