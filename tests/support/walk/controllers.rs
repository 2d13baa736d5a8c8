//! The controllers of a walk's cluster, which deal with missing, surplus and older Pods.

use rand::RngExt;
use runtime::clock::Clock;

use super::cluster::{Action, Cluster, Kind, Pod, Workload};

impl Cluster {
    /// Does the next step of a workload's controller.
    pub fn reconcile(&mut self, workload: usize) {
        let Workload { namespace, kind, exists, desired, template, .. } = self.workloads[workload].clone();
        if !exists || self.namespaces[namespace].terminating {
            return;
        }
        let mut live = self.live(workload);
        let before = self.counts(workload);
        live.sort_by_key(|pod| (self.pods[*pod].template, self.pods[*pod].ready));
        let older = live.iter().copied().find(|pod| self.pods[*pod].template != template);
        let all_ready = live.iter().all(|pod| self.pods[*pod].ready);
        match kind {
            Kind::StatefulSet | Kind::DaemonSet => {
                let place =
                    |pod: &Pod| if kind == Kind::StatefulSet { pod.name.clone() } else { pod.node.clone() };
                for number in 0..desired {
                    let (name, node) = if kind == Kind::StatefulSet {
                        (format!("{}-{number}", self.workloads[workload].name), "node".to_owned())
                    } else {
                        (self.fresh_name(workload), format!("node-{number}"))
                    };
                    let wanted = if kind == Kind::StatefulSet { &name } else { &node };
                    let is_there = |pod: &Pod| pod.workload == workload && !pod.gone && place(pod) == *wanted;
                    let name_is_free = self.find_in(namespace, &name).is_none();
                    if name_is_free && !self.pods.iter().any(is_there) {
                        self.make_pod(workload, name, node);
                    }
                }
                let limit = |pod: &Pod| {
                    let number = place(pod).rsplit('-').next().and_then(|number| number.parse().ok());
                    number.is_none_or(|number: usize| number >= desired)
                };
                let surplus: Vec<usize> =
                    live.iter().copied().filter(|pod| limit(&self.pods[*pod])).collect();
                surplus.into_iter().for_each(|pod| self.end(pod, None));
                if let Some(older) = older.filter(|_| all_ready && live.len() >= desired) {
                    self.end(older, None);
                }
            }
            _ => {
                let is_rolling = older.is_some() && kind != Kind::ReplicaSet;
                let room = if is_rolling { desired + 1 } else { desired };
                if live.len() < room {
                    for _ in live.len()..room {
                        let name = self.fresh_name(workload);
                        self.make_pod(workload, name, "node".to_owned());
                    }
                } else if live.len() > room {
                    live.iter().take(live.len() - room).for_each(|pod| self.end(*pod, None));
                } else if let Some(older) = older.filter(|_| is_rolling && all_ready) {
                    self.end(older, None);
                }
            }
        }
        if self.counts(workload) != before {
            self.show(workload);
        }
    }

    fn fresh_name(&mut self, workload: usize) -> String {
        self.serial += 1;
        format!("{}-{}", self.workloads[workload].name, self.serial)
    }

    fn make_pod(&mut self, workload: usize, name: String, node: String) {
        self.serial += 1;
        self.pods.push(Pod {
            uid: format!("{name}-u{}", self.serial),
            name,
            workload,
            template: self.workloads[workload].template,
            node,
            created: self.clock.wall(),
            ready: false,
            terminating: false,
            gone: false,
            excluded: None,
            lost: None,
        });
        let pod = self.pods.len() - 1;
        self.show_pod(pod);
        let after = match self.rng.random_range(0..10) {
            0 => self.milliseconds(40_000, 150_000),
            1 | 2 => self.milliseconds(5_000, 40_000),
            _ => self.milliseconds(300, 5_000),
        };
        self.plan(after, Action::Ready(pod));
    }
}
