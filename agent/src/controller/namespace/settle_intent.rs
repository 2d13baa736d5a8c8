//! Finds out whether kills with an unknown result happened.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Api;
use policy::record::Intent;
use policy::settings::Mode;

use super::NamespaceTask;
use crate::round::kill::is_killed;
use crate::telemetry::fact::Fact;

/// How long a kill may still take effect after this process first saw its intent. The process that
/// wrote the intent sends no further request for it, and no request takes longer than this.
const LANDS_WITHIN: Duration = Duration::from_secs(15);

/// How long a kill may take effect after the time in its intent, at most. This covers the write of
/// the intent, the last reads and the kill itself, if each call takes as long as it may.
const LANDS_AT_MOST: SignedDuration = SignedDuration::from_secs(60);

impl NamespaceTask {
    /// Finds out the results of kills that this process or an earlier one decided, and whose
    /// results are unknown.
    pub(super) async fn settle(&mut self) {
        if !self.recoveries.has_watch() {
            // Without an admitted opt-in the agent has no rights here, and kills nothing.
            return;
        }
        let open = self.status_writer.intents().to_vec();
        self.undecided.retain(|uid, _| open.iter().any(|intent| intent.kill.uid == *uid));
        for intent in open {
            self.settle_one(intent).await;
        }
    }

    async fn settle_one(&mut self, intent: Intent) {
        let may_land = self.may_land(&intent);
        let Intent { mode, kill, .. } = intent;
        let (namespace, pod, uid) = (&self.name, &kill.pod, &kill.uid);
        let pods = Api::namespaced(self.context.client.clone(), namespace);
        let mode = Mode::parse(&mode).unwrap_or(Mode::Evict);
        match is_killed(&pods, pod, uid).await {
            Ok(true) => {
                self.context.tell(namespace, &Fact::FoundOut { kill: &kill, mode, is_killed: true });
                self.recoveries.carry_on(&kill, &self.record);
                self.status_writer.killed(kill, self.context.clock.wall());
            }
            Ok(false) if may_land => {
                tracing::debug!(namespace, pod, uid, "the Pod is not killed yet, checking again");
            }
            Ok(false) => {
                self.context.tell(namespace, &Fact::FoundOut { kill: &kill, mode, is_killed: false });
                self.status_writer.settled(&kill.uid);
            }
            Err(error) => {
                tracing::warn!(namespace, pod, uid, error = %error, "failed to find out whether a Pod was killed, retrying");
            }
        }
    }

    /// Whether the kill of this intent may still be under way. This counts from when this process
    /// first saw the intent. If the time in the intent is [`LANDS_AT_MOST`] ago, the kill can't be
    /// under way any more.
    fn may_land(&mut self, intent: &Intent) -> bool {
        let now = self.context.clock.monotonic();
        let first = *self.undecided.entry(intent.kill.uid.clone()).or_insert(now);
        let decided: Option<Timestamp> = intent.kill.time.parse().ok();
        let is_old = decided.is_some_and(|at| self.context.clock.wall().duration_since(at) >= LANDS_AT_MOST);
        !is_old && now - first < LANDS_WITHIN
    }
}
