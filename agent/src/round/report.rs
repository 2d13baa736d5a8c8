//! What a round did, and how the agent describes it.

use std::collections::{BTreeMap, BTreeSet};

use policy::record::{STATE_ACTIVE, STATE_DRY_RUN, WorkloadReference};

use crate::cluster::snapshot::NamespaceSnapshot;
use crate::guard::namespace::Forbidden;
use crate::guard::pods::{Candidate, Refused};
use crate::recovery::Kill;
use crate::refusal::Refusal;
use crate::round::kill::Failure;
use crate::round::outage::Outage;
use crate::telemetry::activity::Decision;
use crate::telemetry::metrics::RoundOutcome;

/// The result of a round.
#[derive(Debug)]
#[must_use]
pub struct RoundReport {
    /// The result in one word.
    pub outcome: RoundOutcome,
    /// The kills that the API server accepted.
    pub kills: Vec<Kill>,
    /// The Pods that a dry run would have killed.
    pub dry_runs: Vec<Candidate>,
    /// The reasons for which Pods, workloads or the namespace were refused, in the order of the
    /// guards.
    pub reasons: BTreeSet<Refusal>,
    /// Workloads in which no Pod could be killed, each with the first reason in the order of the
    /// guards.
    pub refused: BTreeMap<WorkloadReference, Refusal>,
    /// UIDs of workloads in which a Pod changed during its kill, or in which a kill had no clear
    /// answer.
    pub changed: Vec<String>,
    /// For workloads in `refused`: a sentence that says more than the reason.
    pub because: BTreeMap<WorkloadReference, String>,
    /// Workloads in which a kill failed, each with the kind of failure and a sentence.
    pub failed: BTreeMap<WorkloadReference, (Failure, String)>,
    /// Each attempt to kill a Pod, in order, with its result.
    pub tried: Vec<Decision>,
    /// The outage that the round made. `None` if it made none, or did not get that far.
    pub outage: Option<Outage>,
    /// Whether Pods could have been killed, but none of their workloads was due in this slot of an
    /// `mtbf` schedule.
    pub is_waiting: bool,
    /// UIDs of workloads that are owed a turn of an `mtbf` schedule after this round. `None` if the
    /// round could not determine them.
    pub owed: Option<BTreeSet<String>>,
    /// Whether the slot waits for the platform's budget. Such a slot is not spent, and the agent
    /// may serve it later.
    pub is_deferred: bool,
    /// One sentence for the record that says why nothing was killed.
    pub sentence: String,
    /// What the round last saw in the namespace. `None` if the round did not get that far.
    pub observation: Option<NamespaceSnapshot>,
}

impl RoundReport {
    /// A report without any kills.
    pub fn new(outcome: RoundOutcome, sentence: String) -> Self {
        Self {
            outcome,
            kills: Vec::new(),
            dry_runs: Vec::new(),
            reasons: BTreeSet::new(),
            refused: BTreeMap::new(),
            changed: Vec::new(),
            because: BTreeMap::new(),
            failed: BTreeMap::new(),
            tried: Vec::new(),
            outage: None,
            is_waiting: false,
            owed: None,
            is_deferred: false,
            sentence,
            observation: None,
        }
    }

    /// The report of a round that could not be done.
    pub fn failed(sentence: String) -> Self {
        Self::new(RoundOutcome::Failed, sentence)
    }

    /// The report of a round in a namespace where nothing may be killed.
    pub fn refused(Forbidden { refusal, sentence }: Forbidden) -> Self {
        // No workload gets a turn later for a slot that the owner or the platform forbids.
        let owed = Some(BTreeSet::new());
        Self { reasons: BTreeSet::from([refusal]), owed, ..Self::new(RoundOutcome::Refused, sentence) }
    }

    /// The text for the record's `State` column: `active`, or in a few words why nothing is killed.
    #[must_use]
    pub fn state(&self) -> String {
        match self.outcome {
            RoundOutcome::Killed => STATE_ACTIVE.to_owned(),
            RoundOutcome::DryRun => STATE_DRY_RUN.to_owned(),
            RoundOutcome::Failed => match self.failed.values().next() {
                Some((Failure::Forbidden, _)) => Failure::Forbidden.label().to_owned(),
                _ => "failed".to_owned(),
            },
            RoundOutcome::NoCandidate if self.reasons.is_empty() => "no Pods".to_owned(),
            RoundOutcome::NoCandidate | RoundOutcome::Refused => {
                self.reasons.iter().map(|reason| reason.label()).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// Adds the refusals of each workload, and writes the sentence of a round without a candidate.
    /// `allowed` lists the workloads in which a Pod could have been killed if their turn had come.
    pub fn explain(&mut self, namespace: &str, refused: &[Refused], allowed: &BTreeSet<WorkloadReference>) {
        self.reasons.extend(refused.iter().map(|refused| refused.refusal));
        for told in refused {
            let Refused { pod, uid, workload, refusal, .. } = told;
            let (reason, name) = (refusal.label(), workload.as_ref().map(|workload| workload.name.as_str()));
            tracing::debug!(
                namespace,
                workload = name,
                pod,
                uid,
                reason,
                sentence = told.sentence(),
                "refused"
            );
            let Some(workload) = workload else { continue };
            if !allowed.contains(workload) {
                let first = self.refused.entry(workload.clone()).or_insert(*refusal);
                *first = (*first).min(*refusal);
                if let Some(because) = told.because.as_ref().filter(|_| *first == *refusal) {
                    self.because.insert(workload.clone(), format!("Pod {pod}: {because}"));
                }
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
                // A refusal that says more than its label may be caused by a mistake in an
                // annotation. The owner has to see it.
                let because =
                    refused.iter().find_map(|refused| Some((&refused.pod, refused.because.as_ref()?)));
                let because = because.map(|(pod, because)| format!("; Pod {pod}: {because}"));
                format!("no Pod could be killed: {}{}", counted.join(", "), because.unwrap_or_default())
            };
        }
    }
}
