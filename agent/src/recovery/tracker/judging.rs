//! Decides whether pending recoveries have ended. The watch shows the Pods; before a recovery times
//! out, a live list confirms it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::consent::Consent;
use policy::eligibility::{Eligibility, NamespaceView};
use runtime::client::CallError;
use tokio::time::Instant;

use super::{Ended, RecoveryTracker};
use crate::cluster::list::list;
use crate::cluster::live_consent::read_namespace;
use crate::cluster::pods::SlimPod;
use crate::cluster::snapshot::{PodView, WorkloadView, newest};
use crate::cluster::workloads::{self, ReadError};
use crate::recovery::{Recovery, RecoveryOutcome, TrackedPod, WorkloadState};
use crate::status::StatusWriter;

/// How long the watch may take to show what a live list showed.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first and the longest pause after a live look at an overdue recovery failed. The pause
/// doubles with each failure.
const LIVE_PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// The Pods that a live list showed.
pub(super) struct Listed {
    /// The version of each Pod, by UID.
    pods: BTreeMap<String, u64>,
    /// When the list was complete.
    at: Instant,
}

impl Listed {
    /// The newest version among the Pods.
    fn newest(&self) -> u64 {
        self.pods.values().copied().max().unwrap_or(0)
    }
}

impl RecoveryTracker {
    /// Checks all pending recoveries, even if the watch showed nothing new.
    pub async fn look(&mut self, status_writer: &mut StatusWriter) -> Vec<Ended> {
        self.notice_losses();
        self.listen().await;
        if self.pod_store.is_listed() && !self.knows_all_pods() {
            self.list_owners().await;
        }
        let now = self.context.clock.monotonic();
        self.judge(&self.workloads(), now, status_writer).await
    }

    /// Remembers the Pods that a live list showed.
    pub(super) fn remember(&mut self, pods: &[PodView]) {
        let pods = pods.iter().map(|pod| (pod.uid.clone(), pod.version)).collect();
        self.listed = Some(Listed { pods, at: self.context.clock.monotonic() });
    }

    /// Compares the Pods of the last live list with what the watch showed. A watch can lose a change
    /// of one Pod and show later changes of others. Then nobody knows since when the Pods are as
    /// they are.
    fn notice_losses(&mut self) {
        let now = self.context.clock.monotonic();
        let Some(watch) = &self.watch else { return };
        let has_caught_up = |listed: &mut Listed| {
            watch.has_shown(listed.newest()) && now.saturating_duration_since(listed.at) >= PATIENCE
        };
        let Some(listed) = self.listed.take_if(has_caught_up) else { return };
        let newest = listed.newest();
        let is_lost = |seen: &TrackedPod| match listed.pods.get(&seen.pod.uid) {
            Some(version) => seen.pod.version < *version,
            // The Pod was gone before the list.
            None => seen.pod.version <= newest,
        };
        let lost = self.pod_store.sightings().any(is_lost);
        self.pending.values_mut().for_each(|recovery| recovery.compared(lost));
        if lost {
            tracing::debug!(
                namespace = self.namespace,
                "the watch of Pods lost a change, starting a new one"
            );
            self.pending.values_mut().for_each(|recovery| recovery.interrupt(now));
            watch.begin_anew();
        }
    }

    /// Checks that the watch still delivers changes, as long as a recovery is measured. The
    /// function lists the Pods live, and the watch must show the listed version within
    /// [`PATIENCE`]. A watch that is open but delivers nothing otherwise looks like Pods that do
    /// not change.
    async fn listen(&mut self) {
        let Some(watch) = &self.watch else { return };
        let now = self.context.clock.monotonic();
        if let Some((version, since)) = self.expected.filter(|(version, _)| !watch.has_shown(*version)) {
            if now.saturating_duration_since(since) >= PATIENCE {
                tracing::debug!(
                    namespace = self.namespace,
                    version,
                    "the watch of Pods shows no changes, starting a new one"
                );
                self.expected = None;
                watch.begin_anew();
            }
            return;
        }
        self.expected = None;
        if !self.pending.values().any(Recovery::is_measured) {
            return;
        }
        match list::<SlimPod>(&self.context.client, &self.namespace).await {
            Ok(pods) => {
                let pods: Vec<PodView> = pods.into_iter().map(PodView::from).collect();
                self.remember(&pods);
                self.expected = Some((newest(&pods), self.context.clock.monotonic()));
            }
            Err(error) => {
                tracing::debug!(namespace = self.namespace, error = %error, "failed to list the Pods to check their watch");
            }
        }
    }

    pub(super) async fn judge(
        &mut self,
        workloads: &BTreeSet<String>,
        at: Instant,
        status_writer: &mut StatusWriter,
    ) -> Vec<Ended> {
        let mut ended = Vec::new();
        // The Pods can't be judged until all of them have been listed and their workloads are
        // known.
        let is_known = self.knows_all_pods();
        for uid in workloads {
            let Some(recovery) = self.pending.get_mut(uid) else { continue };
            let (namespace, workload) = tokio::join!(
                read_namespace(&self.context.client, &self.namespace),
                workloads::read(
                    &self.context.client,
                    &self.namespace,
                    &self.context.policy.workloads,
                    &recovery.workload
                ),
            );
            let is_over = |namespace: &NamespaceView| {
                let eligibility = Eligibility::of(namespace, &self.context.policy, self.context.clock.wall());
                Consent::parse(&namespace.annotations) != Consent::Yes
                    || matches!(eligibility, Eligibility::Expired(_))
            };
            let workload_state = workload_state(namespace, workload, &self.namespace_uid, is_over);
            let is_of_workload = |seen: &&TrackedPod| {
                self.owner_cache.known(&seen.pod).is_some_and(|workload| workload.uid == *uid)
            };
            let pods: Vec<&TrackedPod> = self.pod_store.sightings().filter(is_of_workload).collect();
            let mut outcome = recovery.judge(is_known.then_some(pods.as_slice()), &workload_state, at);
            let is_recovered =
                matches!(outcome, Some(RecoveryOutcome::Recovered | RecoveryOutcome::RecoveredAfterRestart));
            if outcome == Some(RecoveryOutcome::TimedOut) {
                outcome = self.judge_live(uid, &workload_state, at).await;
            } else if is_recovered && !self.confirm(uid).await {
                outcome = None;
            }
            if let Some(outcome) = outcome {
                let says = match outcome {
                    RecoveryOutcome::TimedOut => self.complaint_of(uid).await,
                    _ => None,
                };
                self.sampler.answers(uid).await;
                ended.extend(self.conclude(uid, outcome, says.as_deref(), status_writer));
            }
        }
        ended
    }

    /// Confirms with a live list that a workload recovered, because the watch may have lost a change.
    /// If the list fails or shows something else, the recovery stays pending for now.
    async fn confirm(&mut self, workload_uid: &str) -> bool {
        let needs_list = self.pending.get(workload_uid).is_some_and(Recovery::needs_list);
        if needs_list && self.is_live_look_due() {
            match list::<SlimPod>(&self.context.client, &self.namespace).await {
                Ok(pods) => {
                    (self.failed_looks, self.next_live_look) = (0, None);
                    let pods: Vec<PodView> = pods.into_iter().map(PodView::from).collect();
                    self.remember(&pods);
                    let pods = self.of_workload(workload_uid, pods);
                    if let Some(recovery) = self.pending.get_mut(workload_uid) {
                        recovery.listed(&pods.iter().collect::<Vec<_>>());
                    }
                }
                Err(error) => self.live_look_failed(workload_uid, &error.to_string()),
            }
        }
        self.pending.get(workload_uid).is_some_and(Recovery::is_confirmed)
    }

    /// Checks an overdue recovery with a live list. The watch may have missed the recovery, or this
    /// process may have been away. If the live look fails, the recovery stays pending and the agent
    /// looks again later.
    async fn judge_live(
        &mut self,
        workload_uid: &str,
        workload_state: &WorkloadState,
        at: Instant,
    ) -> Option<RecoveryOutcome> {
        if !self.is_live_look_due() {
            return None;
        }
        let (client, namespace) = (&self.context.client, &self.namespace);
        let listed = match workload_state {
            WorkloadState::Unknown => Err("the namespace or the workload could not be read".to_owned()),
            _ => tokio::try_join!(
                list::<SlimPod>(client, namespace),
                workloads::replica_sets(client, namespace)
            )
            .map_err(|error| error.to_string()),
        };
        match listed {
            Ok((pods, replica_sets)) => {
                (self.failed_looks, self.next_live_look) = (0, None);
                self.owner_cache.learn(&replica_sets, self.pod_store.sightings().map(|seen| &seen.pod));
                let pods = self.of_workload(workload_uid, pods.into_iter().map(PodView::from));
                let recovery = self.pending.get_mut(workload_uid)?;
                // Nobody saw when the workload recovered.
                recovery.interrupt(self.context.clock.monotonic());
                recovery.judge(Some(&pods.iter().collect::<Vec<_>>()), workload_state, at)
            }
            Err(error) => {
                self.live_look_failed(workload_uid, &error);
                None
            }
        }
    }

    /// Those of the listed Pods that belong to the workload.
    fn of_workload(&self, uid: &str, listed: impl IntoIterator<Item = PodView>) -> Vec<TrackedPod> {
        let now = self.context.clock.monotonic();
        let tracked = |pod: PodView| {
            let first_seen = self.pod_store.first_seen(&pod.uid).unwrap_or(now);
            TrackedPod { pod, first_seen }
        };
        let is_of_workload =
            |seen: &TrackedPod| self.owner_cache.known(&seen.pod).is_some_and(|workload| workload.uid == uid);
        listed.into_iter().map(tracked).filter(is_of_workload).collect()
    }

    fn is_live_look_due(&self) -> bool {
        let now = self.context.clock.monotonic();
        self.next_live_look.is_none_or(|next| next <= now)
    }

    fn live_look_failed(&mut self, workload_uid: &str, error: &str) {
        let (first, most) = LIVE_PAUSES;
        let pause = first.saturating_mul(1 << self.failed_looks.min(8)).min(most);
        self.failed_looks = self.failed_looks.saturating_add(1);
        self.next_live_look = Some(self.context.clock.monotonic() + pause);
        tracing::warn!(
            namespace = self.namespace,
            workload_uid,
            error,
            "failed to check the end of a recovery, the recovery stays pending"
        );
    }
}

/// Combines the reads of the namespace and of the workload. If a read that is needed failed, for
/// missing rights or any other reason, the state is unknown.
fn workload_state(
    namespace: Result<NamespaceView, CallError>,
    workload: Result<Option<WorkloadView>, ReadError>,
    namespace_uid: &str,
    is_over: impl Fn(&NamespaceView) -> bool,
) -> WorkloadState {
    match (namespace, workload) {
        (Ok(namespace), _) if !namespace.is_still(namespace_uid) => WorkloadState::NamespaceDeleted,
        (Err(error), _) if error.code() == Some(404) => WorkloadState::NamespaceDeleted,
        (Ok(namespace), _) if is_over(&namespace) => WorkloadState::OptedOut,
        (Ok(_), Ok(None)) => WorkloadState::WorkloadDeleted,
        (Ok(_), Ok(Some(workload))) => WorkloadState::Present(workload),
        _ => WorkloadState::Unknown,
    }
}
