//! Which process watches the Pods of which namespace.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::Cluster;
use super::oracle::{Oracle, STALE};

/// A watch that has been down for longer than this counts as none.
const LOST: Duration = Duration::from_secs(5);

/// How many watches are open, and since when none is.
type Open = (usize, Option<Instant>);

/// The watches of Pods, by process and namespace.
#[derive(Debug, Clone, Default)]
pub struct Watches(Arc<Mutex<BTreeMap<(usize, usize), Open>>>);

/// A watch that is open until this value is dropped.
pub struct OpenWatch {
    watches: Watches,
    of: (usize, usize),
}

impl Watches {
    /// Notes that a watch begins.
    pub fn begin(&self, process: usize, namespace: usize) -> OpenWatch {
        let of = (process, namespace);
        let mut watches = self.0.lock().unwrap();
        let it = watches.entry(of).or_default();
        *it = (it.0 + 1, None);
        OpenWatch { watches: self.clone(), of }
    }

    /// Since when a process has no watch. `None` if it has one, or never had one.
    fn down_since(&self, process: usize, namespace: usize) -> Option<Instant> {
        self.0.lock().unwrap().get(&(process, namespace))?.1
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        let mut watches = self.watches.0.lock().unwrap();
        let it = watches.entry(self.of).or_default();
        it.0 -= 1;
        if it.0 == 0 {
            it.1 = Some(Instant::now());
        }
    }
}

impl Oracle {
    /// Checks a kill that a process sends: a recovery that nobody watches can't be measured.
    pub fn watch_of_sent(&mut self, cluster: &Cluster, process: usize, pod: usize) {
        let (now, it) = (cluster.now(), &cluster.pods[pod]);
        let namespace = cluster.workloads[it.workload].namespace;
        let Some(since) = self.watches.down_since(process, namespace) else { return };
        // A round whose calls meet faults takes long, and it looks at the watch at its beginning.
        let is_hindered = self.hindered.get(&process).is_some_and(|at| *at >= since);
        if !is_hindered && now - since > LOST + STALE {
            let text =
                format!("a kill of {} is sent, and for {:?} no watch of Pods was open", it.name, now - since);
            self.violate("watch", text);
        }
    }
}
