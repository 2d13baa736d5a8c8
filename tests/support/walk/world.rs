//! Everything in a walk that is not the agent: the cluster, the faults, and the oracle that checks
//! both.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use policy::platform::PlatformPolicy;
use prometheus::Registry;
use runtime::clock::{Clock, TokioClock};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ambush::Ambush;
use super::cluster::Cluster;
use super::faults::Faults;
use super::objects;
use super::oracle::Oracle;

pub type Shared = Arc<Mutex<World>>;

/// A process, from its start to its end.
pub struct Life {
    pub slot: usize,
    pub clock: TokioClock,
    pub registry: Registry,
    /// Cancelled when nothing of the process arrives any more.
    pub ended: CancellationToken,
}

/// A place where processes run one after the other.
pub struct Slot {
    pub clock: TokioClock,
    /// Asks the process to end.
    pub end: CancellationToken,
    pub abort: Option<AbortHandle>,
    /// When the next process starts.
    pub start: Option<Instant>,
}

pub struct World {
    pub cluster: Cluster,
    pub faults: Faults,
    /// Notified when the faults of watches change.
    pub faults_changed: Arc<Notify>,
    /// Notified when the cluster has a new action planned.
    pub agenda_changed: Arc<Notify>,
    pub oracle: Oracle,
    pub policy: PlatformPolicy,
    /// The processes, in the order in which they began.
    pub lives: Vec<Life>,
    pub slots: Vec<Slot>,
    /// How long a process that ended stays away.
    pub absence: Duration,
    /// The users who wait for the next intent.
    pub ambushes: Vec<Ambush>,
    pub log: Vec<String>,
    begun: Instant,
}

impl World {
    pub fn new(cluster: Cluster, seed: u64) -> Self {
        let begun = cluster.now();
        Self {
            cluster,
            faults: Faults::new(seed),
            faults_changed: Arc::default(),
            agenda_changed: Arc::default(),
            oracle: Oracle::default(),
            // In a third of the walks the platform's limit matters.
            policy: objects::policy(if seed.is_multiple_of(3) { 3 } else { 60 }),
            lives: Vec::new(),
            slots: Vec::new(),
            absence: Duration::from_secs(2),
            ambushes: Vec::new(),
            log: Vec::new(),
            begun,
        }
    }

    pub fn say(&mut self, text: &str) {
        let passed = self.cluster.now() - self.begun;
        self.log.push(format!("{:9.3} {text}", passed.as_secs_f64()));
    }

    /// Kills a process at once.
    pub fn crash(&mut self, process: usize) {
        let slot = self.lives[process].slot;
        self.crash_slot(slot);
    }

    pub fn crash_slot(&mut self, slot: usize) {
        self.say(&format!("slot {slot} crashes"));
        for (process, life) in self.lives.iter().enumerate().filter(|(_, life)| life.slot == slot) {
            if !life.ended.is_cancelled() {
                self.oracle.crashes(process);
            }
            life.ended.cancel();
        }
        if let Some(abort) = self.slots[slot].abort.take() {
            abort.abort();
        }
        self.start_later(slot);
    }

    /// Asks a process to end.
    pub fn term(&mut self, process: usize) {
        let slot = self.lives[process].slot;
        self.term_slot(slot);
    }

    pub fn term_slot(&mut self, slot: usize) {
        self.say(&format!("slot {slot} is asked to end"));
        let of_slot = (0..self.lives.len()).filter(|process| self.lives[*process].slot == slot);
        self.oracle.leaving.extend(of_slot);
        self.slots[slot].end.cancel();
        self.start_later(slot);
    }

    fn start_later(&mut self, slot: usize) {
        self.slots[slot].start = Some(self.cluster.now() + self.absence);
        self.agenda_changed.notify_waiters();
    }

    /// Lets the oracle check what is true now.
    pub fn look(&mut self) {
        let now = self.cluster.now();
        let clocks = self.slots.iter().map(|slot| slot.clock.wall());
        let latest = clocks.fold(self.cluster.clock.wall(), Timestamp::max);
        self.oracle.look(&mut self.cluster, latest, now);
        let is_over = |process: &usize| self.lives[*process].ended.is_cancelled();
        let over = (0..self.lives.len()).filter(is_over).chain(self.oracle.leaving.iter().copied());
        let over = over.collect();
        self.oracle.check_told(&self.cluster, &over, now);
    }
}
