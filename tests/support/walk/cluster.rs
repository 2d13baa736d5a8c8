//! The cluster of a walk as it truly is: namespaces, workloads and Pods, and controllers that take
//! their time. The API shows what a process may see. The truth stays here, for the
//! oracle.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use runtime::clock::{Clock, TokioClock};
use tokio::time::Instant;

use crate::fake_api::Api;

use super::budgets::Budget;
use super::namespaces::{Ending, Namespace};
use super::objects;

/// The kind of controller that brings a Pod back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    /// A kind of another API group, above a ReplicaSet. The agent can't read it.
    Rollout,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::Rollout => "Rollout",
        }
    }

    /// Whether the kind's Pods belong to ReplicaSets.
    pub fn has_sets(self) -> bool {
        matches!(self, Self::Deployment | Self::Rollout)
    }
}

/// A workload and its history.
#[derive(Debug, Clone)]
pub struct Workload {
    pub namespace: usize,
    pub kind: Kind,
    pub name: String,
    pub uid: String,
    pub desired: usize,
    pub template: u32,
    pub generation: u64,
    pub exists: bool,
    /// Each time at which the size was set, and to what.
    pub sizes: Vec<(Instant, usize)>,
    pub template_changed: Option<Instant>,
    pub deleted: Option<Instant>,
    /// Since when the workload has had fewer Ready Pods than it wants.
    pub ill_since: Option<Instant>,
    /// Each time at which the number of Ready Pods changed, and to what.
    pub readies: Vec<(Instant, usize)>,
}

/// A Pod, which may be gone already.
#[derive(Debug, Clone)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub workload: usize,
    pub template: u32,
    pub node: String,
    pub created: Timestamp,
    pub ready: bool,
    pub terminating: bool,
    pub gone: bool,
    /// Since when the Pod asks to be left alone.
    pub excluded: Option<Instant>,
    /// When the Pod began to end.
    pub lost: Option<Instant>,
}

impl Pod {
    pub fn is_ready(&self) -> bool {
        self.ready && !self.terminating && !self.gone
    }
}

/// An action that is planned.
#[derive(Debug, Clone)]
pub enum Action {
    Reconcile(usize),
    Ready(usize),
    Gone(usize),
    Rights(usize),
    Review(usize),
    /// The budgets of a namespace.
    Budgets(usize),
    /// A part of a Namespace that is being deleted.
    End(usize, Ending),
    /// A Namespace with the name of one that is gone.
    Begin(usize),
}

pub struct Cluster {
    pub api: Api,
    pub clock: TokioClock,
    pub rng: ChaCha8Rng,
    pub workloads: Vec<Workload>,
    pub pods: Vec<Pod>,
    pub budgets: Vec<Budget>,
    pub namespaces: Vec<Namespace>,
    agenda: BTreeMap<(Instant, u64), Action>,
    pub serial: u64,
}

impl Cluster {
    pub fn new(api: Api, clock: TokioClock, rng: ChaCha8Rng) -> Self {
        Self {
            api,
            clock,
            rng,
            workloads: Vec::new(),
            pods: Vec::new(),
            budgets: Vec::new(),
            namespaces: Vec::new(),
            agenda: BTreeMap::new(),
            serial: 0,
        }
    }

    pub fn now(&self) -> Instant {
        self.clock.monotonic()
    }

    pub fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from..to))
    }

    pub fn plan(&mut self, after: Duration, action: Action) {
        self.serial += 1;
        self.agenda.insert((self.now() + after, self.serial), action);
    }

    fn reconcile_soon(&mut self, workload: usize) {
        let after = self.milliseconds(20, 1_500);
        self.plan(after, Action::Reconcile(workload));
        self.budgets_soon(self.workloads[workload].namespace);
    }

    /// When the next planned action is due.
    pub fn next(&self) -> Option<Instant> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Runs the actions that are due.
    pub fn act(&mut self) -> bool {
        let now = self.now();
        let mut acted = false;
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            acted = true;
            match entry.remove() {
                Action::Reconcile(workload) => self.reconcile(workload),
                Action::Ready(pod) => self.set_ready(pod, true),
                Action::Gone(pod) => self.remove(pod),
                Action::Rights(namespace) => {
                    let it = &mut self.namespaces[namespace];
                    it.rights = !it.terminating && objects::is_admitted(&self.api, it.name);
                }
                Action::Review(namespace) => self.review(namespace),
                Action::Budgets(namespace) => self.observe_budgets(namespace),
                Action::End(namespace, ending) => self.end_of_namespace(namespace, ending),
                Action::Begin(namespace) => self.begin_namespace(namespace),
            }
        }
        acted
    }

    /// Makes a workload whose Pods are Ready and old enough to be killed.
    pub fn make(&mut self, namespace: usize, kind: Kind, name: &str, desired: usize) {
        let now = self.now();
        let uid = format!("{name}-uid-{}", self.workloads.len());
        self.workloads.push(Workload {
            namespace,
            kind,
            name: name.to_owned(),
            uid,
            desired,
            template: 1,
            generation: 1,
            exists: true,
            sizes: vec![(now, desired)],
            template_changed: None,
            deleted: None,
            ill_since: None,
            readies: Vec::new(),
        });
        let workload = self.workloads.len() - 1;
        self.show(workload);
        self.reconcile(workload);
        let old = self.clock.wall().checked_sub(Duration::from_secs(3_600)).unwrap();
        for pod in self.live(workload) {
            self.pods[pod].created = old;
            self.set_ready(pod, true);
        }
    }

    /// The Pods of a workload that aren't ending.
    pub fn live(&self, workload: usize) -> Vec<usize> {
        let is_live = |pod: &Pod| pod.workload == workload && !pod.terminating && !pod.gone;
        (0..self.pods.len()).filter(|pod| is_live(&self.pods[*pod])).collect()
    }

    pub fn ready(&self, workload: usize) -> usize {
        self.pods.iter().filter(|pod| pod.workload == workload && pod.is_ready()).count()
    }

    /// Finds the Pod at this path.
    pub fn find(&self, path: &str) -> Option<usize> {
        let name = path.trim_end_matches("/eviction").rsplit('/').next()?;
        self.find_in(self.namespace_of(path)?, name)
    }

    /// Finds the Pod with this name that is not gone.
    pub fn find_in(&self, namespace: usize, name: &str) -> Option<usize> {
        let is_it =
            |pod: &Pod| pod.name == name && !pod.gone && self.workloads[pod.workload].namespace == namespace;
        self.pods.iter().rposition(is_it)
    }

    /// The name of the namespace of a workload.
    pub fn place(&self, workload: usize) -> &'static str {
        self.namespaces[self.workloads[workload].namespace].name
    }

    pub fn scale(&mut self, workload: usize, desired: usize) {
        let now = self.now();
        let it = &mut self.workloads[workload];
        it.desired = desired;
        it.generation += 1;
        it.sizes.push((now, desired));
        self.show(workload);
        self.reconcile_soon(workload);
    }

    pub fn roll_out(&mut self, workload: usize) {
        let now = self.now();
        let it = &mut self.workloads[workload];
        it.template += 1;
        it.generation += 1;
        it.template_changed = Some(now);
        self.show(workload);
        self.reconcile_soon(workload);
    }

    /// Deletes a workload with its Pods, and makes another workload with its name.
    pub fn delete_workload(&mut self, workload: usize) {
        self.end_workload(workload);
        let Workload { namespace, kind, name, desired, .. } = self.workloads[workload].clone();
        if !self.namespaces[namespace].terminating {
            self.make_fresh(namespace, kind, &name, desired);
        }
    }

    /// Deletes a workload with its Pods.
    pub fn end_workload(&mut self, workload: usize) {
        let now = self.now();
        if !self.workloads[workload].exists {
            return;
        }
        let it = &mut self.workloads[workload];
        (it.exists, it.deleted) = (false, Some(now));
        objects::hide(&self.api, self.place(workload), &self.workloads[workload]);
        for pod in self.live(workload) {
            self.end(pod, None);
        }
    }

    /// Makes a workload whose Pods are new.
    pub fn make_fresh(&mut self, namespace: usize, kind: Kind, name: &str, desired: usize) {
        self.make(namespace, kind, name, desired);
        let workload = self.workloads.len() - 1;
        let fresh = self.clock.wall();
        for pod in self.live(workload) {
            self.pods[pod].created = fresh;
            self.set_ready(pod, false);
            let after = self.milliseconds(300, 9_000);
            self.plan(after, Action::Ready(pod));
        }
    }

    /// Lets a Pod begin to end. With `grace` 0 the Pod is gone at once.
    pub fn end(&mut self, pod: usize, grace: Option<u64>) {
        let now = self.now();
        let it = &mut self.pods[pod];
        if it.terminating || it.gone {
            return;
        }
        it.terminating = true;
        it.lost = Some(now);
        let workload = it.workload;
        if grace == Some(0) {
            self.remove(pod);
        } else {
            self.show_pod(pod);
            let most = if self.rng.random_bool(0.8) { 4_000 } else { 25_000 };
            let after = self.milliseconds(100, most);
            self.plan(after, Action::Gone(pod));
        }
        self.reconcile_soon(workload);
    }

    /// Makes a Pod not Ready for this long.
    pub fn fail(&mut self, pod: usize, time: Duration) {
        self.set_ready(pod, false);
        self.plan(time, Action::Ready(pod));
    }

    pub fn exclude(&mut self, pod: usize, excluded: bool) {
        self.pods[pod].excluded = excluded.then(|| self.now());
        self.show_pod(pod);
    }

    fn set_ready(&mut self, pod: usize, ready: bool) {
        if self.pods[pod].gone {
            return;
        }
        self.pods[pod].ready = ready;
        self.show_pod(pod);
        let workload = self.pods[pod].workload;
        self.reconcile_soon(workload);
    }

    fn remove(&mut self, pod: usize) {
        let it = &mut self.pods[pod];
        if it.gone {
            return;
        }
        (it.gone, it.terminating) = (true, true);
        let (workload, name) = (it.workload, it.name.clone());
        self.api.remove(&objects::pod_path(self.place(workload), &name));
        // Another workload of the same name may wait for this Pod's name.
        let is_heir = |heir: &usize| {
            let (heir, of) = (&self.workloads[*heir], &self.workloads[workload]);
            (heir.namespace, &heir.name) == (of.namespace, &of.name)
        };
        let heirs = (workload..self.workloads.len()).filter(is_heir);
        heirs.collect::<Vec<_>>().into_iter().for_each(|heir| self.reconcile_soon(heir));
    }

    pub fn show_pod(&self, pod: usize) {
        let it = &self.pods[pod];
        let (namespace, workload) = (self.place(it.workload), &self.workloads[it.workload]);
        self.api.put(&objects::pod_path(namespace, &it.name), objects::pod(namespace, it, workload));
    }

    pub fn show(&self, workload: usize) {
        objects::show(&self.api, self.place(workload), &self.workloads[workload], self.counts(workload));
    }

    /// How many Pods a workload has, and how many of them have the newest template.
    pub fn counts(&self, workload: usize) -> (usize, usize) {
        let live = self.live(workload);
        let newest = self.workloads[workload].template;
        (live.len(), live.iter().filter(|pod| self.pods[**pod].template == newest).count())
    }
}
