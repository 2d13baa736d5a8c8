//! Recoveries as the product defines them, computed only from what an observer of the Pods saw.
//! This file shares no code with the agent. A test compares the agent's figures with these.

use std::collections::BTreeMap;

use serde_json::Value;

/// A workload's kind and name.
pub type Workload = (String, String);

/// The workloads that exist, with the number of Pods that each wants.
pub type Desired = BTreeMap<Workload, usize>;

/// How a Pod looked at one moment: one line of the observer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// Seconds by the observer's clock.
    pub at: f64,
    /// The Pod's name.
    pub name: String,
    /// The Pod's UID.
    pub uid: String,
    /// The workload that the Pod belongs to.
    pub workload: Workload,
    /// The Pod's node.
    pub node: Option<String>,
    /// Whether the Pod's condition Ready is True and the Pod is neither being deleted nor gone.
    pub ready: bool,
    /// Whether the Pod is being deleted or gone.
    pub dying: bool,
}

impl Sight {
    /// Reads a line of the observer.
    pub fn parse(line: &str, desired: &Desired) -> Self {
        let line: Value = serde_json::from_str(line).unwrap();
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let dying = line["event"] == "deleted" || line["terminating"] == true;
        let owner = (word(&line["owner"]["kind"]).unwrap(), word(&line["owner"]["name"]).unwrap());
        Self {
            at: line["at"].as_f64().unwrap(),
            name: word(&line["name"]).unwrap(),
            uid: word(&line["uid"]).unwrap(),
            workload: workload_of(owner, desired),
            node: word(&line["node"]),
            ready: line["ready"] == true && !dying,
            dying,
        }
    }
}

/// The owner itself, or the Deployment that has the name of the ReplicaSet without the hash.
fn workload_of(owner: (String, String), desired: &Desired) -> Workload {
    match (owner.0.as_str(), owner.1.rsplit_once('-')) {
        ("ReplicaSet", Some((deployment, _hash))) if !desired.contains_key(&owner) => {
            ("Deployment".to_owned(), deployment.to_owned())
        }
        _ => owner,
    }
}

/// How many seconds after the first death of a round further Pods of the workload may die in it.
const ONE_ROUND: f64 = 2.0;

/// The kills of a round in a workload, and how long the workload took to recover.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovery {
    /// The first victim at the moment when the observer first saw it dying.
    pub victim: Sight,
    /// The further victims of the same round.
    pub further: Vec<Sight>,
    /// The seconds from that moment until the recovery. `None` if the observer didn't see the
    /// recovery.
    pub seconds: Option<f64>,
    /// The number of Ready Pods that the workload had and wanted.
    enough: usize,
    /// How many Pods the observer had seen by then. Later Pods are new.
    seen: usize,
    /// The index of each victim's replacement among the Pods seen.
    replacements: Vec<Option<usize>>,
}

impl Recovery {
    /// Begins a recovery. `pods` holds the last sight of each Pod that was seen before, including
    /// this one.
    fn begin(victim: &Sight, pods: &[Sight], desired: &Desired) -> Self {
        let ready = pods.iter().filter(|pod| pod.ready && pod.workload == victim.workload).count();
        Self {
            victim: victim.clone(),
            further: Vec::new(),
            seconds: None,
            enough: ready.min(desired[&victim.workload]),
            seen: pods.len(),
            replacements: vec![None],
        }
    }

    /// All victims, the first one first.
    pub fn victims(&self) -> impl Iterator<Item = &Sight> {
        std::iter::once(&self.victim).chain(&self.further)
    }

    /// Whether a Pod that dies at this moment was killed in the same round.
    fn is_joined_by(&self, dying: &Sight, pods: &[Sight]) -> bool {
        let was_there = pods[..self.seen].iter().any(|pod| pod.uid == dying.uid);
        self.seconds.is_none()
            && self.victim.workload == dying.workload
            && was_there
            && dying.at - self.victim.at < ONE_ROUND
    }

    fn look(&mut self, at: f64, pods: &[Sight]) {
        let victims: Vec<Sight> = self.victims().cloned().collect();
        let is_other = |pod: &Sight| {
            pod.workload == self.victim.workload && victims.iter().all(|victim| pod.uid != victim.uid)
        };
        for (number, victim) in victims.iter().enumerate() {
            let replaces = |pod: &Sight| match victim.workload.0.as_str() {
                "StatefulSet" => pod.name == victim.name,
                "DaemonSet" => pod.node == victim.node,
                _ => true,
            };
            let is_free = |place: &usize| !self.replacements.contains(&Some(*place));
            if self.replacements[number].is_none() {
                let mut new =
                    (self.seen..pods.len()).filter(|place| is_other(&pods[*place]) && is_free(place));
                self.replacements[number] = new.find(|place| replaces(&pods[*place]));
            }
        }
        let ready = pods.iter().filter(|pod| is_other(pod) && pod.ready).count();
        let is_ready = |place: &Option<usize>| place.is_some_and(|place| pods[place].ready);
        if self.replacements.iter().all(is_ready) && ready >= self.enough {
            self.seconds = Some(at - self.victim.at);
        }
    }
}

/// The recoveries after Pods' ends, in the order of the ends.
pub fn recoveries(sights: &[Sight], desired: &Desired) -> Vec<Recovery> {
    // The last sight of each Pod, in the order in which they were first seen.
    let mut pods: Vec<Sight> = Vec::new();
    let mut recoveries: Vec<Recovery> = Vec::new();
    for sight in sights {
        let is_known = |known: &Recovery| known.victims().any(|victim| victim.uid == sight.uid);
        if sight.dying && !recoveries.iter().any(is_known) {
            match recoveries.iter_mut().find(|known| known.is_joined_by(sight, &pods)) {
                Some(known) => {
                    known.further.push(sight.clone());
                    known.replacements.push(None);
                }
                None => recoveries.push(Recovery::begin(sight, &pods, desired)),
            }
        }
        match pods.iter_mut().find(|pod| pod.uid == sight.uid) {
            Some(pod) => *pod = sight.clone(),
            None => pods.push(sight.clone()),
        }
        let is_concerned =
            |known: &&mut Recovery| known.seconds.is_none() && known.victim.workload == sight.workload;
        recoveries.iter_mut().filter(is_concerned).for_each(|recovery| recovery.look(sight.at, &pods));
    }
    recoveries
}

/// How many Pods were Ready at the end.
pub fn ready(sights: &[Sight]) -> usize {
    let last: BTreeMap<&str, bool> = sights.iter().map(|sight| (sight.uid.as_str(), sight.ready)).collect();
    last.values().filter(|ready| **ready).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The seconds of each recovery of a workload that wants two Pods. Each line gives the time,
    /// the Pod (its name, and after a dot the rest of its UID), and what the observer sees of it.
    fn seconds(owner: (&str, &str), lines: &[(f64, &str, &str)]) -> Vec<Option<f64>> {
        let workloads =
            [("Deployment", "web"), ("ReplicaSet", "bare-1"), ("StatefulSet", "db"), ("DaemonSet", "log")];
        let desired = workloads.map(|(kind, name)| ((kind.to_owned(), name.to_owned()), 2)).into();
        let sight = |(at, pod, seen): &(f64, &str, &str)| {
            let line = json!({
                "at": at, "name": pod.split('.').next(), "uid": pod, "node": seen.split_once('@').map(|(_, node)| node),
                "owner": {"kind": owner.0, "name": owner.1, "uid": "owner"},
                "event": if *seen == "gone" { "deleted" } else { "applied" },
                "ready": seen.starts_with("ready"), "terminating": seen.contains("ending"),
            });
            Sight::parse(&line.to_string(), &desired)
        };
        let sights: Vec<Sight> = lines.iter().map(sight).collect();
        recoveries(&sights, &desired).into_iter().map(|recovery| recovery.seconds).collect()
    }

    const WEB: (&str, &str) = ("ReplicaSet", "web-5d7f");

    #[test]
    fn until_the_replacement_is_ready_not_until_the_victim_is_gone() {
        for owner in [WEB, ("ReplicaSet", "bare-1")] {
            let lines = [
                (0.0, "a", "ready"),
                (0.0, "b", "ready"),
                (10.0, "a", "ready, ending"),
                (10.5, "c", "made"),
                (13.0, "c", "ready"),
                (40.0, "a", "gone"),
            ];
            assert_eq!(seconds(owner, &lines), [Some(3.0)]);
            assert_eq!(seconds(owner, &lines[..4]), [None]);
        }
        let gone_first = [
            (0.0, "a", "ready"),
            (0.0, "b", "ready"),
            (10.0, "a", "ready, ending"),
            (10.5, "c", "made"),
            (11.0, "a", "gone"),
            (25.0, "c", "ready"),
        ];
        assert_eq!(seconds(WEB, &gone_first), [Some(15.0)]);
    }

    #[test]
    fn as_many_as_before_are_needed_beside_the_replacement() {
        let lines = [
            (0.0, "a", "ready"),
            (0.0, "b", "ready"),
            (10.0, "a", "ending"),
            (10.1, "b", "unwell"),
            (12.0, "c", "ready"),
            (18.0, "b", "ready"),
        ];
        assert_eq!(seconds(WEB, &lines), [Some(8.0)]);
        let one_was_unwell =
            [(0.0, "a", "ready"), (0.0, "b", "unwell"), (10.0, "a", "ending"), (12.0, "c", "ready")];
        assert_eq!(seconds(WEB, &one_was_unwell), [Some(2.0)]);
    }

    #[test]
    fn the_replacement_itself_is_needed_and_the_first_new_pod_is_it() {
        let lines = [
            (0.0, "a", "ready"),
            (0.0, "b", "ready"),
            (10.0, "a", "ending"),
            (10.1, "c", "made"),
            (11.0, "d", "ready"),
            (14.0, "c", "ready"),
        ];
        assert_eq!(seconds(WEB, &lines), [Some(4.0)]);
        let surge = [
            (0.0, "c", "made"),
            (0.0, "a", "ready"),
            (0.0, "b", "ready"),
            (10.0, "a", "ending"),
            (11.0, "c", "ready"),
        ];
        assert_eq!(seconds(WEB, &surge), [None], "seen before the kill, so it replaces nobody");
        let ends_too =
            [(0.0, "a", "ready"), (0.0, "b", "ready"), (10.0, "a", "ending"), (11.0, "c", "ready, ending")];
        assert_eq!(seconds(WEB, &ends_too), [None, None]);
    }

    #[test]
    fn a_stateful_set_replaces_by_name_and_a_daemon_set_on_the_node() {
        let stateful = [
            (0.0, "db-0.1", "ready"),
            (0.0, "db-1.1", "ready"),
            (10.0, "db-0.1", "ending"),
            (11.0, "db-2.1", "ready"),
            (12.0, "db-0.1", "gone"),
            (12.0, "db-0.2", "made"),
            (17.0, "db-0.2", "ready"),
        ];
        assert_eq!(seconds(("StatefulSet", "db"), &stateful), [Some(7.0)]);
        let daemons = [
            (0.0, "a", "ready@one"),
            (0.0, "b", "ready@two"),
            (10.0, "a", "ready, ending@one"),
            (11.0, "d", "ready@three"),
            (12.0, "c", "made"),
            (15.0, "c", "ready@one"),
        ];
        assert_eq!(seconds(("DaemonSet", "log"), &daemons), [Some(5.0)]);
    }

    #[test]
    fn pods_that_die_together_share_a_recovery_until_each_is_replaced() {
        let lines = [
            (0.0, "a", "ready"),
            (0.0, "b", "ready"),
            (10.0, "a", "ending"),
            (10.2, "b", "ending"),
            (10.5, "c", "made"),
            (10.6, "d", "made"),
            (13.0, "c", "ready"),
            (14.0, "e", "ready"),
            (17.0, "d", "ready"),
        ];
        assert_eq!(seconds(WEB, &lines), [Some(7.0)]);
        assert_eq!(seconds(WEB, &lines[..8]), [None], "e replaces neither");
        let stateful = [
            (0.0, "db-0.1", "ready"),
            (0.0, "db-1.1", "ready"),
            (10.0, "db-0.1", "ending"),
            (10.1, "db-1.1", "ending"),
            (12.0, "db-0.2", "ready"),
            (15.0, "db-1.2", "ready"),
        ];
        assert_eq!(seconds(("StatefulSet", "db"), &stateful), [Some(5.0)]);
    }

    #[test]
    fn a_pod_that_is_only_seen_to_be_gone_ended_then_and_each_has_a_recovery_of_its_own() {
        let lines = [
            (0.0, "a", "ready"),
            (0.0, "b", "ready"),
            (10.0, "a", "gone"),
            (12.0, "c", "ready"),
            (20.0, "b", "ending"),
            (20.5, "d", "made"),
            (21.0, "b", "gone"),
            (26.0, "d", "ready"),
        ];
        assert_eq!(seconds(WEB, &lines), [Some(2.0), Some(6.0)]);
    }
}
