//! What the watch has shown of a namespace's Pods: when each was first seen, its current state, and
//! how often its containers restarted.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::cluster::pod_watch::PodChange;
use crate::cluster::snapshot::PodView;
use crate::recovery::TrackedPod;

/// The Pods of one namespace by UID.
#[derive(Debug, Default)]
pub struct PodStore {
    pods: BTreeMap<String, TrackedPod>,
    listed: bool,
}

/// What a change of the Pods means for the recoveries and the metrics.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Pods that are new, changed or gone.
    pub touched: Vec<PodView>,
    /// UIDs of Pods that are being deleted or gone.
    pub dying: Vec<String>,
    /// Pods whose containers restarted, each with the number of restarts since the Pod was last
    /// seen. The first time a Pod is seen sets the baseline.
    pub restarted: Vec<(PodView, u64)>,
}

impl PodStore {
    /// Whether the watch has listed all Pods at least once.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// The Pods in the order of their UIDs.
    pub fn sightings(&self) -> impl Iterator<Item = &TrackedPod> {
        self.pods.values()
    }

    /// The version of the Pod with this UID that was last seen.
    #[must_use]
    pub fn version(&self, uid: &str) -> Option<u64> {
        self.pods.get(uid).map(|seen| seen.pod.version)
    }

    /// When the Pod with this UID was first seen.
    #[must_use]
    pub fn first_seen(&self, uid: &str) -> Option<Instant> {
        self.pods.get(uid).map(|seen| seen.first_seen)
    }

    /// Stores a change that the watch received at `at`.
    pub fn enter(&mut self, at: Instant, change: PodChange) -> Noticed {
        let mut noticed = Noticed::default();
        match change {
            PodChange::Applied(pod) => self.apply(at, pod, &mut noticed),
            PodChange::Gone(pod) => self.remove(&pod.uid, &mut noticed),
            PodChange::Gap => {}
            PodChange::Listed(pods) => {
                self.listed = true;
                let listed: BTreeSet<&String> = pods.iter().map(|pod| &pod.uid).collect();
                let vanished: Vec<String> =
                    self.pods.keys().filter(|uid| !listed.contains(uid)).cloned().collect();
                for uid in vanished {
                    self.remove(&uid, &mut noticed);
                }
                for pod in pods {
                    self.apply(at, pod, &mut noticed);
                }
            }
        }
        noticed
    }

    fn apply(&mut self, at: Instant, pod: PodView, noticed: &mut Noticed) {
        if pod.terminating {
            noticed.dying.push(pod.uid.clone());
        }
        noticed.touched.push(pod.clone());
        // Drops the labels, which would take half of the memory. Only a round needs labels, and it
        // lists the Pods itself.
        let kept = |pod| PodView { labels: BTreeMap::new(), ..pod };
        match self.pods.get_mut(&pod.uid) {
            Some(known) => {
                // If the count falls, the kubelet lost its history. No container restarted.
                if let Some(restarts @ 1..) = pod.restarts.checked_sub(known.pod.restarts) {
                    noticed.restarted.push((pod.clone(), restarts));
                }
                known.pod = kept(pod);
            }
            None => {
                self.pods.insert(pod.uid.clone(), TrackedPod { pod: kept(pod), first_seen: at });
            }
        }
    }

    fn remove(&mut self, uid: &str, noticed: &mut Noticed) {
        noticed.dying.push(uid.to_owned());
        if let Some(gone) = self.pods.remove(uid) {
            noticed.touched.push(gone.pod);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::snapshot::examples::pod;
    use runtime::clock::{Clock, SystemClock};

    fn restarted(name: &str, restarts: u64) -> PodView {
        PodView { restarts, ..pod(name) }
    }

    #[test]
    fn the_first_sight_of_a_pod_is_its_baseline() {
        let now = SystemClock.monotonic();
        let mut pod_store = PodStore::default();
        assert!(pod_store.enter(now, PodChange::Listed(vec![restarted("a", 5)])).restarted.is_empty());
        let noticed = pod_store.enter(now, PodChange::Applied(restarted("a", 7)));
        assert_eq!(noticed.restarted, [(restarted("a", 7), 2)]);
        assert!(pod_store.enter(now, PodChange::Applied(restarted("a", 7))).restarted.is_empty());
        assert!(pod_store.enter(now, PodChange::Applied(restarted("a", 0))).restarted.is_empty());
        let relisted = pod_store.enter(now, PodChange::Listed(vec![restarted("a", 1), restarted("b", 3)]));
        assert_eq!(relisted.restarted, [(restarted("a", 1), 1)]);
    }

    #[test]
    fn a_pod_that_vanished_between_two_lists_is_gone() {
        let now = SystemClock.monotonic();
        let mut pod_store = PodStore::default();
        assert!(!pod_store.is_listed());
        pod_store.enter(now, PodChange::Listed(vec![pod("a"), pod("b")]));
        assert!(pod_store.is_listed());
        let noticed = pod_store.enter(now, PodChange::Listed(vec![pod("b")]));
        assert_eq!(noticed.dying, ["a-uid"]);
        assert_eq!(pod_store.sightings().count(), 1);
    }

    #[test]
    fn first_seen_stays() {
        let start = SystemClock.monotonic();
        let later = start + std::time::Duration::from_secs(5);
        let mut pod_store = PodStore::default();
        pod_store.enter(start, PodChange::Applied(pod("a")));
        pod_store.enter(later, PodChange::Applied(PodView { terminating: true, ..pod("a") }));
        let seen = pod_store.sightings().next().unwrap();
        assert_eq!((seen.first_seen, seen.pod.terminating), (start, true));
    }
}
