//! The end of a namespace's record, and what it means for the recoveries that are pending.

use std::time::Duration;

use super::{NamespaceTask, next_event};
use crate::observe::read_namespace;
use crate::recoveries::Ended;
use crate::recovery::Outcome;

/// How long the end of the Pods is waited for, where only that tells a deleted namespace from one that opted out.
const LAST_PODS: Duration = Duration::from_secs(5);

impl NamespaceTask {
    /// The record is gone: its pending recoveries end with the namespace or with the opt-out.
    pub(super) async fn finish(mut self) {
        self.conclude().await;
        self.deps.metrics.set_next_slot(&self.name, None);
    }

    /// Ends all of them, and says how.
    pub(super) async fn conclude(&mut self) -> Vec<Ended> {
        if !self.recoveries.is_empty() {
            let outcome = match read_namespace(&self.deps.client, &self.name).await {
                Ok(namespace) if namespace.terminating => Outcome::NamespaceDeleted,
                Ok(_) => Outcome::OptedOut,
                Err(error) if error.code() == Some(404) => Outcome::NamespaceDeleted,
                Err(_) => self.outcome_by_the_pods().await,
            };
            return self.recoveries.conclude_all(outcome, &mut self.ledger);
        }
        Vec::new()
    }

    /// The rights went with the record, but an open watch lives on for a while. A namespace that is being deleted loses all its
    /// Pods, one that opted out none. Meanwhile no recovery ends in another way: with the record consent has ended, also where it is given
    /// anew.
    async fn outcome_by_the_pods(&mut self) -> Outcome {
        let waiting = tokio::time::timeout(LAST_PODS, async {
            while !self.recoveries.all_pods_lost() {
                match next_event(&mut self.watch).await {
                    Some(event) => self.recoveries.note(event),
                    None => break,
                }
            }
        });
        match waiting.await {
            Ok(()) if self.recoveries.all_pods_lost() => Outcome::NamespaceDeleted,
            _ => Outcome::OptedOut,
        }
    }
}
