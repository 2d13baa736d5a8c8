//! What the record says about the checks of the steady state.

use policy::record::{HypothesisCounts, LastBroken, SampledCheck, WorkloadReference};

use super::StatusWriter;
use crate::steady_state::hypothesis::{EndedHypothesis, HypothesisOutcome};

impl StatusWriter {
    /// Notes what the samples of the pending recoveries found so far. `sampled` gives the checks of a
    /// workload, by its UID.
    pub fn set_samples(&mut self, sampled: impl Fn(&str) -> Vec<SampledCheck>) {
        for pending in &mut self.status.pending {
            pending.checks = sampled(&pending.workload.uid);
        }
    }

    /// For each check, how often it held during recoveries.
    #[must_use]
    pub fn hypotheses(&self) -> &[HypothesisCounts] {
        &self.status.hypotheses
    }

    /// Counts what became of the hypothesis that a check holds during a recovery.
    pub fn hypothesis_ended(&mut self, workload: &WorkloadReference, ended: &EndedHypothesis) {
        let known = self.status.hypotheses.iter().position(|known| known.check == ended.check);
        let at = known.unwrap_or_else(|| {
            let (held, broken, unknown) = (0, 0, 0);
            let check = ended.check.clone();
            self.status.hypotheses.push(HypothesisCounts { check, held, broken, unknown, last_broken: None });
            self.status.hypotheses.len() - 1
        });
        let counts = &mut self.status.hypotheses[at];
        let count = match ended.outcome {
            HypothesisOutcome::Held => &mut counts.held,
            HypothesisOutcome::Broken => &mut counts.broken,
            HypothesisOutcome::Unknown => &mut counts.unknown,
        };
        *count = count.saturating_add(1);
        if let Some(sample) = &ended.broken {
            counts.last_broken = Some(LastBroken { workload: workload.clone(), sample: sample.clone() });
        }
    }
}
