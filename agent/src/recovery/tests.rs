//! Each case tells what the watch showed after Pod `a` of a Deployment with three Pods was killed.

use super::*;
use crate::cluster::snapshot::examples::{noon, pod, workload};
use crate::guard::pods::Candidate;
use runtime::clock::{Clock, SystemClock};

mod gaps;
mod resumed;
mod several;

const DEADLINE: Duration = Duration::from_secs(300);

struct Story {
    recovery: Recovery,
    start: Instant,
    pods: Vec<TrackedPod>,
    workload_state: WorkloadState,
}

impl Story {
    fn new() -> Self {
        Self::of("Deployment")
    }

    fn of(kind: &str) -> Self {
        Self::asked_before(kind, Duration::from_millis(100))
    }

    fn answered_after(late: Duration) -> Self {
        Self::asked_before("Deployment", late)
    }

    fn asked_before(kind: &str, late: Duration) -> Self {
        let start = SystemClock.monotonic();
        let workload = workload(kind, "web", 3);
        let candidate = Candidate {
            pod: pod("a"),
            workload: workload.clone(),
            steady_state: 3,
            others: BTreeSet::from(["b-uid".to_owned(), "c-uid".to_owned()]),
            narrowing: None,
        };
        let asked = start.checked_sub(late).unwrap();
        let kill =
            Kill { candidate, asked, answered: start, at: noon(), deadline: DEADLINE, checks: Vec::new() };
        let mut story = Self {
            recovery: Recovery::begin(&kill, &kill.candidate.others),
            start,
            pods: Vec::new(),
            workload_state: WorkloadState::Present(workload),
        };
        for name in ["a", "b", "c"] {
            story.pods.push(TrackedPod {
                pod: pod(name),
                first_seen: start.checked_sub(Duration::from_secs(60)).unwrap(),
            });
        }
        story.change("a", |victim| victim.terminating = true);
        story
    }

    fn change(&mut self, name: &str, how: impl FnOnce(&mut PodView)) {
        how(&mut self.pods.iter_mut().find(|seen| seen.pod.name == name).unwrap().pod);
    }

    fn appears(&mut self, name: &str, after: u64, ready: bool) {
        let first_seen = self.start + Duration::from_secs(after);
        let pod = PodView { ready, created: noon(), ..pod(name) };
        self.pods.push(TrackedPod { pod, first_seen });
    }

    fn resize(&mut self, to: u32) {
        if let WorkloadState::Present(workload) = &mut self.workload_state {
            workload.desired = Some(to);
        }
    }

    /// The recovery as the next process resumes it. A process after that would read the same from
    /// the record.
    fn resumed(mut self) -> Self {
        let pending = self.recovery.pending(&[]).remove(0);
        self.recovery = Recovery::resume(&pending, DEADLINE, noon(), self.start).unwrap();
        assert_eq!(self.recovery.pending(&[]).remove(0), pending);
        self
    }

    fn judge(&mut self, after: u64) -> Option<RecoveryOutcome> {
        let pods: Vec<&TrackedPod> = self.pods.iter().collect();
        self.recovery.judge(Some(&pods), &self.workload_state, self.start + Duration::from_secs(after))
    }
}

#[test]
fn recovered_when_the_replacement_is_ready() {
    let mut story = Story::new();
    assert_eq!(story.judge(1), None);
    story.appears("d", 1, false);
    assert_eq!(story.judge(2), None);
    story.change("d", |replacement| replacement.ready = true);
    assert_eq!(story.judge(3), Some(RecoveryOutcome::Recovered));
}

#[test]
fn the_victim_never_counts_though_it_still_says_ready() {
    let mut story = Story::new();
    story.change("a", |victim| victim.terminating = false);
    story.change("b", |other| other.ready = false);
    story.appears("d", 1, true);
    assert_eq!(story.judge(2), None);
}

#[test]
fn ready_pods_enough_but_not_the_replacement() {
    let mut story = Story::new();
    story.appears("d", 1, false);
    assert_eq!(story.judge(1), None);
    story.appears("e", 2, true);
    assert_eq!(story.judge(3), None, "e is a Pod too many, d is the replacement");
}

#[test]
fn the_replacement_ready_but_another_pod_not() {
    let mut story = Story::new();
    story.appears("d", 1, true);
    story.change("b", |other| other.ready = false);
    assert_eq!(story.judge(2), None);
    story.change("b", |other| other.ready = true);
    assert_eq!(story.judge(9), Some(RecoveryOutcome::Recovered));
}

#[test]
fn a_pod_made_before_the_kill_is_no_replacement() {
    let mut story = Story::new();
    story.pods.push(TrackedPod {
        pod: pod("early"),
        first_seen: story.start.checked_sub(Duration::from_secs(1)).unwrap(),
    });
    assert_eq!(story.judge(1), None);
}

#[test]
fn t0_is_the_earlier_of_answer_and_event() {
    let mut story = Story::new();
    let event = story.start.checked_sub(Duration::from_millis(80)).unwrap();
    story.recovery.victim_seen_dying("a-uid", event, false);
    story.recovery.victim_seen_dying("a-uid", story.start + Duration::from_secs(30), false);
    let ready = story.start + Duration::from_secs(2);
    story.recovery.pods_changed(ready);
    assert_eq!(story.recovery.duration(), Some(Duration::from_millis(2_080)));
}

/// The watch lost the event that shows the victim being deleted, and the answer came late.
#[test]
fn a_start_that_nobody_saw_is_not_measured() {
    for (late, is_gone, expected) in [
        (900, true, RecoveryOutcome::Recovered),
        (7_000, false, RecoveryOutcome::Recovered),
        (7_000, true, RecoveryOutcome::RecoveredAfterRestart),
    ] {
        let mut story = Story::answered_after(Duration::from_millis(late));
        story.recovery.victim_seen_dying("a-uid", story.start + Duration::from_secs(1), is_gone);
        story.appears("d", 2, true);
        story.recovery.pods_changed(story.start + Duration::from_secs(2));
        assert_eq!(story.judge(2), Some(expected), "{late} {is_gone}");
    }
}

#[test]
fn a_replacement_that_came_before_a_late_answer_counts_and_is_not_measured() {
    let mut story = Story::new();
    let first_seen = story.start.checked_sub(Duration::from_millis(20)).unwrap();
    story.pods.push(TrackedPod { pod: pod("d"), first_seen });
    assert!(story.recovery.is_measured());
    assert_eq!(story.judge(1), Some(RecoveryOutcome::RecoveredAfterRestart));
    assert!(!story.recovery.is_measured());

    let mut story = Story::new();
    let event = story.start.checked_sub(Duration::from_millis(80)).unwrap();
    story.recovery.victim_seen_dying("a-uid", event, false);
    story.pods.push(TrackedPod { pod: pod("d"), first_seen });
    assert_eq!(story.judge(1), Some(RecoveryOutcome::Recovered), "the watch knew when it began");
}

#[test]
fn a_stateful_sets_replacement_has_the_victims_name() {
    let mut story = Story::of("StatefulSet");
    story.appears("d", 1, true);
    assert_eq!(story.judge(2), None, "another ordinal");
    let again = PodView { uid: "a-again".to_owned(), ..pod("a") };
    story.pods.push(TrackedPod { pod: again, first_seen: story.start + Duration::from_secs(2) });
    assert_eq!(story.judge(3), Some(RecoveryOutcome::Recovered));
}

#[test]
fn a_daemon_sets_replacement_has_the_victims_node() {
    let mut story = Story::of("DaemonSet");
    story.appears("d", 1, true);
    story.change("d", |new| new.node = Some("elsewhere".to_owned()));
    assert_eq!(story.judge(2), None);
    story.appears("e", 2, true);
    assert_eq!(story.judge(3), Some(RecoveryOutcome::Recovered));
}

#[test]
fn timed_out_at_the_deadline_and_not_before() {
    let mut story = Story::new();
    assert_eq!(story.judge(299), None);
    assert_eq!(story.judge(300), Some(RecoveryOutcome::TimedOut));
    story.workload_state = WorkloadState::Unknown;
    assert_eq!(story.judge(299), None);
    assert_eq!(story.judge(300), Some(RecoveryOutcome::TimedOut));
}

#[test]
fn recovered_wins_over_the_deadline_when_both_hold() {
    let mut story = Story::new();
    story.appears("d", 1, true);
    assert_eq!(story.judge(300), Some(RecoveryOutcome::Recovered));
}

#[test]
fn rescaled_when_it_wants_fewer_and_not_when_it_wants_more() {
    let mut story = Story::new();
    story.resize(2);
    assert_eq!(story.judge(1), Some(RecoveryOutcome::Rescaled));
    let mut story = Story::new();
    story.resize(5);
    story.appears("d", 1, true);
    assert_eq!(story.judge(2), Some(RecoveryOutcome::Recovered), "three of what it had are enough");
}

#[test]
fn disturbed_when_another_pod_or_the_replacement_is_lost() {
    let mut story = Story::new();
    story.change("b", |other| other.terminating = true);
    assert_eq!(story.judge(1), Some(RecoveryOutcome::Disturbed));

    let mut story = Story::new();
    story.pods.retain(|seen| seen.pod.name != "c");
    assert_eq!(story.judge(1), Some(RecoveryOutcome::Disturbed));

    let mut story = Story::new();
    story.appears("d", 1, false);
    assert_eq!(story.judge(1), None);
    story.change("d", |replacement| replacement.finished = true);
    story.appears("e", 2, true);
    assert_eq!(story.judge(3), Some(RecoveryOutcome::Disturbed));
}

#[test]
fn rolled_out_when_the_template_changes() {
    let mut story = Story::new();
    if let WorkloadState::Present(workload) = &mut story.workload_state {
        workload.template = Some("another".to_owned());
    }
    story.appears("d", 1, true);
    assert_eq!(story.judge(2), Some(RecoveryOutcome::RolledOut));
}

#[test]
fn what_ended_the_surroundings_comes_first() {
    for (workload_state, outcome) in [
        (WorkloadState::NamespaceDeleted, RecoveryOutcome::NamespaceDeleted),
        (WorkloadState::OptedOut, RecoveryOutcome::OptedOut),
        (WorkloadState::WorkloadDeleted, RecoveryOutcome::WorkloadDeleted),
    ] {
        let mut story = Story::new();
        story.appears("d", 1, true);
        story.workload_state = workload_state;
        assert_eq!(story.judge(400), Some(outcome));
    }
}

#[test]
fn a_pod_that_the_watch_never_showed_is_not_lost() {
    let mut story = Story::new();
    story.recovery.seen.remove("c-uid");
    story.pods.retain(|seen| seen.pod.name != "c");
    assert_eq!(story.judge(1), None);
    story.pods.push(TrackedPod { pod: pod("c"), first_seen: story.start });
    assert_eq!(story.judge(2), None);
    story.pods.retain(|seen| seen.pod.name != "c");
    assert_eq!(story.judge(3), Some(RecoveryOutcome::Disturbed));
}

#[test]
fn a_resumed_recovery_is_counted_but_not_measured() {
    let story = Story::new();
    let pending = story.recovery.pending(&[]).remove(0);
    let later = noon().checked_add(Duration::from_secs(100)).unwrap();
    let replacement = PodView { created: noon(), ..pod("d") };
    let pods = vec![pod("b"), pod("c"), replacement];
    let mut resumed = Recovery::resume(&pending, DEADLINE, later, story.start).unwrap();
    resumed.pods_changed(story.start);
    let seen: Vec<TrackedPod> =
        pods.into_iter().map(|pod| TrackedPod { pod, first_seen: story.start }).collect();
    let seen: Vec<&TrackedPod> = seen.iter().collect();
    let present = story.workload_state.clone();
    assert_eq!(resumed.duration(), None);
    assert_eq!(
        resumed.clone().judge(Some(&seen), &present, story.start),
        Some(RecoveryOutcome::RecoveredAfterRestart)
    );
    assert_eq!(resumed.judge(Some(&seen[..2]), &present, story.start + Duration::from_secs(199)), None);
    assert_eq!(
        resumed.judge(Some(&seen[..2]), &present, story.start + Duration::from_secs(200)),
        Some(RecoveryOutcome::TimedOut),
        "the deadline counts from the kill"
    );
}

/// A Pod that is lost after the recovery did not disturb it.
#[test]
fn what_was_whole_while_the_workload_could_not_be_read_has_recovered_then() {
    let mut story = Story::new();
    story.appears("d", 2, true);
    let present = std::mem::replace(&mut story.workload_state, WorkloadState::Unknown);
    story.recovery.pods_changed(story.start + Duration::from_secs(2));
    assert_eq!(story.judge(2), None);
    story.change("b", |other| other.terminating = true);
    story.recovery.pods_changed(story.start + Duration::from_secs(9));
    assert_eq!(story.judge(9), None);
    story.workload_state = present;
    assert_eq!(story.judge(12), Some(RecoveryOutcome::Recovered));
    assert_eq!(story.recovery.duration(), Some(Duration::from_secs(2)));
}

#[test]
fn without_pods_only_surroundings_and_deadline_end_it() {
    let mut story = Story::new();
    let present = story.workload_state.clone();
    assert_eq!(story.recovery.judge(None, &present, story.start), None, "nobody looked, so nothing is lost");
    let later = story.start + DEADLINE;
    assert_eq!(story.recovery.judge(None, &present, later), Some(RecoveryOutcome::TimedOut));
    story.resize(2);
    let rescaled = story.workload_state.clone();
    assert_eq!(story.recovery.judge(None, &rescaled, story.start), Some(RecoveryOutcome::Rescaled));
}

#[test]
fn the_record_names_other_pods_only_where_they_could_pass_for_the_replacement() {
    let mut story = Story::new();
    assert_eq!(story.recovery.pending(&[]).remove(0).others, Vec::<String>::new());
    story.recovery.others.insert("surge-uid".to_owned());
    assert_eq!(story.recovery.pending(&[]).remove(0).others, ["b-uid", "c-uid", "surge-uid"]);
    story.recovery.steady_state = 0;
    story.recovery.others.clear();
    let mut story = story.resumed();
    story.pods.clear();
    assert_eq!(story.judge(1), None, "nothing is not a replacement");
}

#[test]
fn labels_are_distinct_and_in_order() {
    let labels: BTreeSet<_> = RecoveryOutcome::ALL.iter().map(|outcome| outcome.label()).collect();
    assert_eq!(labels.len(), RecoveryOutcome::ALL.len());
    assert!(RecoveryOutcome::ALL.is_sorted());
}
