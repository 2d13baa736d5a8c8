//! What the agent reports about a fact, as values.

use policy::record::WorkloadReference;
use policy::settings::Mode;
use runtime::events::Event;

use crate::refusal::Refusal;
use crate::round::kill::Failure;
use crate::steady_state::hypothesis::HypothesisOutcome;
use crate::telemetry::activity::{Decision, EndedLine};
use crate::telemetry::metrics::RoundOutcome;

/// One line of the log. Fields without a value are left out of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Line {
    /// Whether the line is a warning.
    pub is_warning: bool,
    /// The message of the line: what happened, in fixed words.
    pub message: &'static str,
    /// The workload that the line is about.
    pub workload: Option<WorkloadReference>,
    /// The name of the Pod that the line is about.
    pub pod: Option<String>,
    /// The UID of that Pod.
    pub uid: Option<String>,
    /// The mode of the kill.
    pub mode: Option<&'static str>,
    /// The slot of the round.
    pub slot: Option<String>,
    /// How the round, the recovery or the hypothesis ended.
    pub outcome: Option<&'static str>,
    /// The outage that the round made.
    pub outage: Option<String>,
    /// The number of kills in the round.
    pub kills: Option<usize>,
    /// The label of the refusal or the failure of one kill.
    pub reason: Option<&'static str>,
    /// The labels of all refusals of a round, separated by commas.
    pub reasons: Option<String>,
    /// The name of the check of the steady state.
    pub check: Option<String>,
    /// A sentence that says more.
    pub sentence: Option<String>,
    /// How long the recovery took, in seconds.
    pub seconds: Option<f64>,
}

/// A change of the metrics.
#[derive(Debug, Clone, PartialEq)]
pub enum Count {
    /// A round ended with this outcome.
    Round(RoundOutcome),
    /// A round refused something for this reason. It counts once for each round and reason.
    Refusal(Refusal),
    /// A Pod of this workload was killed.
    Kill(WorkloadReference, Mode),
    /// A kill failed in this way.
    Failure(Failure),
    /// A recovery of this workload ended.
    Recovery(WorkloadReference, EndedLine),
    /// The hypothesis that a check holds ended with the recovery of this workload.
    Hypothesis {
        /// The workload.
        workload: WorkloadReference,
        /// The name of the check.
        check: String,
        /// What became of the hypothesis.
        outcome: HypothesisOutcome,
    },
}

/// Everything that the agent reports about one fact.
#[derive(Debug, Default, PartialEq)]
pub struct Tellings {
    /// Lines for the log.
    pub lines: Vec<Line>,
    /// Changes of the metrics. The end of a recovery also goes to the status page.
    pub counts: Vec<Count>,
    /// Kubernetes Events.
    pub events: Vec<Event>,
    /// Entries for the status page.
    pub entries: Vec<Decision>,
}
