//! The actions of people and controllers, and the mishaps, in a walk. A seed determines them.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::stage::noon;

use super::ambush::Ambush;
use super::faults::{Class, Fate, Watched};
use super::objects::{self, SYSTEM};
use super::world::World;

/// One step. If a step selects something, it selects by number among the things that exist at that
/// time.
#[derive(Debug, Clone)]
pub enum Step {
    /// A fault of this many calls of a class, for this many seconds.
    Fault(Class, Fate, usize, u64),
    /// Events are lost, come twice, or are late by this many milliseconds for this many seconds.
    Lose(Watched, usize),
    Double(Watched, usize),
    Late(Watched, u64, u64),
    /// A watch is silent for this many seconds.
    Deaf(Watched, u64),
    Break(Watched),
    /// A watch breaks, and no new watch can begin for this many seconds.
    Refuse(Watched, u16, u64),
    /// A watch breaks, and the next one begins too late in the history.
    Expire(Watched),
    Crash(usize, u64),
    Term(usize, u64),
    Clock(usize, i64),
    Annotate(usize, &'static str, Option<String>),
    /// An annotation is set while no webhook watches.
    AnnotateUnseen(usize, &'static str, Option<String>),
    HaltEverything(bool),
    /// Somebody sets `minAvailable` of a workload's budget, or of a second one, or removes it.
    Budget(usize, bool, Option<usize>),
    Scale(usize, usize),
    RollOut(usize),
    DeleteWorkload(usize),
    /// A Namespace is deleted. Another one of its name follows after this many seconds.
    DeleteNamespace(usize, u64),
    DeletePod(usize),
    Exclude(usize, bool),
    Unready(usize, u64),
    /// A user acts just after the next intent is stored.
    Ambush(Ambush),
    Nothing,
}

/// The settings of a walk.
pub fn settings(rng: &mut ChaCha8Rng) -> BTreeMap<String, String> {
    let one = |rng: &mut ChaCha8Rng, of: &[&str]| of[rng.random_range(0..of.len())].to_owned();
    let settings = [
        ("chaos", "yes".to_owned()),
        ("purechaos.dev/schedule", one(rng, &["every 15s", "every 20s", "every 30s"])),
        ("purechaos.dev/min-age", "5s".to_owned()),
        ("purechaos.dev/recovery-deadline", "60s".to_owned()),
        ("purechaos.dev/kinds", "Deployment,StatefulSet,ReplicaSet,DaemonSet,Rollout".to_owned()),
        ("purechaos.dev/mode", one(rng, &["evict", "evict", "delete", "delete", "force"])),
        ("purechaos.dev/limit", one(rng, &["1", "2", "3"])),
        ("purechaos.dev/single-replica", one(rng, &["refuse", "refuse", "allow"])),
    ];
    settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Draws one step.
pub fn draw(rng: &mut ChaCha8Rng) -> Step {
    let watched = if rng.random_bool(0.8) { Watched::Pods } else { Watched::Records };
    let pick = rng.random_range(0..64);
    match rng.random_range(0..112) {
        0..30 => fault(rng),
        30..34 => Step::Lose(watched, rng.random_range(1..4)),
        34..37 => Step::Double(watched, rng.random_range(1..6)),
        37..41 => Step::Late(watched, rng.random_range(50..1_500), rng.random_range(5..60)),
        41..44 => Step::Deaf(watched, rng.random_range(5..90)),
        44..46 => Step::Break(watched),
        46..50 => Step::Refuse(watched, [500, 410, 429, 503][pick % 4], rng.random_range(1..90)),
        50..52 => Step::Expire(watched),
        52..56 => Step::Crash(pick, rng.random_range(0..20)),
        56..58 => Step::Term(pick, rng.random_range(0..10)),
        58..62 => Step::Clock(pick, [-20_000, -5_000, -3_000, 3_000, 5_000, 20_000][pick % 6]),
        62..64 => Step::Annotate(pick, "chaos", None),
        64..68 => Step::Annotate(pick, "chaos", Some("yes".to_owned())),
        68..73 => setting(rng, pick),
        73..74 => Step::AnnotateUnseen(pick, "purechaos.dev/limit", Some("3".to_owned())),
        74..76 => Step::HaltEverything(rng.random_bool(0.4)),
        76..79 => Step::Annotate(pick, "purechaos.dev/halt", rng.random_bool(0.4).then(|| "mine".to_owned())),
        79..84 => Step::Scale(pick, rng.random_range(1..5)),
        84..87 => Step::RollOut(pick),
        87..88 => Step::DeleteWorkload(pick),
        88..92 => Step::DeletePod(pick),
        92..96 => Step::Exclude(pick, rng.random_bool(0.6)),
        96..100 => Step::Unready(pick, rng.random_range(1..40)),
        109..112 => {
            let ambushes =
                [Ambush::Exclude, Ambush::Exclude, Ambush::Halt, Ambush::HaltEverything, Ambush::OptOut];
            Step::Ambush(ambushes[pick % ambushes.len()])
        }
        106..109 => Step::DeleteNamespace(pick, rng.random_range(0..20)),
        _ => {
            let min = rng.random_bool(0.7).then(|| rng.random_range(0..5));
            Step::Budget(pick, rng.random_bool(0.1), min)
        }
    }
}

fn fault(rng: &mut ChaCha8Rng) -> Step {
    let class = [
        Class::Kill,
        Class::Kill,
        Class::Kill,
        Class::RecordWrite,
        Class::RecordWrite,
        Class::RecordWrite,
        Class::RecordRead,
        Class::Namespace,
        Class::PodRead,
        Class::PodList,
        Class::Workloads,
        Class::Events,
        Class::Lease,
    ][rng.random_range(0..13)];
    let fate = match rng.random_range(0..16) {
        0 => Fate::Status(500),
        1 => Fate::Status(429),
        2 => Fate::Status(503),
        3 if class == Class::RecordWrite || class == Class::Lease => Fate::Status(409),
        3 | 4 if class == Class::Kill => {
            [Fate::Budget, Fate::Status(409), Fate::Status(422)][rng.random_range(0..3)]
        }
        5 => Fate::Broken,
        6 | 7 => Fate::Lost,
        8 => Fate::Silent,
        9 if class == Class::Kill => Fate::Early(rng.random_range(100..4_000)),
        10 | 11 => Fate::Slow(rng.random_range(200..12_000)),
        12 => Fate::Late(rng.random_range(200..12_000)),
        13 | 14 if class != Class::Events => Fate::Crash { sent: rng.random_bool(0.6) },
        15 => Fate::Term,
        _ => Fate::Lost,
    };
    let times = if matches!(fate, Fate::Crash { .. } | Fate::Term) { 1 } else { rng.random_range(1..4) };
    Step::Fault(class, fate, times, rng.random_range(10..90))
}

fn setting(rng: &mut ChaCha8Rng, pick: usize) -> Step {
    let (key, values): (&str, &[&str]) = match rng.random_range(0..8) {
        6 => return hours(rng, pick),
        7 => return expiry(rng, pick),
        0 => ("purechaos.dev/limit", &["1", "2", "3"]),
        1 => ("purechaos.dev/mode", &["evict", "delete", "force"]),
        2 => ("purechaos.dev/dry-run", &["true", "false"]),
        3 => ("purechaos.dev/schedule", &["every 15s", "every 30s"]),
        4 => ("purechaos.dev/targets", &["app=web", "app in (web, db)"]),
        _ => ("purechaos.dev/min-age", &["1s", "10s"]),
    };
    Step::Annotate(pick, key, Some(values[rng.random_range(0..values.len())].to_owned()))
}

/// Hours around the time of the walk, which begins on a Monday at noon.
fn hours(rng: &mut ChaCha8Rng, pick: usize) -> Step {
    let from = rng.random_range(0..7);
    let hours = format!("Mon 12:{from:02}-12:{:02} UTC", from + rng.random_range(1..4));
    Step::Annotate(pick, "purechaos.dev/active-hours", rng.random_bool(0.7).then_some(hours))
}

fn expiry(rng: &mut ChaCha8Rng, pick: usize) -> Step {
    let at = noon().checked_add(Duration::from_secs(rng.random_range(20..360))).unwrap();
    Step::Annotate(pick, "purechaos.dev/expires", rng.random_bool(0.7).then(|| at.to_string()))
}

impl World {
    /// Carries out a step.
    pub fn apply(&mut self, step: &Step) {
        self.say(&format!("> {step:?}"));
        let now = self.cluster.now();
        let seconds = |seconds: u64| now + Duration::from_secs(seconds);
        match step.clone() {
            Step::Fault(class, fate, times, time) => self.faults.add(class, fate, times, seconds(time)),
            Step::Lose(watched, count) => self.faults.watch(watched).lose += count,
            Step::Double(watched, count) => self.faults.watch(watched).double += count,
            Step::Late(watched, milliseconds, time) => {
                let late = Duration::from_millis(milliseconds);
                self.faults.watch(watched).late = Some((late, seconds(time)));
                self.faults.lateness = self.faults.lateness.max(late);
            }
            Step::Deaf(watched, time) => {
                self.faults.watch(watched).deaf = Some(seconds(time));
                self.gap(watched, time);
            }
            Step::Break(watched) => self.break_watch(watched, 0),
            Step::Refuse(watched, code, time) => {
                self.faults.watch(watched).refused = Some((code, seconds(time)));
                self.break_watch(watched, time);
            }
            Step::Expire(watched) => {
                self.faults.watch(watched).expired += 1;
                self.break_watch(watched, 0);
            }
            Step::Crash(slot, time) => {
                self.absence = Duration::from_secs(time);
                self.crash_slot(slot % self.slots.len());
            }
            Step::Term(slot, time) => {
                self.absence = Duration::from_secs(time);
                self.term_slot(slot % self.slots.len());
            }
            Step::Clock(slot, milliseconds) => {
                let slot = slot % self.slots.len();
                self.slots[slot].clock.step(milliseconds);
                self.oracle.clocks += Duration::from_millis(milliseconds.unsigned_abs());
            }
            Step::Annotate(pick, key, value) => self.annotate(pick, key, value, true),
            Step::AnnotateUnseen(pick, key, value) => self.annotate(pick, key, value, false),
            Step::HaltEverything(halt) => self.cluster.api.put(SYSTEM, objects::system(halt)),
            Step::Budget(pick, second, min) => {
                if let Some(workload) = self.pick_workload(pick) {
                    self.cluster.set_budget(workload, second, min);
                }
            }
            Step::Scale(pick, desired) => {
                if let Some(workload) = self.pick_workload(pick) {
                    self.cluster.scale(workload, desired);
                }
            }
            Step::RollOut(pick) => {
                if let Some(workload) = self.pick_workload(pick) {
                    self.cluster.roll_out(workload);
                }
            }
            Step::DeleteWorkload(pick) => {
                if let Some(workload) = self.pick_workload(pick) {
                    self.cluster.delete_workload(workload);
                }
            }
            Step::DeleteNamespace(pick, time) => {
                let namespace = pick % self.cluster.namespaces.len();
                self.cluster.delete_namespace(namespace, Duration::from_secs(time));
            }
            Step::DeletePod(pick) => {
                if let Some(pod) = self.pick_pod(pick) {
                    self.cluster.end(pod, None);
                }
            }
            Step::Exclude(pick, excluded) => {
                if let Some(pod) = self.pick_pod(pick) {
                    self.cluster.exclude(pod, excluded);
                }
            }
            Step::Unready(pick, time) => {
                if let Some(pod) = self.pick_pod(pick) {
                    self.cluster.fail(pod, Duration::from_secs(time));
                }
            }
            Step::Ambush(ambush) => self.ambushes.push(ambush),
            Step::Nothing => {}
        }
        self.look();
    }

    fn break_watch(&mut self, watched: Watched, time: u64) {
        self.faults.watch(watched).breaks += 1;
        self.faults_changed.notify_waiters();
        self.gap(watched, time);
    }

    /// Notes a gap. The gap ends only when the process has the watch again, after its back-off.
    fn gap(&mut self, watched: Watched, time: u64) {
        self.faults_changed.notify_waiters();
        if watched == Watched::Pods {
            let now = self.cluster.now();
            self.faults.gaps.push((now, now + Duration::from_secs(time + 65)));
        }
    }

    fn annotate(&mut self, pick: usize, key: &str, value: Option<String>, reviewed: bool) {
        let namespace = pick % self.cluster.namespaces.len();
        let it = &mut self.cluster.namespaces[namespace];
        it.reviewed = reviewed;
        match value {
            Some(value) => it.annotations.insert(key.to_owned(), value),
            None => it.annotations.remove(key),
        };
        self.cluster.annotate(namespace);
    }

    fn pick_workload(&self, pick: usize) -> Option<usize> {
        let there: Vec<usize> = (0..self.cluster.workloads.len())
            .filter(|workload| self.cluster.workloads[*workload].exists)
            .collect();
        there.get(pick % there.len().max(1)).copied()
    }

    fn pick_pod(&self, pick: usize) -> Option<usize> {
        let is_there = |pod: &usize| !self.cluster.pods[*pod].terminating && !self.cluster.pods[*pod].gone;
        let there: Vec<usize> = (0..self.cluster.pods.len()).filter(is_there).collect();
        there.get(pick % there.len().max(1)).copied()
    }
}
