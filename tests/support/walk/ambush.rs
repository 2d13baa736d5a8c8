//! Users who act at the worst moment: just after a process has decided to kill.

use std::collections::BTreeSet;

use policy::record::OptInStatus;
use policy::well_known::HALT;
use serde_json::Value;

use super::objects::{self, SYSTEM};
use super::world::World;

/// What a user does when the intent of a kill is stored.
#[derive(Debug, Clone, Copy)]
pub enum Ambush {
    /// The Pod asks to be left alone.
    Exclude,
    Halt,
    HaltEverything,
    OptOut,
}

impl World {
    /// Lets the user who waits act, if a write of a record's status has stored an intent.
    pub fn ambush(&mut self, before: &Value, after: &Value) {
        let uids = |record: &Value| -> BTreeSet<String> {
            let status: OptInStatus = serde_json::from_value(record["status"].clone()).unwrap_or_default();
            status.intents.into_iter().map(|intent| intent.kill.uid).collect()
        };
        let new = uids(after).difference(&uids(before)).next().cloned();
        let victim = new.and_then(|new| self.cluster.pods.iter().position(|pod| pod.uid == new));
        let Some((pod, ambush)) = victim.and_then(|pod| Some((pod, self.ambushes.pop()?))) else { return };
        self.say(&format!("> {ambush:?} at the intent to kill {}", self.cluster.pods[pod].name));
        let namespace = self.cluster.workloads[self.cluster.pods[pod].workload].namespace;
        let annotations = &mut self.cluster.namespaces[namespace].annotations;
        match ambush {
            Ambush::Exclude if self.cluster.pods[pod].gone => {}
            Ambush::Exclude => self.cluster.exclude(pod, true),
            Ambush::HaltEverything => self.cluster.api.put(SYSTEM, objects::system(true)),
            Ambush::Halt => {
                annotations.insert(HALT.to_owned(), "at once".to_owned());
                self.cluster.annotate(namespace);
            }
            Ambush::OptOut => {
                annotations.remove("chaos");
                self.cluster.annotate(namespace);
            }
        }
        self.agenda_changed.notify_waiters();
        self.look();
    }
}
