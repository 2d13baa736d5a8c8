//! A random walk over the agent, the fake API in this process and all its users. A seed determines
//! the walk, and the walk runs in virtual time.

mod ambush;
mod api;
mod budgets;
mod cluster;
mod controllers;
mod faults;
mod kills;
mod ledger;
mod namespaces;
mod network;
mod objects;
mod oracle;
mod process;
mod rate;
mod settled;
mod steps;
mod told;
mod verdict;
mod watches;
mod world;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use runtime::clock::TokioClock;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::fake_api::Api;
use crate::stage::{UID, noon};

use self::cluster::{Cluster, Kind};
use self::namespaces::Namespace;
pub use self::oracle::{INVARIANTS, Violation};
pub use self::steps::Step;
use self::world::{Shared, Slot, World};

/// How often the walk is checked at its end.
const LOOK: Duration = Duration::from_secs(10);
/// How long after the end of all faults everything has to be in order.
const CALM: Duration = Duration::from_secs(900);
/// UID of the second namespace, whose slots come at other times.
const OTHER_UID: &str = "7d0b2c11-58e3-4c0a-b1f4-90a6de21c3b7";
/// How long a walk may take in real time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A walk that has not run yet.
#[derive(Debug, Clone)]
pub struct Walk {
    pub seed: u64,
    /// The steps, each with the time before it.
    pub steps: Vec<(Duration, Step)>,
}

/// The result of a walk.
#[derive(Debug)]
pub struct Report {
    pub violation: Option<Violation>,
    pub kills: usize,
    pub outcomes: Vec<String>,
    pub log: Vec<String>,
}

impl Walk {
    /// The walk of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = rng.random_range(8..28);
        let steps = (0..count).map(|_| {
            let gap = if rng.random_bool(0.3) { 3_000 } else { 25_000 };
            (Duration::from_millis(rng.random_range(10..gap)), steps::draw(&mut rng))
        });
        Self { seed, steps: steps.collect() }
    }

    /// The same walk without some of its steps. The time of these steps still passes.
    pub fn only(&self, kept: &BTreeSet<usize>) -> Self {
        let steps = self.steps.iter().enumerate().map(|(number, (gap, step))| {
            (*gap, if kept.contains(&number) { step.clone() } else { Step::Nothing })
        });
        Self { seed: self.seed, steps: steps.collect() }
    }

    /// Runs the walk, without checking the invariants in `off`.
    pub fn go(&self, off: &BTreeSet<&'static str>) -> Report {
        let (walk, off) = (self.clone(), off.clone());
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            fastrand::seed(walk.seed);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            drop(done.send(runtime.block_on(walk.walk(off))));
        });
        ended
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|error| panic!("the walk of seed {} hung or panicked: {error}", self.seed))
    }

    async fn walk(self, off: BTreeSet<&'static str>) -> Report {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0xC4A05);
        let world = begin(self.seed, &mut rng, off);
        let halts = self.seed.is_multiple_of(5);
        let slots = world.lock().unwrap().slots.len();
        for slot in 0..slots {
            process::start(&world, slot, self.seed, halts);
        }
        let course = Course { world, seed: self.seed, halts };
        let broken = course.walk(&self.steps).await;
        let mut world = course.world.lock().unwrap();
        if let Some((invariant, text)) = broken {
            world.oracle.violate(invariant, text);
        }
        let oracle = &world.oracle;
        let outcomes = oracle.kills.iter().map(|kill| kill.outcome.clone().unwrap_or_default());
        Report {
            violation: oracle.violation.clone(),
            kills: oracle.kills.iter().map(|kill| kill.victims.len()).sum(),
            outcomes: outcomes.collect(),
            log: world.log.clone(),
        }
    }
}

/// The cluster at the beginning of the walk.
fn begin(seed: u64, rng: &mut ChaCha8Rng, off: BTreeSet<&'static str>) -> Shared {
    let (api, clock) = (Api::default(), TokioClock::starting_at(noon()));
    api.put(objects::SYSTEM, objects::system(false));
    api.put(
        objects::LEASE,
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "agent", "namespace": "pure-chaos"}}),
    );
    let mut cluster = Cluster::new(api, clock.clone(), ChaCha8Rng::seed_from_u64(seed ^ 0xC1));
    let second = rng.random_bool(0.4).then_some(("b", OTHER_UID));
    for (name, uid) in [("a", UID)].into_iter().chain(second) {
        let namespace = cluster.namespaces.len();
        let mut it = Namespace::new(name, uid, cluster.now());
        it.wishes = steps::settings(rng);
        // In a quarter of the walks, a round may kill several Pods of a workload.
        if seed % 4 == 3 {
            let several = if seed % 8 == 3 { "2" } else { "50%" };
            it.wishes.insert("purechaos.dev/per-workload".to_owned(), several.to_owned());
            it.wishes.insert("purechaos.dev/limit".to_owned(), "3".to_owned());
        }
        it.annotations.clone_from(&it.wishes);
        cluster.namespaces.push(it);
        cluster.make(namespace, Kind::Deployment, "web", rng.random_range(2..5));
        for (kind, name, chance) in [
            (Kind::StatefulSet, "db", 0.5),
            (Kind::DaemonSet, "log", 0.3),
            (Kind::ReplicaSet, "bare", 0.2),
            (Kind::Rollout, "canary", 0.3),
        ] {
            // The second namespace is smaller, to keep the walk short.
            if rng.random_bool(if namespace == 0 { chance } else { chance / 2.0 }) {
                cluster.make(namespace, kind, name, rng.random_range(1..4));
            }
        }
        cluster.annotate(namespace);
    }
    let mut world = World::new(cluster, seed);
    world.oracle.off = off;
    let count = if rng.random_bool(0.4) { 2 } else { 1 };
    for _ in 0..count {
        let clock = TokioClock::starting_at(noon());
        world.slots.push(Slot { clock, end: CancellationToken::new(), abort: None, start: None });
    }
    world.look();
    Arc::new(Mutex::new(world))
}

/// A walk that runs.
struct Course {
    world: Shared,
    seed: u64,
    halts: bool,
}

impl Course {
    fn now(&self) -> Instant {
        self.world.lock().unwrap().cluster.now()
    }

    fn is_broken(&self) -> bool {
        self.world.lock().unwrap().oracle.violation.is_some()
    }

    async fn walk(&self, steps: &[(Duration, Step)]) -> Option<(&'static str, String)> {
        for (gap, step) in steps {
            self.pass(*gap).await;
            if self.is_broken() {
                return None;
            }
            self.world.lock().unwrap().apply(step);
        }
        self.pass(Duration::from_secs(5)).await;
        self.calm();
        self.until_settled().await
    }

    /// Lets time pass.
    async fn pass(&self, time: Duration) {
        let until = self.now() + time;
        while self.now() < until && !self.is_broken() {
            let (changed, next) = {
                let mut world = self.world.lock().unwrap();
                if world.cluster.act() {
                    world.look();
                }
                let starts = world.slots.iter().filter_map(|slot| slot.start);
                (world.agenda_changed.clone(), world.cluster.next().into_iter().chain(starts).min())
            };
            self.start_due();
            let changed = changed.notified();
            tokio::select! {
                biased;
                () = changed => {}
                () = sleep_until(next.map_or(until, |next| next.min(until))) => {}
            }
        }
    }

    fn start_due(&self) {
        let now = self.now();
        let due: Vec<usize> = {
            let world = self.world.lock().unwrap();
            let is_due = |slot: &usize| world.slots[*slot].start.is_some_and(|at| at <= now);
            (0..world.slots.len()).filter(is_due).collect()
        };
        due.into_iter().for_each(|slot| process::start(&self.world, slot, self.seed, self.halts));
    }

    /// Ends all faults, and sets the owner's wishes to those of the beginning.
    fn calm(&self) {
        let mut world = self.world.lock().unwrap();
        world.say("all faults end");
        let now = world.cluster.now();
        world.faults.heal(now);
        world.ambushes.clear();
        world.faults_changed.notify_waiters();
        world.cluster.api.put(objects::SYSTEM, objects::system(false));
        for namespace in 0..world.cluster.namespaces.len() {
            let it = &mut world.cluster.namespaces[namespace];
            it.annotations.clone_from(&it.wishes);
            it.reviewed = true;
            world.cluster.annotate(namespace);
        }
        // Two budgets for one Pod are an error for as long as both are there.
        for workload in 0..world.cluster.workloads.len() {
            world.cluster.set_budget(workload, true, None);
        }
        let there = world.cluster.pods.len();
        for pod in 0..there {
            if world.cluster.pods[pod].excluded.is_some() && !world.cluster.pods[pod].gone {
                world.cluster.exclude(pod, false);
            }
        }
        world.look();
    }

    /// Waits until rounds have resumed, and each kill is counted and has ended. Returns what is
    /// missing, if that doesn't happen.
    async fn until_settled(&self) -> Option<(&'static str, String)> {
        let begun = self.now();
        let rounds = self.rounds();
        loop {
            self.pass(LOOK).await;
            if self.is_broken() {
                return None;
            }
            let resumed = self.rounds() >= rounds + 2;
            let world = self.world.lock().unwrap();
            let unsettled = |namespace: usize| {
                let name = world.cluster.namespaces[namespace].name;
                match &world.cluster.api.get(&objects::record_path(name)) {
                    None => Some(("settled", format!("namespace {name} has no record"))),
                    Some(record) => {
                        world.oracle.unsettled(&world.cluster, namespace, record, world.cluster.now())
                    }
                }
            };
            let missing = (0..world.cluster.namespaces.len())
                .find_map(unsettled)
                .or_else(|| world.oracle.untold())
                .or_else(|| {
                    let registries: Vec<_> = world.lives.iter().map(|life| &life.registry).collect();
                    world.oracle.misjudged(&world.cluster, &registries)
                })
                .or_else(|| (!resumed).then(|| ("resumed", "no rounds are served any more".to_owned())));
            if missing.is_none() || world.cluster.now() - begun > CALM {
                return missing;
            }
        }
    }

    fn rounds(&self) -> u64 {
        let world = self.world.lock().unwrap();
        world.lives.iter().map(|life| verdict::rounds(&life.registry)).sum()
    }
}
