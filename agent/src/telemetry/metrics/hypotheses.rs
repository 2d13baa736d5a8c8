//! The counters of what became of the hypotheses.

use policy::record::WorkloadReference;
use prometheus::{IntCounterVec, Opts, Registry};

use crate::steady_state::hypothesis::HypothesisOutcome;

/// `pure_chaos_hypotheses_total`.
#[derive(Clone)]
pub struct Hypotheses {
    counters: IntCounterVec,
    /// The checks that the platform's policy defines. There can't be series of other checks.
    checks: Vec<String>,
}

impl Hypotheses {
    /// Makes the metric without series and registers it.
    ///
    /// # Errors
    /// When the registry already has a metric of this name.
    pub fn new(registry: &Registry, checks: Vec<String>) -> prometheus::Result<Self> {
        let help = "Checks sampled from a kill until its recovery ended, by what became of the hypothesis that they hold.";
        let counters = IntCounterVec::new(
            Opts::new("pure_chaos_hypotheses_total", help),
            &["target_namespace", "workload_kind", "workload", "check", "outcome"],
        )?;
        registry.register(Box::new(counters.clone()))?;
        Ok(Self { counters, checks })
    }

    /// Starts the series of a workload and a check at 0.
    pub fn begin(&self, namespace: &str, workload: &WorkloadReference, check: &str) {
        for outcome in HypothesisOutcome::ALL {
            let labels = [namespace, &workload.kind, &workload.name, check, outcome.label()];
            self.counters.with_label_values(&labels);
        }
    }

    /// Counts what became of a hypothesis.
    pub fn ended(
        &self,
        namespace: &str,
        workload: &WorkloadReference,
        check: &str,
        outcome: HypothesisOutcome,
    ) {
        let labels = [namespace, &workload.kind, &workload.name, check, outcome.label()];
        self.counters.with_label_values(&labels).inc();
    }

    /// Removes the series of a workload.
    pub fn forget(&self, namespace: &str, kind: &str, name: &str) {
        for check in &self.checks {
            for outcome in HypothesisOutcome::ALL {
                // Removing a series that does not exist gives an error, which can be ignored.
                let labels = [namespace, kind, name, check.as_str(), outcome.label()];
                drop(self.counters.remove_label_values(&labels));
            }
        }
    }
}
