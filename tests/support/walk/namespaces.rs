//! The Namespaces of a walk, as they truly are, and what the webhook makes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use policy::eligibility::NamespaceView;
use runtime::clock::Clock;
use tokio::time::Instant;

use super::cluster::{Action, Cluster};
use super::objects;

/// A Namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    pub name: &'static str,
    pub uid: String,
    pub annotations: BTreeMap<String, String>,
    /// The annotations that the walk begins and ends with.
    pub wishes: BTreeMap<String, String>,
    /// Whether the webhook sees the annotations as they are now.
    pub reviewed: bool,
    /// Whether the agent has its rights on Pods.
    pub rights: bool,
    /// When the annotations or the record last changed.
    pub changed: Instant,
    pub exists: bool,
    /// Whether the Namespace is being deleted, and when somebody last began to delete one of this
    /// name.
    pub terminating: bool,
    pub deleted: Option<Instant>,
}

impl Namespace {
    pub fn new(name: &'static str, uid: &str, now: Instant) -> Self {
        Self {
            name,
            uid: uid.to_owned(),
            annotations: BTreeMap::new(),
            wishes: BTreeMap::new(),
            reviewed: true,
            rights: false,
            changed: now,
            exists: true,
            terminating: false,
            deleted: None,
        }
    }

    /// When the opt-in ends by its annotations.
    pub fn expires(&self) -> Option<Timestamp> {
        self.annotations.get("purechaos.dev/expires")?.parse().ok()
    }
}

impl Cluster {
    /// The Namespace that a path is about or within.
    pub fn namespace_of(&self, path: &str) -> Option<usize> {
        let name = path.split("/namespaces/").nth(1)?.split('/').next()?;
        self.namespaces.iter().position(|namespace| namespace.name == name)
    }

    /// A Namespace as the rules see it. `None` if it does not exist.
    pub fn view(&self, path: &str) -> Option<NamespaceView> {
        let object = self.api.get(path)?;
        let annotations: Option<BTreeMap<String, String>> =
            serde_json::from_value(object["metadata"]["annotations"].clone()).ok();
        let word = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        Some(NamespaceView {
            name: word("name"),
            uid: word("uid"),
            annotations: annotations.unwrap_or_default(),
            terminating: !object["metadata"]["deletionTimestamp"].is_null(),
        })
    }

    /// Writes a Namespace's annotations, and lets the webhook see them after a while.
    pub fn annotate(&mut self, namespace: usize) {
        let now = self.now();
        let it = &mut self.namespaces[namespace];
        if !it.exists {
            return;
        }
        it.changed = now;
        self.api.put(&objects::namespace_path(it.name), objects::namespace(it));
        let after = self.milliseconds(5, 2_500);
        self.plan(after, Action::Review(namespace));
        let end = self.namespaces[namespace].expires();
        if let Some(left) = end.and_then(|end| end.duration_since(self.clock.wall()).try_into().ok()) {
            // The webhook looks again when the opt-in ends.
            let late = self.milliseconds(5, 2_500);
            self.plan(late.saturating_add(left), Action::Review(namespace));
        }
    }

    /// Writes what the webhook would write about a Namespace as it is now.
    pub fn review(&mut self, namespace: usize) {
        let now = self.now();
        let it = &mut self.namespaces[namespace];
        if it.terminating || !it.exists {
            return;
        }
        objects::review(&self.api, it, &mut self.serial, self.clock.wall());
        it.changed = now;
        let after = self.milliseconds(1, 900);
        self.plan(after, Action::Rights(namespace));
    }

    /// Begins to delete a Namespace. Its content ends in any order. `absence` is how long it takes
    /// until somebody makes a Namespace with the same name again.
    pub fn delete_namespace(&mut self, namespace: usize, absence: Duration) {
        let now = self.now();
        let it = &mut self.namespaces[namespace];
        if it.terminating || !it.exists {
            return;
        }
        (it.terminating, it.deleted, it.changed) = (true, Some(now), now);
        self.api.put(&objects::namespace_path(it.name), objects::namespace(it));
        for (most, ending) in [
            (4_000, Ending::Rights),
            (6_000, Ending::Record),
            (3_000, Ending::Content),
            (9_000, Ending::All(absence)),
        ] {
            let after = self.milliseconds(20, most);
            self.plan(after, Action::End(namespace, ending));
        }
    }

    /// Ends a part of a Namespace that is being deleted.
    pub fn end_of_namespace(&mut self, namespace: usize, ending: Ending) {
        let name = self.namespaces[namespace].name;
        let is_of = |of: &Self, workload: usize| of.workloads[workload].namespace == namespace;
        match ending {
            Ending::Rights => self.namespaces[namespace].rights = false,
            Ending::Record => {
                let path = objects::record_path(name);
                if self.api.get(&path).is_some() {
                    self.api.remove(&path);
                }
            }
            Ending::Content => {
                self.remove_budgets(namespace);
                for workload in
                    (0..self.workloads.len()).filter(|workload| is_of(self, *workload)).collect::<Vec<_>>()
                {
                    self.end_workload(workload);
                }
            }
            Ending::All(absence) => {
                let remains = self.pods.iter().any(|pod| !pod.gone && is_of(self, pod.workload))
                    || self
                        .workloads
                        .iter()
                        .any(|workload| workload.namespace == namespace && workload.exists)
                    || self.api.get(&objects::record_path(name)).is_some();
                if remains {
                    self.plan(Duration::from_millis(500), Action::End(namespace, ending));
                    return;
                }
                let it = &mut self.namespaces[namespace];
                (it.exists, it.rights) = (false, false);
                self.api.remove(&objects::namespace_path(name));
                self.plan(absence, Action::Begin(namespace));
            }
        }
    }

    /// Makes a Namespace with the name of one that is gone, with the same workloads.
    pub fn begin_namespace(&mut self, namespace: usize) {
        self.serial += 1;
        let uid = format!("{:08x}-6a0b-4f7e-9d8e-3c5b7a1e0d4f", self.serial);
        let it = &mut self.namespaces[namespace];
        (it.exists, it.terminating, it.reviewed, it.uid) = (true, false, true, uid);
        it.annotations.clone_from(&it.wishes);
        let mut last: BTreeMap<String, usize> = BTreeMap::new();
        for (number, workload) in self.workloads.iter().enumerate() {
            if workload.namespace == namespace {
                last.insert(workload.name.clone(), number);
            }
        }
        for workload in last.into_values() {
            let (kind, name) = (self.workloads[workload].kind, self.workloads[workload].name.clone());
            self.make_fresh(namespace, kind, &name, self.workloads[workload].desired);
        }
        self.annotate(namespace);
    }
}

/// A part of the end of a Namespace.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    /// The agent's rights.
    Rights,
    Record,
    /// Workloads, Pods and budgets.
    Content,
    /// The Namespace itself, as soon as it is empty. Another one of its name follows after this
    /// time.
    All(Duration),
}
