//! The Pods that were killed, and the Pods that replace them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Kill, Origin, Recovery, Start, TrackedPod, place};
use crate::cluster::snapshot::PodView;

/// A Pod that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    /// The name of the Pod.
    pub name: String,
    /// The UID of the Pod.
    pub uid: String,
    /// The time of the kill, by the wall clock.
    pub killed: Timestamp,
    /// The node on which the replacement will run, if the Pod belongs to a DaemonSet.
    pub(super) node: Option<String>,
    /// The UID of the Pod that replaces it, once that is known.
    pub(super) replacement: Option<String>,
}

impl Victim {
    pub(super) fn new(name: &str, uid: &str, killed: Timestamp, node: Option<String>) -> Self {
        Self { name: name.to_owned(), uid: uid.to_owned(), killed, node, replacement: None }
    }
}

impl Recovery {
    /// Adds a further kill of the same round in the same workload. The recovery ends only when this
    /// victim is replaced, too.
    pub fn join(&mut self, kill: &Kill) {
        let Kill { candidate, at, .. } = kill;
        self.add_victim(Victim::new(&candidate.pod.name, &candidate.pod.uid, *at, place(candidate)));
    }

    pub(super) fn add_victim(&mut self, victim: Victim) {
        self.others.remove(&victim.uid);
        self.seen.remove(&victim.uid);
        self.victims.push(victim);
    }

    /// The Pods that were killed, in the order of their kills.
    #[must_use]
    pub fn victims(&self) -> &[Victim] {
        &self.victims
    }

    /// The names of the killed Pods, joined with commas.
    #[must_use]
    pub fn pods(&self) -> String {
        self.victims.iter().map(|victim| victim.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The UIDs of the killed Pods, joined with commas.
    #[must_use]
    pub fn uids(&self) -> String {
        self.victims.iter().map(|victim| victim.uid.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether the Pod with this UID was killed.
    #[must_use]
    pub fn is_victim(&self, uid: &str) -> bool {
        self.victims.iter().any(|victim| victim.uid == uid)
    }

    /// Looks for the replacements that are not known yet.
    pub(super) fn find_replacements(&mut self, pods: &[&TrackedPod]) {
        for number in 0..self.victims.len() {
            if self.victims[number].replacement.is_some() {
                continue;
            }
            let replacement = self.find_replacement(&self.victims[number], pods);
            // If it appeared before t0, the watch has not shown the victim's end, and the start is unknown.
            self.interrupted |= replacement.is_some_and(|seen| self.is_before_t0(seen.first_seen));
            self.victims[number].replacement = replacement.map(|seen| seen.pod.uid.clone());
        }
    }

    /// Whether another Pod of the workload, or a replacement, is lost.
    pub(super) fn is_disturbed(&self, pods: &[&TrackedPod]) -> bool {
        let lost = |uid: &String| match pods.iter().find(|seen| seen.pod.uid == *uid) {
            Some(seen) => seen.pod.is_lost(),
            None => self.seen.contains(uid) || self.replacements().any(|known| known == uid),
        };
        self.others.iter().chain(self.replacements()).any(lost)
    }

    /// Whether as many Pods are Ready as before the first kill, with the replacements among them.
    pub(super) fn is_whole(&self, pods: &[&TrackedPod]) -> bool {
        let ready: BTreeSet<&str> = pods
            .iter()
            .filter(|seen| !self.is_victim(&seen.pod.uid) && seen.pod.counts_as_ready())
            .map(|seen| seen.pod.uid.as_str())
            .collect();
        let is_replaced = |victim: &Victim| match &victim.replacement {
            Some(uid) => ready.contains(uid.as_str()),
            // If there are more Ready Pods than there were without the victims, some of them are the
            // replacements.
            None => self.origin == Origin::FirstLook && !self.has_place(victim) && !ready.is_empty(),
        };
        self.victims.iter().all(is_replaced) && ready.len() >= self.steady_state as usize
    }

    fn replacements(&self) -> impl Iterator<Item = &String> {
        self.victims.iter().filter_map(|victim| victim.replacement.as_ref())
    }

    /// Whether the victim's replacement can be recognized by its name or its node.
    fn has_place(&self, victim: &Victim) -> bool {
        self.workload.kind == "StatefulSet" || victim.node.is_some()
    }

    /// Whether the Pod could be the victim's replacement, by its name or its node.
    fn is_in_place(&self, victim: &Victim, pod: &PodView) -> bool {
        match self.workload.kind.as_str() {
            "StatefulSet" => pod.name == victim.name,
            _ => victim.node.is_none() || pod.node == victim.node,
        }
    }

    /// Takes the workload's other Pods from the first look after a restart. The replacements may be
    /// among them.
    pub(super) fn take_stock(&mut self, pods: &[&TrackedPod]) {
        let is_replacement = |pod: &PodView| {
            self.victims.iter().any(|victim| self.has_place(victim) && self.is_in_place(victim, pod))
        };
        let is_other = |seen: &&&TrackedPod| {
            !self.is_victim(&seen.pod.uid) && !seen.pod.is_lost() && !is_replacement(&seen.pod)
        };
        self.others = pods.iter().filter(is_other).map(|seen| seen.pod.uid.clone()).collect();
        self.origin = Origin::FirstLook;
    }

    fn is_before_t0(&self, at: Instant) -> bool {
        matches!(self.start, Start::Seen { t0, .. } if at < t0)
    }

    /// Finds the victim's replacement. For a StatefulSet it has the victim's name and a new UID, and
    /// for a DaemonSet it is on the victim's node. For other workloads it is the first new Pod since
    /// the first kill was requested that replaces no other victim.
    fn find_replacement<'a>(&self, victim: &Victim, pods: &[&'a TrackedPod]) -> Option<&'a TrackedPod> {
        pods.iter()
            .copied()
            .filter(|seen| !self.is_victim(&seen.pod.uid) && !self.others.contains(&seen.pod.uid))
            .filter(|seen| self.replacements().all(|known| *known != seen.pod.uid))
            .filter(|seen| match self.start {
                Start::Seen { asked, .. } => seen.first_seen >= asked,
                Start::BeforeRestart => true,
            })
            .filter(|seen| self.is_in_place(victim, &seen.pod))
            .min_by_key(|seen| (seen.first_seen, seen.pod.created, seen.pod.uid.clone()))
    }
}
