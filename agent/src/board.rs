//! What the agent's own page shows: values that the tasks write down as they go. It is bounded, outlives nothing, and decides nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use policy::record::{OptIn, RecordedSettings};

use crate::ledger::Ledger;
use crate::recovery::{Outcome, Recovery};

/// How many decisions are kept, of all namespaces together.
pub const DECISIONS: usize = 50;
/// How many ended recoveries are kept of each namespace.
pub const RECOVERIES: usize = 20;
/// How long a round may take, roughly.
const LONGEST_ROUND: Duration = Duration::from_secs(120);
/// How many characters are kept of a name, a user or a schedule.
pub const TEXT: usize = 200;
/// How many characters are kept of a sentence: as many as the webhook gives a reason, so that what to do about it is not cut off.
pub const SENTENCE: usize = 1_000;

/// What is known of the halt of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Halt {
    /// It has not been looked at yet.
    #[default]
    Unknown,
    /// There is none.
    No,
    /// There is one, and this is its text.
    Yes(String),
}

/// What became of a Pod, of a workload, or of a whole round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A Pod was killed.
    Killed,
    /// A Pod would have been killed.
    DryRun,
    /// A guard refused; the label of why.
    Refused(&'static str),
    /// It was tried, and failed; the label of why, where there is one.
    Failed(Option<&'static str>),
    /// There was nothing to decide on, or nothing came of it.
    Nothing,
    /// A slot went by without a round.
    Skipped,
    /// A recovery ended.
    Ended(Outcome),
}

impl What {
    /// In one word, that of metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::DryRun => "dry_run",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
            Self::Nothing => "nothing",
            Self::Skipped => "skipped",
            Self::Ended(outcome) => outcome.label(),
        }
    }

    /// The label of the reason.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Refused(reason) => Some(reason),
            Self::Failed(reason) => reason,
            _ => None,
        }
    }
}

/// One decision, or what came of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub namespace: String,
    /// Such as `Deployment web`; empty where it is about a whole round.
    pub workload: String,
    /// The Pod's name; empty where it is about no single one.
    pub pod: String,
    /// What.
    pub what: What,
    /// In words.
    pub sentence: String,
}

/// A decision as it is shown: what is refused again and again for the same reason is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionLine {
    /// The last time.
    pub last: Decision,
    /// How many times.
    pub times: u32,
    /// The first time.
    pub since: Timestamp,
}

impl From<Decision> for DecisionLine {
    fn from(decision: Decision) -> Self {
        Self { times: 1, since: decision.at, last: decision }
    }
}

impl DecisionLine {
    /// Whether this says the same again, where nothing was done.
    fn is_repeated_by(&self, decision: &Decision) -> bool {
        let is_deed = matches!(decision.what, What::Killed | What::Ended(_));
        !is_deed && self.last == Decision { at: self.last.at, ..decision.clone() }
    }
}

/// A kill whose recovery has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingLine {
    /// Such as `Deployment web`.
    pub workload: String,
    /// The victim's name.
    pub pod: String,
    /// When it was killed.
    pub since: Timestamp,
}

/// A recovery that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedLine {
    /// How.
    pub outcome: Outcome,
    /// How long it took, where that was measured.
    pub duration: Option<Duration>,
}

/// One namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceLine {
    /// Who opted it in; empty where there is no admission.
    pub opted_in_by: String,
    /// Its settings that say when and how, with their names; empty where they are not understood.
    pub settings: Vec<(&'static str, String)>,
    /// The last slot that was served.
    pub last_slot: Option<Timestamp>,
    /// When the next round is due.
    pub next_slot: Option<Timestamp>,
    /// What came of the last round, in few words.
    pub state: String,
    /// The same in full.
    pub sentence: String,
    /// Kills since the record was made.
    pub kills: i64,
    /// How their recoveries ended: how many in each way, in words.
    pub outcomes: String,
    /// Kills whose recovery has not ended.
    pub pending: Vec<PendingLine>,
    /// The last recoveries that ended, oldest first.
    pub recoveries: VecDeque<EndedLine>,
}

/// All of it at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The halt of everything.
    pub halt: Halt,
    /// The namespaces with a record. Shared, so that a page of thousands is taken without holding up the tasks that write them.
    pub namespaces: BTreeMap<String, Arc<NamespaceLine>>,
    /// The last decisions, newest first.
    pub decisions: VecDeque<DecisionLine>,
}

/// Where the tasks write, and the page reads.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Snapshot>>);

impl Board {
    /// What is on it now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Whether everything is halted, and with which text.
    pub fn set_halt(&self, text: Option<&str>) {
        self.lock().halt = text.map_or(Halt::No, |text| Halt::Yes(cut(text, SENTENCE)));
    }

    /// A namespace has a record.
    pub fn begin(&self, namespace: &str) {
        self.lock().namespaces.insert(namespace.to_owned(), Arc::default());
    }

    /// What the record and its ledger say now.
    pub fn show(&self, namespace: &str, record: &OptIn, ledger: &Ledger, next_slot: Option<Timestamp>) {
        let user = record.spec.admission.as_ref().map(|admission| cut(&admission.user, TEXT));
        let outcomes = ledger.outcomes().iter();
        let outcomes: Vec<String> =
            outcomes.map(|(outcome, count)| format!("{count} {}", outcome.replace('_', " "))).collect();
        let shown = NamespaceLine {
            opted_in_by: user.unwrap_or_default(),
            settings: record.spec.settings.as_ref().map(settings).unwrap_or_default(),
            last_slot: ledger.last_slot(),
            next_slot,
            state: cut(ledger.state().unwrap_or_default(), TEXT),
            sentence: cut(ledger.sentence().unwrap_or_default(), SENTENCE),
            kills: ledger.kills(),
            outcomes: cut(&outcomes.join(", "), TEXT),
            ..NamespaceLine::default()
        };
        self.change(namespace, |line| {
            let (pending, recoveries) =
                (std::mem::take(&mut line.pending), std::mem::take(&mut line.recoveries));
            *line = NamespaceLine { pending, recoveries, ..shown };
        });
    }

    /// The recoveries that are pending.
    pub fn set_pending<'a>(&self, namespace: &str, pending: impl Iterator<Item = &'a Recovery>) {
        let pending = pending
            .map(|recovery| PendingLine {
                workload: cut(&format!("{} {}", recovery.workload.kind, recovery.workload.name), TEXT),
                pod: cut(&recovery.victim, TEXT),
                since: recovery.killed,
            })
            .collect();
        self.change(namespace, |line| line.pending = pending);
    }

    /// A recovery ended.
    pub fn ended(&self, namespace: &str, ended: EndedLine) {
        self.change(namespace, |line| {
            while line.recoveries.len() >= RECOVERIES {
                line.recoveries.pop_front();
            }
            line.recoveries.push_back(ended);
        });
    }

    /// A decision was made.
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
        let decisions = &mut self.lock().decisions;
        let before = decisions.iter().position(|line| line.is_repeated_by(&decision));
        let before = before.and_then(|place| decisions.remove(place));
        let line = match before {
            Some(DecisionLine { times, since, .. }) => {
                DecisionLine { last: decision, times: times.saturating_add(1), since }
            }
            None => decision.into(),
        };
        // A round is told of when it has ended, so what another namespace did meanwhile may be here already. More of a difference is a stepped clock's.
        let at = line.last.at;
        let is_later = |known: &&DecisionLine| known.last.at > at && known.last.at < at + LONGEST_ROUND;
        let later = decisions.iter().take_while(is_later).count();
        decisions.insert(later, line);
        decisions.truncate(DECISIONS);
    }

    /// A namespace has no record any more. What was decided there stays.
    pub fn forget(&self, namespace: &str) {
        self.lock().namespaces.remove(namespace);
    }

    fn change(&self, namespace: &str, change: impl FnOnce(&mut NamespaceLine)) {
        // One that has lost its record is not brought back by a task that is still ending.
        if let Some(line) = self.lock().namespaces.get_mut(namespace) {
            change(Arc::make_mut(line));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // It is whole after every statement, so a panic elsewhere can't have spoilt it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of the settings says when and how Pods die.
fn settings(recorded: &RecordedSettings) -> Vec<(&'static str, String)> {
    let dry_run = if recorded.dry_run { ", dry run" } else { "" };
    let always = [("Schedule", recorded.schedule.clone()), ("Mode", format!("{}{dry_run}", recorded.mode))];
    let optional = [
        ("Active hours", &recorded.active_hours),
        ("Days without", &recorded.except),
        ("Expires", &recorded.expires),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    always.into_iter().chain(optional).map(|(name, value)| (name, cut(&value, TEXT))).collect()
}

/// At most so many characters: annotations may be 256 KiB long.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
