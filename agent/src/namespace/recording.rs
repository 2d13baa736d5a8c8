//! What a round came to: counted, told, and remembered in the record.

use std::collections::BTreeMap;

use jiff::Timestamp;
use policy::record::WorkloadReference;

use super::{NamespaceTask, REST};
use crate::decisions::decisions;
use crate::deps::Deps;
use crate::ledger::Activity;
use crate::metrics::RoundOutcome;
use crate::refusal::Refusal;
use crate::report::RoundReport;

/// What the last round's Events said: what stays so isn't told again.
#[derive(Default)]
pub(super) struct Told {
    refused: BTreeMap<WorkloadReference, Refusal>,
    /// What refused the round as a whole.
    whole: Option<Refusal>,
    /// Whether this process has done a round here.
    has_served: bool,
}

impl NamespaceTask {
    /// Counts, tells and remembers what a round did.
    pub(super) fn record_round(&mut self, slot: Timestamp, report: &RoundReport) {
        let Deps { metrics, events, clock, board, .. } = &self.deps;
        let state = report.state();
        for decision in decisions(report, &self.name, clock.wall()) {
            board.decide(decision);
        }
        let RoundReport {
            outcome,
            kills,
            dry_runs: _,
            reasons,
            refused,
            changed,
            is_waiting,
            tried: _,
            sentence,
            observation,
        } = report;
        metrics.round(&self.name, *outcome);
        for reason in reasons {
            metrics.refusal(&self.name, *reason);
        }
        tracing::info!(
            namespace = self.name,
            slot = %slot,
            outcome = outcome.label(),
            kills = kills.len(),
            reasons = reasons.iter().map(|reason| reason.label()).collect::<Vec<_>>().join(","),
            sentence,
            "round"
        );
        let whole =
            reasons.first().copied().filter(|_| *outcome == RoundOutcome::Refused && observation.is_none());
        // Told by an earlier process, as the record says.
        let is_told = !self.told.has_served && self.ledger.state() == Some(state.as_str());
        self.told.has_served = true;
        if let Some(refusal) = whole.filter(|refusal| !is_told && self.told.whole != Some(*refusal)) {
            events.refused_everywhere(&self.name, &self.record.spec.namespace_uid, refusal, sentence);
        }
        self.told.whole = whole;
        if let Some(observation) = observation {
            for (workload, refusal) in refused {
                if !is_told && self.told.refused.get(workload) != Some(refusal) {
                    events.refused(&self.name, workload, *refusal);
                }
            }
            self.told.refused.clone_from(refused);
            self.recoveries.learn(observation);
            self.ledger.looked_at(observation, clock.wall());
        }
        let now = clock.wall();
        for uid in changed {
            self.ledger.rest(uid, now.checked_add(REST).unwrap_or(Timestamp::MAX), now);
        }
        let activity = match outcome {
            RoundOutcome::Killed => Activity::Kills,
            RoundOutcome::DryRun => Activity::DryRuns,
            _ => Activity::Nothing,
        };
        if !is_waiting {
            self.ledger.set_state(&state, activity, sentence.clone(), clock.wall());
        }
        self.ledger.served(slot);
        for kill in kills {
            self.recoveries.begin(kill);
        }
    }
}
