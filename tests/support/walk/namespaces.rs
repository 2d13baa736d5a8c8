//! The Namespaces of a walk, as they truly are, and what the webhook makes of them.

use std::collections::BTreeMap;

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
            terminating: false,
        })
    }

    /// Writes a Namespace's annotations, and lets the webhook see them after a while.
    pub fn annotate(&mut self, namespace: usize) {
        let now = self.now();
        let it = &mut self.namespaces[namespace];
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
        objects::review(&self.api, it, &mut self.serial, self.clock.wall());
        it.changed = now;
        let after = self.milliseconds(1, 900);
        self.plan(after, Action::Rights(namespace));
    }
}
