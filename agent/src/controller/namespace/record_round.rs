//! Reports the result of a round and stores it in the record.

use jiff::Timestamp;

use super::{NamespaceTask, REST, waiting};
use crate::refusal::Refusal;
use crate::round::report::RoundReport;
use crate::status::Activity;
use crate::telemetry::fact::Fact;
use crate::telemetry::metrics::RoundOutcome;
use crate::telemetry::refusals::remembered;

impl NamespaceTask {
    /// Reports the result of a round and stores it in the record's status.
    pub(super) fn record_round(&mut self, slot: Timestamp, report: &RoundReport) {
        let told = self.status_writer.refused();
        let namespace_uid = &self.record.spec.namespace_uid;
        self.context.tell(&self.name, &Fact::Round { slot, report, namespace_uid, told });
        let told = remembered(report, told);
        self.status_writer.set_refused(told);
        let now = self.context.clock.wall();
        if let Some(observation) = &report.observation {
            self.recoveries.learn(observation);
            self.status_writer.looked_at(observation, now);
        }
        for uid in &report.changed {
            self.status_writer.rest(uid, now.checked_add(REST).unwrap_or(Timestamp::MAX), now);
        }
        let activity = match report.outcome {
            RoundOutcome::Killed => Activity::Kills,
            RoundOutcome::DryRun => Activity::DryRuns,
            _ => Activity::Nothing,
        };
        let state = report.state();
        let sentence = match &self.record.spec.reason {
            // The webhook knows why the right is missing. The API server only says that it is.
            Some(reason) if state == Refusal::NoRights.label() => reason,
            _ => &report.sentence,
        };
        let (state, activity) = if report.is_waiting { waiting(&self.record) } else { (&*state, activity) };
        self.status_writer.set_state(state, activity, sentence.clone(), now);
        if let Some(owed) = &report.owed {
            self.owed.clone_from(owed);
        }
        if !report.is_deferred {
            self.status_writer.served(slot);
        }
        for kill in &report.kills {
            self.recoveries.begin(kill);
        }
    }
}
