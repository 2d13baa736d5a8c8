//! The data behind the status page. Tasks write it as they work. It is bounded, it is lost when the
//! process ends, and no decision depends on it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use policy::record::{HypothesisCounts, OptIn, RecordedSettings};
use runtime::text::cut;

use crate::recovery::{Recovery, RecoveryOutcome};
use crate::status::StatusWriter;
use crate::steady_state::hypothesis::HypothesisOutcome;

/// How many decisions are kept for all namespaces together.
pub const DECISIONS: usize = 50;
/// How many ended recoveries are kept for each namespace.
pub const RECOVERIES: usize = 20;
/// How long a round takes at most, roughly.
const LONGEST_ROUND: Duration = Duration::from_secs(120);
/// The most bytes that are kept of a name, a user or a schedule.
pub const TEXT: usize = 200;
/// The most bytes that are kept of a sentence. The webhook allows a reason the same length, so that
/// its advice is not cut off.
pub const SENTENCE: usize = 1_000;

/// Whether the whole cluster is halted, as far as the agent knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Halt {
    /// The agent has not read it yet.
    #[default]
    Unknown,
    /// The cluster is not halted.
    No,
    /// The cluster is halted, or the agent can't read whether it is. The text says why.
    Yes(String),
}

/// What happened to a Pod, a workload or a whole round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecisionKind {
    /// A Pod was killed.
    Killed,
    /// A dry run would have killed a Pod.
    DryRun,
    /// A guard refused. The value is the label of the reason.
    Refused(&'static str),
    /// A kill or a round failed. The value is the label of the failure, if it has one.
    Failed(Option<&'static str>),
    /// There was no Pod to kill, or a kill turned out not to have happened.
    Nothing,
    /// A slot was skipped.
    Skipped,
    /// A check of the steady state broke during a recovery.
    Broken,
    /// A recovery ended.
    Ended(RecoveryOutcome),
}

impl DecisionKind {
    /// The word for this kind on the page. If a metric counts the same thing, its label has the
    /// same word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::DryRun => "dry_run",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
            Self::Nothing => "nothing",
            Self::Skipped => "skipped",
            Self::Broken => HypothesisOutcome::Broken.label(),
            Self::Ended(outcome) => outcome.label(),
        }
    }

    /// The label of the reason or the failure, if there is one.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Refused(reason) => Some(reason),
            Self::Failed(reason) => reason,
            _ => None,
        }
    }
}

/// One decision of the agent, or its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// When the agent decided.
    pub at: Timestamp,
    /// The namespace.
    pub namespace: String,
    /// The workload, such as `Deployment web`. Empty if the decision is about a whole round.
    pub workload: String,
    /// The name of the Pod. Empty if the decision is not about a single Pod.
    pub pod: String,
    /// What happened.
    pub what: DecisionKind,
    /// A sentence that says more.
    pub sentence: String,
}

/// A decision as the page shows it. Repeated refusals for the same reason share one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionLine {
    /// The latest of these decisions.
    pub last: Decision,
    /// How many decisions the line stands for.
    pub times: u32,
    /// When the first of them happened.
    pub since: Timestamp,
}

impl From<Decision> for DecisionLine {
    fn from(decision: Decision) -> Self {
        Self { times: 1, since: decision.at, last: decision }
    }
}

impl DecisionLine {
    /// Whether `decision` says the same again. A kill or the end of a recovery is never a
    /// repetition.
    fn is_repeated_by(&self, decision: &Decision) -> bool {
        let is_deed =
            matches!(decision.what, DecisionKind::Killed | DecisionKind::Broken | DecisionKind::Ended(_));
        !is_deed && self.last == Decision { at: self.last.at, ..decision.clone() }
    }
}

/// A kill whose recovery has not ended, as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingLine {
    /// The workload, such as `Deployment web`.
    pub workload: String,
    /// The name of the Pod that was killed.
    pub pod: String,
    /// When the Pod was killed.
    pub since: Timestamp,
}

/// A recovery that ended, as the page shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedLine {
    /// How the recovery ended.
    pub outcome: RecoveryOutcome,
    /// How long the recovery took. `None` if the time was not measured.
    pub duration: Option<Duration>,
}

/// One namespace, as the page shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceLine {
    /// Who opted in. Empty if no admission is recorded.
    pub opted_in_by: String,
    /// The settings that say when and how Pods are killed, with their names on the page. Empty if
    /// the settings are not understood.
    pub settings: Vec<(&'static str, String)>,
    /// The last slot that was served.
    pub last_slot: Option<Timestamp>,
    /// When the next round is due.
    pub next_slot: Option<Timestamp>,
    /// The state in the record: `active`, or in a few words why nothing is killed.
    pub state: String,
    /// A sentence that explains the state.
    pub sentence: String,
    /// The number of kills since the record was created.
    pub kills: i64,
    /// How many recoveries ended with each outcome, as text.
    pub outcomes: String,
    /// For each check of the steady state, how often it held during recoveries, as text.
    pub hypotheses: String,
    /// Kills whose recovery has not ended.
    pub pending: Vec<PendingLine>,
    /// The latest recoveries that ended, oldest first.
    pub recoveries: VecDeque<EndedLine>,
}

/// All data of the page at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether the whole cluster is halted.
    pub halt: Halt,
    /// The namespaces with a record. They are shared, so that a snapshot of thousands of them does
    /// not hold up the tasks that write them.
    pub namespaces: BTreeMap<String, Arc<NamespaceLine>>,
    /// The latest decisions, newest first.
    pub decisions: VecDeque<DecisionLine>,
}

/// The log that tasks write and the status page reads.
#[derive(Debug, Clone, Default)]
pub struct ActivityLog(Arc<Mutex<Snapshot>>);

impl ActivityLog {
    /// A copy of the current data.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0.lock().clone()
    }

    /// Sets whether the whole cluster is halted. `text` is the text of the halt.
    pub fn set_halt(&self, text: Option<&str>) {
        self.0.lock().halt = text.map_or(Halt::No, |text| Halt::Yes(cut(text, SENTENCE)));
    }

    /// Adds a namespace that has a record.
    pub fn begin(&self, namespace: &str) {
        self.0.lock().namespaces.insert(namespace.to_owned(), Arc::default());
    }

    /// Shows the current record and status of a namespace.
    pub fn show(
        &self,
        namespace: &str,
        record: &OptIn,
        status_writer: &StatusWriter,
        next_slot: Option<Timestamp>,
    ) {
        let user = record.spec.admission.as_ref().map(|admission| cut(&admission.user, TEXT));
        let outcomes = status_writer.outcomes().iter();
        let outcomes: Vec<String> =
            outcomes.map(|(outcome, count)| format!("{count} {}", outcome.replace('_', " "))).collect();
        let hypotheses: Vec<String> = status_writer.hypotheses().iter().map(hypothesis).collect();
        let shown = NamespaceLine {
            opted_in_by: user.unwrap_or_default(),
            settings: record.spec.settings.as_ref().map(settings).unwrap_or_default(),
            last_slot: status_writer.last_slot(),
            next_slot,
            state: cut(status_writer.state().unwrap_or_default(), TEXT),
            sentence: cut(status_writer.sentence().unwrap_or_default(), SENTENCE),
            kills: status_writer.kills(),
            outcomes: cut(outcomes.join(", "), TEXT),
            hypotheses: cut(hypotheses.join(", "), SENTENCE),
            ..NamespaceLine::default()
        };
        self.change(namespace, |line| {
            let (pending, recoveries) =
                (std::mem::take(&mut line.pending), std::mem::take(&mut line.recoveries));
            *line = NamespaceLine { pending, recoveries, ..shown };
        });
    }

    /// Sets the pending recoveries of a namespace.
    pub fn set_pending<'a>(&self, namespace: &str, pending: impl Iterator<Item = &'a Recovery>) {
        let pending = pending
            .map(|recovery| PendingLine {
                workload: cut(format!("{} {}", recovery.workload.kind, recovery.workload.name), TEXT),
                pod: cut(recovery.pods(), TEXT),
                since: recovery.killed,
            })
            .collect();
        self.change(namespace, |line| line.pending = pending);
    }

    /// Adds a recovery that ended.
    pub fn ended(&self, namespace: &str, ended: EndedLine) {
        self.change(namespace, |line| {
            while line.recoveries.len() >= RECOVERIES {
                line.recoveries.pop_front();
            }
            line.recoveries.push_back(ended);
        });
    }

    /// Adds a decision.
    pub fn decide(&self, decision: Decision) {
        let Decision { at, namespace, workload, pod, what, sentence } = decision;
        let decision = Decision {
            at,
            namespace: cut(&namespace, TEXT),
            workload: cut(&workload, TEXT),
            pod: cut(&pod, TEXT),
            what,
            sentence: cut(&sentence, SENTENCE),
        };
        let decisions = &mut self.0.lock().decisions;
        let before = decisions.iter().position(|line| line.is_repeated_by(&decision));
        let before = before.and_then(|place| decisions.remove(place));
        let line = match before {
            Some(DecisionLine { times, since, .. }) => {
                DecisionLine { last: decision, times: times.saturating_add(1), since }
            }
            None => decision.into(),
        };
        // A round is reported when it has ended, so later decisions of other namespaces may already
        // be in the list. A larger difference means that somebody set the clock.
        let at = line.last.at;
        let is_later = |known: &&DecisionLine| known.last.at > at && known.last.at < at + LONGEST_ROUND;
        let later = decisions.iter().take_while(is_later).count();
        decisions.insert(later, line);
        decisions.truncate(DECISIONS);
    }

    /// Removes a namespace that has no record any more. Its decisions stay.
    pub fn forget(&self, namespace: &str) {
        self.0.lock().namespaces.remove(namespace);
    }

    fn change(&self, namespace: &str, change: impl FnOnce(&mut NamespaceLine)) {
        // A task that is still ending must not bring back a namespace without a record.
        if let Some(line) = self.0.lock().namespaces.get_mut(namespace) {
            change(Arc::make_mut(line));
        }
    }
}

/// The settings that say when and how Pods are killed.
fn settings(recorded: &RecordedSettings) -> Vec<(&'static str, String)> {
    let dry_run = if recorded.dry_run { ", dry run" } else { "" };
    let always = [("Schedule", recorded.schedule.clone()), ("Mode", format!("{}{dry_run}", recorded.mode))];
    let optional = [
        ("Active hours", &recorded.active_hours),
        ("Excepted days", &recorded.except),
        ("Expires", &recorded.expires),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    always.into_iter().chain(optional).map(|(name, value)| (name, cut(&value, TEXT))).collect()
}

/// How often a check held, in a few words.
fn hypothesis(counts: &HypothesisCounts) -> String {
    let HypothesisCounts { check, held, broken, unknown, last_broken: _ } = counts;
    let all = [(held, "held"), (broken, "broke"), (unknown, "unknown")];
    let told = all.iter().filter(|(count, _)| **count > 0).map(|(count, word)| format!("{word} {count}×"));
    format!("{check} {}", told.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests;
