//! What a round did, and the words for it.

use std::collections::{BTreeMap, BTreeSet};

use policy::record::WorkloadReference;

use crate::board::Decision;
use crate::guards::{Candidate, Refused};
use crate::ledger::{STATE_ACTIVE, STATE_DRY_RUN};
use crate::metrics::RoundOutcome;
use crate::permission::Forbidden;
use crate::recovery::Kill;
use crate::refusal::Refusal;
use crate::views::Observation;

/// What a round did.
#[derive(Debug)]
#[must_use]
pub struct RoundReport {
    /// In one word.
    pub outcome: RoundOutcome,
    /// The accepted kills.
    pub kills: Vec<Kill>,
    /// What would have been killed.
    pub dry_runs: Vec<Candidate>,
    /// Each reason of a refusal, in the guards' order.
    pub reasons: BTreeSet<Refusal>,
    /// Workloads of which nothing could be killed, with the first guard's reason.
    pub refused: BTreeMap<WorkloadReference, Refusal>,
    /// UIDs of workloads of which a Pod changed while it was being killed, or may have been killed without an answer.
    pub changed: Vec<String>,
    /// Each kill that was tried, in order, and what came of it.
    pub tried: Vec<Decision>,
    /// Whether nothing was refused, only no workload was due in this slot of an `mtbf` schedule.
    pub is_waiting: bool,
    /// For the record: why nothing was killed, in a sentence.
    pub sentence: String,
    /// What was seen, where it was seen.
    pub observation: Option<Observation>,
}

impl RoundReport {
    /// With nothing done.
    pub fn new(outcome: RoundOutcome, sentence: String) -> Self {
        Self {
            outcome,
            kills: Vec::new(),
            dry_runs: Vec::new(),
            reasons: BTreeSet::new(),
            refused: BTreeMap::new(),
            changed: Vec::new(),
            tried: Vec::new(),
            is_waiting: false,
            sentence,
            observation: None,
        }
    }

    /// Of a round that could not be done.
    pub fn failed(sentence: String) -> Self {
        Self::new(RoundOutcome::Failed, sentence)
    }

    /// Of a namespace in which nothing may be killed.
    pub fn refused(Forbidden { refusal, sentence }: Forbidden) -> Self {
        Self { reasons: BTreeSet::from([refusal]), ..Self::new(RoundOutcome::Refused, sentence) }
    }

    /// For the record's column: `active`, or why nothing is being killed, in few words.
    #[must_use]
    pub fn state(&self) -> String {
        match self.outcome {
            RoundOutcome::Killed => STATE_ACTIVE.to_owned(),
            RoundOutcome::DryRun => STATE_DRY_RUN.to_owned(),
            RoundOutcome::Failed => "failed".to_owned(),
            RoundOutcome::NoCandidate if self.reasons.is_empty() => "no Pods".to_owned(),
            RoundOutcome::NoCandidate | RoundOutcome::Refused => {
                self.reasons.iter().map(|reason| reason.label()).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// Adds what the guards said, workload by workload, and finds the words for it.
    pub fn explain(&mut self, namespace: &str, refused: &[Refused], candidates: &[Candidate]) {
        self.reasons.extend(refused.iter().map(|refused| refused.refusal));
        for Refused { pod, uid, workload, refusal } in refused {
            let (reason, name) = (refusal.label(), workload.as_ref().map(|workload| workload.name.as_str()));
            tracing::debug!(namespace, workload = name, pod, uid, reason, "refused");
            let Some(workload) = workload else { continue };
            if candidates.iter().all(|candidate| candidate.workload.reference != *workload) {
                let first = self.refused.entry(workload.clone()).or_insert(*refusal);
                *first = (*first).min(*refusal);
            }
        }
        if self.outcome == RoundOutcome::NoCandidate {
            let mut counts: BTreeMap<Refusal, usize> = BTreeMap::new();
            for refused in refused {
                *counts.entry(refused.refusal).or_default() += 1;
            }
            let counted: Vec<String> =
                counts.iter().map(|(refusal, pods)| format!("{pods} {}", refusal.label())).collect();
            self.sentence = if self.is_waiting {
                "no workload was due in this slot".to_owned()
            } else if counted.is_empty() {
                "there are no Pods".to_owned()
            } else {
                format!("no Pod could be killed: {}", counted.join(", "))
            };
        }
    }
}
