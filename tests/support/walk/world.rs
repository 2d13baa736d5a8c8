//! Everything in a walk that is not the agent: the cluster, the faults, and the oracle that checks
//! both.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use policy::eligibility::NamespaceView;
use policy::kill_gate::{halt, may_kill};
use policy::platform::PlatformPolicy;
use prometheus::Registry;
use runtime::clock::{Clock, TokioClock};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::faults::{Class, Faults};
use super::network::Ask;
use super::objects::{self, NAMESPACE, RECORD, SYSTEM};
use super::oracle::{Attempt, Oracle};

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
            policy: objects::policy(),
            lives: Vec::new(),
            slots: Vec::new(),
            absence: Duration::from_secs(2),
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
                self.oracle.crashed.insert(process);
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
        self.slots[slot].end.cancel();
        self.start_later(slot);
    }

    fn start_later(&mut self, slot: usize) {
        self.slots[slot].start = Some(self.cluster.now() + self.absence);
        self.agenda_changed.notify_waiters();
    }

    fn view(&self, path: &str) -> Option<NamespaceView> {
        let object = self.cluster.api.get(path)?;
        let annotations: Option<BTreeMap<String, String>> =
            serde_json::from_value(object["metadata"]["annotations"].clone()).ok();
        let word = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        Some(NamespaceView {
            name: word("name"),
            uid: word("uid"),
            annotations: annotations.unwrap_or_default(),
            terminating: false,
        })
    }

    /// What the owner consents to now. Rules about time use the process's clock.
    fn consent(&self, process: usize) -> Result<policy::settings::Settings, String> {
        let (namespace, system) = (self.view(NAMESPACE).unwrap(), self.view(SYSTEM));
        if halt(&namespace).is_some() || system.as_ref().is_none_or(|system| halt(system).is_some()) {
            return Err("halted".to_owned());
        }
        let record = self.cluster.api.get(RECORD).ok_or("no record")?;
        let admitted = record["spec"]["verdict"] == "Admitted"
            && record["spec"]["admission"]["digest"]
                == policy::digest::digest(&namespace.annotations).as_str();
        if !admitted {
            return Err("not admitted as it is".to_owned());
        }
        let at = |wall| may_kill(&namespace, system.as_ref(), &self.policy, wall);
        at(self.cluster.clock.wall())
            .or_else(|_| at(self.lives[process].clock.wall()))
            .map_err(|locked| locked.sentence("a"))
    }

    /// Notes that a call was sent.
    pub fn sent(&mut self, ask: &Ask) {
        let now = self.cluster.now();
        match ask.class {
            Class::Namespace if ask.path == NAMESPACE => {
                let consent = self.consent(ask.process);
                self.oracle.asked(ask.process, consent);
            }
            Class::Kill if !is_dry(ask) => {
                if let Some(pod) = self.cluster.find(pod_name(&ask.path)) {
                    self.oracle.sends(&self.cluster, pod, now);
                }
            }
            _ => {}
        }
    }

    /// Whether the API may carry out a call at all.
    pub fn check(&self, ask: &Ask) -> Result<(), (u16, String)> {
        let needs_rights = ask.path.starts_with("/api/v1/namespaces/a/")
            || ask.path.starts_with("/apis/apps/")
            || ask.path.starts_with("/apis/policy/");
        if needs_rights && !self.cluster.rights {
            return Err((403, "no RoleBinding".to_owned()));
        }
        let wanted = &ask.body["metadata"]["uid"];
        if ask.class == Class::RecordWrite && !wanted.is_null() {
            let stored = self.cluster.api.get(RECORD).ok_or((404, "no record".to_owned()))?;
            if stored["metadata"]["uid"] != *wanted {
                return Err((409, "the UID is another".to_owned()));
            }
        }
        Ok(())
    }

    /// What a call is going to change.
    pub fn before(&self, ask: &Ask) -> Option<Value> {
        (ask.class == Class::RecordWrite).then(|| self.cluster.api.get(RECORD)).flatten()
    }

    /// Notes what was done.
    pub fn done(&mut self, ask: &Ask, before: Option<Value>, code: u16) {
        match ask.class {
            Class::Namespace if ask.path == NAMESPACE => {
                let consent = self.consent(ask.process);
                self.oracle.read(ask.process, consent);
            }
            Class::PodRead => {
                if let Some(pod) = self.cluster.find(pod_name(&ask.path)) {
                    let excluded = self.cluster.pods[pod].excluded.is_some();
                    self.oracle.read_pod(ask.process, &self.cluster.pods[pod].uid, excluded);
                }
            }
            Class::Events if code < 300 => self.oracle.told(self.cluster.now(), &ask.body),
            Class::RecordWrite => {
                if let (Some(before), Some(after)) = (before, self.cluster.api.get(RECORD))
                    && before["status"] != after["status"]
                {
                    let gaps = self.faults.gaps.clone();
                    let slack = self.faults.lateness;
                    let (registry, now) = (self.lives[ask.process].registry.clone(), self.cluster.now());
                    let line = self.oracle.recorded(
                        &self.cluster,
                        (ask.process, &registry),
                        (&before, &after),
                        (slack, &gaps),
                        now,
                    );
                    line.into_iter().for_each(|line| self.say(&line));
                }
            }
            _ => {}
        }
    }

    /// Answers a kill, and carries it out.
    pub fn kill(&mut self, ask: &Ask) -> (u16, String) {
        let name = pod_name(&ask.path).to_owned();
        let options = if ask.verb == "DELETE" { &ask.body } else { &ask.body["deleteOptions"] };
        let is_dry = is_dry(ask);
        if !self.cluster.rights {
            return (403, "no RoleBinding".to_owned());
        }
        let Some(pod) = self.cluster.find(&name) else { return (404, "no such Pod".to_owned()) };
        let attempt = Attempt {
            pod,
            evicts: ask.verb != "DELETE",
            grace: options["gracePeriodSeconds"].as_u64(),
            is_dry,
            look: ask.look.clone(),
        };
        self.oracle.tried(&self.cluster, &attempt);
        // The locks use the right clock.
        let (namespace, system) = (self.view(NAMESPACE).unwrap(), self.view(SYSTEM));
        if let Err(locked) = may_kill(&namespace, system.as_ref(), &self.policy, self.cluster.clock.wall()) {
            return (403, locked.sentence("a"));
        }
        let stored = self.cluster.api.get(&objects::pod_path(&name)).unwrap();
        for key in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][key];
            if !wanted.is_null() && *wanted != stored["metadata"][key] {
                return (409, format!("the precondition {key} failed"));
            }
        }
        if is_dry {
            return (200, String::new());
        }
        let record = self.cluster.api.get(RECORD).unwrap_or_default();
        self.oracle.killed(&self.cluster, &attempt, &record);
        self.say(&format!("process {} kills {name}", ask.process));
        self.cluster.end(pod, attempt.grace);
        self.look();
        self.agenda_changed.notify_waiters();
        (200, String::new())
    }

    /// Lets the oracle check what is true now.
    pub fn look(&mut self) {
        let record = self.cluster.api.get(RECORD);
        let now = self.cluster.now();
        self.oracle.look(&mut self.cluster, record.as_ref(), now);
    }
}

fn is_dry(ask: &Ask) -> bool {
    let options = if ask.verb == "DELETE" { &ask.body } else { &ask.body["deleteOptions"] };
    ask.query.contains_key("dryRun") || options["dryRun"].as_array().is_some_and(|dry| !dry.is_empty())
}

fn pod_name(path: &str) -> &str {
    path.trim_end_matches("/eviction").rsplit('/').next().unwrap_or_default()
}
