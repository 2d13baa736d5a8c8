//! Finding out what became of a kill that was decided and whose result isn't known.

use kube::Api;
use policy::record::Intent;
use policy::settings::Mode;

use super::NamespaceTask;
use crate::board::What;
use crate::decisions::found_out;
use crate::kill::is_killed;

impl NamespaceTask {
    /// Finds out what became of a kill that was decided, by this process or one before it, and whose result isn't known.
    pub(super) async fn settle(&mut self) {
        let Some(Intent { mode, kill, .. }) = self.ledger.intent().cloned() else { return };
        if self.watch.is_none() {
            // Without an admission there are no rights; nor is anything killed.
            return;
        }
        let (namespace, workload, pod, uid) = (&self.name, &kill.workload, &kill.pod, &kill.uid);
        let pods = Api::namespaced(self.deps.client.clone(), namespace);
        match is_killed(&pods, pod, uid).await {
            Ok(true) => {
                tracing::info!(
                    namespace,
                    workload = workload.name,
                    pod,
                    uid,
                    mode,
                    "killed, as was found out later"
                );
                let mode = Mode::parse(&mode).unwrap_or(Mode::Evict);
                self.deps.metrics.kill(namespace, workload, mode);
                self.deps.events.killed(namespace, workload, pod, uid, mode);
                let sentence = format!("mode {}, as was found out later", mode.word());
                let now = self.deps.clock.wall();
                self.deps.board.decide(found_out(namespace, &kill, What::Killed, sentence, now));
                self.ledger.settled();
                self.recoveries.carry_on(&kill, &self.record);
                self.ledger.killed(kill);
            }
            Ok(false) => {
                tracing::info!(
                    namespace,
                    workload = workload.name,
                    pod,
                    uid,
                    "not killed, as was found out later"
                );
                let sentence = "not killed, as was found out later".to_owned();
                let now = self.deps.clock.wall();
                self.deps.board.decide(found_out(namespace, &kill, What::Nothing, sentence, now));
                self.ledger.settled();
            }
            Err(error) => {
                tracing::warn!(namespace, pod, uid, error = %error, "failed to find out whether a Pod was killed, it is tried again");
            }
        }
    }
}
