//! Samples the chosen checks once a second while recoveries of a namespace are pending.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use policy::record::{Pending, SampledCheck, WorkloadReference};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Finding;
use super::hypothesis::{EndedHypothesis, Hypothesis};
use crate::context::Context;
use crate::recovery::Kill;
use crate::telemetry::fact::Fact;

/// How often a check is sampled. A sample whose answer takes longer delays the next one.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the end of a recovery waits for open questions. No check may take longer
/// (`policy::steady_state`).
const LONGEST_WAIT: Duration = Duration::from_secs(11);

/// The sampler of one namespace. Dropping it ends its tasks.
pub struct Sampler {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    context: Context,
    namespace: String,
    state: Mutex<State>,
    /// Wakes those who wait for an answer.
    answered: Notify,
    /// Wakes the namespace's task when a sample breaks a check.
    broke: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// The pending recoveries whose checks are sampled, by the UID of the workload.
    windows: BTreeMap<String, Window>,
    /// The checks that have a task.
    running: BTreeSet<String>,
    /// Since when the question of a check is open.
    open: BTreeMap<String, Instant>,
}

/// The time from a kill until the recovery ends.
struct Window {
    workload: WorkloadReference,
    pod: String,
    pod_uid: String,
    killed: Timestamp,
    hypotheses: Vec<Hypothesis>,
}

/// A check that a sample broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The name of the check.
    pub check: String,
    /// What was seen instead.
    pub saw: String,
}

impl Sampler {
    /// A sampler for the recoveries of a namespace.
    #[must_use]
    pub fn new(context: &Context, namespace: &str) -> Self {
        let shared = Shared {
            context: context.clone(),
            namespace: namespace.to_owned(),
            state: Mutex::default(),
            answered: Notify::new(),
            broke: Arc::default(),
        };
        Self { shared: Arc::new(shared), tasks: Mutex::default() }
    }

    /// Begins to sample the checks of a kill, unless they are sampled for its workload already.
    pub fn begin(&self, kill: &Kill) {
        let is_broken: Vec<bool> = {
            let state = self.shared.state.lock();
            let of = |check: &String| {
                let all = state.windows.values().flat_map(|window| &window.hypotheses);
                all.filter(|known| known.check == *check).any(|known| !known.holds())
            };
            kill.checks.iter().map(of).collect()
        };
        let begin = |(check, is_broken): (&String, bool)| {
            let begin = if is_broken { Hypothesis::begin_broken } else { Hypothesis::begin };
            begin(check, kill.answered)
        };
        let hypotheses = kill.checks.iter().zip(is_broken).map(begin).collect();
        self.open(&kill.pending(), kill.at, hypotheses);
    }

    /// Continues the samples for a recovery from the record.
    pub fn resume(&self, left: &Pending, killed: Timestamp) {
        let now = self.shared.context.clock.monotonic();
        let resumed = left.checks.iter().map(|recorded| Hypothesis::resume(recorded, now)).collect();
        self.open(left, killed, resumed);
    }

    fn open(&self, kill: &Pending, killed: Timestamp, hypotheses: Vec<Hypothesis>) {
        if hypotheses.is_empty() {
            return;
        }
        let checks: Vec<String> = hypotheses.iter().map(|hypothesis| hypothesis.check.clone()).collect();
        for check in &checks {
            self.shared.context.metrics.begin_hypothesis(&self.shared.namespace, &kill.workload, check);
        }
        let mut state = self.shared.state.lock();
        state.windows.entry(kill.workload.uid.clone()).or_insert_with(|| Window {
            workload: kill.workload.clone(),
            pod: kill.pod.clone(),
            pod_uid: kill.uid.clone(),
            killed,
            hypotheses,
        });
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        for check in checks {
            if state.running.insert(check.clone()) {
                tasks.spawn(sample(Arc::clone(&self.shared), check));
            }
        }
    }

    /// Is notified when a sample breaks a check. The record should then be written.
    #[must_use]
    pub fn broke(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.broke)
    }

    /// Waits until the questions are answered that were asked for the recovery of a workload until
    /// now. Such an answer belongs to the recovery, even if it comes just after its end.
    pub async fn answers(&self, workload_uid: &str) {
        let now = self.shared.context.clock.monotonic();
        let wait = async {
            loop {
                let answered = self.shared.answered.notified();
                if !self.shared.is_asking(workload_uid, now) {
                    return;
                }
                answered.await;
            }
        };
        // A check has its own, shorter time limit.
        drop(tokio::time::timeout(LONGEST_WAIT, wait).await);
    }

    /// Ends the samples for the recovery of a workload, and says what became of the hypotheses.
    pub fn end(&self, workload_uid: &str) -> Vec<EndedHypothesis> {
        let mut state = self.shared.state.lock();
        let until = self.shared.context.clock.monotonic();
        let hypotheses = state.windows.remove(workload_uid).into_iter().flat_map(|window| window.hypotheses);
        let end = |mut hypothesis: Hypothesis| {
            let since = state.open.get(&hypothesis.check).copied();
            if since.is_some_and(|since| until.saturating_duration_since(since) >= INTERVAL) {
                hypothesis.is_unanswered();
            }
            hypothesis.end(until)
        };
        hypotheses.map(end).collect()
    }

    /// Ends the samples for all other workloads without a result, because another process tells it.
    pub fn retain(&self, is_pending: impl Fn(&str) -> bool) {
        self.shared.state.lock().windows.retain(|uid, _| is_pending(uid));
    }

    /// The sampled checks of a workload, in the form in which the record stores them.
    #[must_use]
    pub fn recorded(&self, workload_uid: &str) -> Vec<SampledCheck> {
        let state = self.shared.state.lock();
        let hypotheses = state.windows.get(workload_uid).into_iter().flat_map(|window| &window.hypotheses);
        hypotheses.map(Hypothesis::recorded).collect()
    }

    /// A check that a sample broke, in one of these workloads.
    #[must_use]
    pub fn broken(&self, is_concerned: impl Fn(&str) -> bool) -> Option<Broken> {
        let state = self.shared.state.lock();
        let concerned = state.windows.iter().filter(|(uid, _)| is_concerned(uid));
        concerned.flat_map(|(_, window)| &window.hypotheses).find_map(|hypothesis| {
            let saw = hypothesis.recorded().broken?.saw;
            Some(Broken { check: hypothesis.check.clone(), saw })
        })
    }
}

/// Samples one check until no recovery needs it.
async fn sample(shared: Arc<Shared>, check: String) {
    while let Some(not_before) = shared.next_not_before(&check) {
        let Context { clock, prober, .. } = &shared.context;
        let begun = clock.monotonic();
        shared.state.lock().open.insert(check.clone(), begun);
        let finding = prober.ask_one(&shared.namespace, &check, Some(not_before)).await;
        shared.enter(&finding);
        let took = clock.monotonic().saturating_duration_since(begun);
        tokio::time::sleep(INTERVAL.saturating_sub(took)).await;
    }
}

impl Shared {
    /// The instant before which the next sample of a check may not be asked. `None` if no recovery
    /// needs one: the task of the check then ends.
    fn next_not_before(&self, check: &str) -> Option<Instant> {
        let mut state = self.state.lock();
        let all = state.windows.values().flat_map(|window| &window.hypotheses);
        let of_check = all.filter(|hypothesis| hypothesis.check == check);
        let newest = of_check.map(Hypothesis::next_not_before).max();
        if newest.is_none() {
            state.running.remove(check);
        }
        newest
    }

    /// Takes over a sample. Reports each recovery whose hypothesis it breaks.
    fn enter(&self, finding: &Finding) {
        let at = self.context.clock.wall();
        let mut state = self.state.lock();
        state.open.remove(&finding.check);
        for window in state.windows.values_mut() {
            let Window { workload, pod, pod_uid, killed, hypotheses } = window;
            let of_check = hypotheses.iter_mut().filter(|hypothesis| hypothesis.check == finding.check);
            for broken in of_check.filter_map(|hypothesis| hypothesis.sample(finding, at)) {
                let fact = Fact::HypothesisBroken {
                    workload,
                    pod,
                    pod_uid,
                    killed: *killed,
                    check: &finding.check,
                    broken,
                };
                self.context.tell(&self.namespace, &fact);
                self.broke.notify_one();
            }
        }
        drop(state);
        self.answered.notify_waiters();
    }

    /// Whether a question of a workload's checks is open that was asked until `until`.
    fn is_asking(&self, workload_uid: &str, until: Instant) -> bool {
        let state = self.state.lock();
        let window = state.windows.get(workload_uid);
        let mut checks = window.into_iter().flat_map(|window| &window.hypotheses).map(|known| &known.check);
        checks.any(|check| state.open.get(check).is_some_and(|since| *since <= until))
    }
}
