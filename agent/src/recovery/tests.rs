//! Each case tells a story of what the watch showed after Pod `a` of a Deployment with three Pods was killed.

use super::*;
use crate::guards::Candidate;
use crate::views::examples::{noon, pod, workload};
use runtime::clock::{Clock, SystemClock};

const DEADLINE: Duration = Duration::from_secs(300);

struct Story {
    recovery: Recovery,
    start: Instant,
    pods: Vec<Sighting>,
    surroundings: Surroundings,
}

impl Story {
    fn new() -> Self {
        Self::of("Deployment")
    }

    fn of(kind: &str) -> Self {
        let start = SystemClock.monotonic();
        let workload = workload(kind, "web", 3);
        let candidate = Candidate {
            pod: pod("a"),
            workload: workload.clone(),
            steady_state: 3,
            others: BTreeSet::from(["b-uid".to_owned(), "c-uid".to_owned()]),
        };
        let kill = Kill { candidate, answered: start, at: noon(), deadline: DEADLINE };
        let mut story = Self {
            recovery: Recovery::begin(&kill, &kill.candidate.others),
            start,
            pods: Vec::new(),
            surroundings: Surroundings::Present(workload),
        };
        for name in ["a", "b", "c"] {
            story.pods.push(Sighting {
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
        self.pods.push(Sighting { pod, first_seen });
    }

    fn resize(&mut self, to: u32) {
        if let Surroundings::Present(workload) = &mut self.surroundings {
            workload.desired = Some(to);
        }
    }

    fn judge(&mut self, after: u64) -> Option<Outcome> {
        let pods: Vec<&Sighting> = self.pods.iter().collect();
        self.recovery.judge(&pods, &self.surroundings, self.start + Duration::from_secs(after))
    }
}

#[test]
fn recovered_when_the_replacement_is_ready() {
    let mut story = Story::new();
    assert_eq!(story.judge(1), None);
    story.appears("d", 1, false);
    assert_eq!(story.judge(2), None);
    story.change("d", |replacement| replacement.ready = true);
    assert_eq!(story.judge(3), Some(Outcome::Recovered));
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
    assert_eq!(story.judge(9), Some(Outcome::Recovered));
}

#[test]
fn a_pod_made_before_the_kill_is_no_replacement() {
    let mut story = Story::new();
    story.pods.push(Sighting {
        pod: pod("early"),
        first_seen: story.start.checked_sub(Duration::from_secs(1)).unwrap(),
    });
    assert_eq!(story.judge(1), None);
}

#[test]
fn t0_is_the_earlier_of_answer_and_event() {
    let mut story = Story::new();
    let event = story.start.checked_sub(Duration::from_millis(80)).unwrap();
    story.recovery.victim_seen_dying(event);
    story.recovery.victim_seen_dying(story.start + Duration::from_secs(30));
    let ready = story.start + Duration::from_secs(2);
    story.recovery.pods_changed(ready);
    assert_eq!(story.recovery.duration(), Some(Duration::from_millis(2_080)));
}

#[test]
fn a_stateful_sets_replacement_has_the_victims_name() {
    let mut story = Story::of("StatefulSet");
    story.appears("d", 1, true);
    assert_eq!(story.judge(2), None, "another ordinal");
    let again = PodView { uid: "a-again".to_owned(), ..pod("a") };
    story.pods.push(Sighting { pod: again, first_seen: story.start + Duration::from_secs(2) });
    assert_eq!(story.judge(3), Some(Outcome::Recovered));
}

#[test]
fn a_daemon_sets_replacement_has_the_victims_node() {
    let mut story = Story::of("DaemonSet");
    story.appears("d", 1, true);
    story.change("d", |new| new.node = Some("elsewhere".to_owned()));
    assert_eq!(story.judge(2), None);
    story.appears("e", 2, true);
    assert_eq!(story.judge(3), Some(Outcome::Recovered));
}

#[test]
fn timed_out_at_the_deadline_and_not_before() {
    let mut story = Story::new();
    assert_eq!(story.judge(299), None);
    assert_eq!(story.judge(300), Some(Outcome::TimedOut));
    story.surroundings = Surroundings::Unknown;
    assert_eq!(story.judge(299), None);
    assert_eq!(story.judge(300), Some(Outcome::TimedOut));
}

#[test]
fn recovered_wins_over_the_deadline_when_both_hold() {
    let mut story = Story::new();
    story.appears("d", 1, true);
    assert_eq!(story.judge(300), Some(Outcome::Recovered));
}

#[test]
fn rescaled_when_it_wants_fewer_and_not_when_it_wants_more() {
    let mut story = Story::new();
    story.resize(2);
    assert_eq!(story.judge(1), Some(Outcome::Rescaled));
    let mut story = Story::new();
    story.resize(5);
    story.appears("d", 1, true);
    assert_eq!(story.judge(2), Some(Outcome::Recovered), "three of what it had are enough");
}

#[test]
fn disturbed_when_another_pod_or_the_replacement_is_lost() {
    let mut story = Story::new();
    story.change("b", |other| other.terminating = true);
    assert_eq!(story.judge(1), Some(Outcome::Disturbed));

    let mut story = Story::new();
    story.pods.retain(|seen| seen.pod.name != "c");
    assert_eq!(story.judge(1), Some(Outcome::Disturbed));

    let mut story = Story::new();
    story.appears("d", 1, false);
    assert_eq!(story.judge(1), None);
    story.change("d", |replacement| replacement.finished = true);
    story.appears("e", 2, true);
    assert_eq!(story.judge(3), Some(Outcome::Disturbed));
}

#[test]
fn rolled_out_when_the_template_changes() {
    let mut story = Story::new();
    if let Surroundings::Present(workload) = &mut story.surroundings {
        workload.template = Some("another".to_owned());
    }
    story.appears("d", 1, true);
    assert_eq!(story.judge(2), Some(Outcome::RolledOut));
}

#[test]
fn what_ended_the_surroundings_comes_first() {
    for (surroundings, outcome) in [
        (Surroundings::NamespaceDeleted, Outcome::NamespaceDeleted),
        (Surroundings::OptedOut, Outcome::OptedOut),
        (Surroundings::WorkloadDeleted, Outcome::WorkloadDeleted),
    ] {
        let mut story = Story::new();
        story.appears("d", 1, true);
        story.surroundings = surroundings;
        assert_eq!(story.judge(400), Some(outcome));
    }
}

#[test]
fn a_pod_that_the_watch_never_showed_is_not_lost() {
    let mut story = Story::new();
    story.recovery.seen.remove("c-uid");
    story.pods.retain(|seen| seen.pod.name != "c");
    assert_eq!(story.judge(1), None);
    story.pods.push(Sighting { pod: pod("c"), first_seen: story.start });
    assert_eq!(story.judge(2), None);
    story.pods.retain(|seen| seen.pod.name != "c");
    assert_eq!(story.judge(3), Some(Outcome::Disturbed));
}

#[test]
fn a_resumed_recovery_is_counted_but_not_measured() {
    let story = Story::new();
    let pending = story.recovery.pending();
    let later = noon().checked_add(Duration::from_secs(100)).unwrap();
    let replacement = PodView { created: noon(), ..pod("d") };
    let pods = vec![pod("b"), pod("c"), replacement];
    let mut resumed = Recovery::resume(&pending, DEADLINE, later, story.start).unwrap();
    resumed.pods_changed(story.start);
    let seen: Vec<Sighting> = pods.into_iter().map(|pod| Sighting { pod, first_seen: story.start }).collect();
    let seen: Vec<&Sighting> = seen.iter().collect();
    let present = story.surroundings.clone();
    assert_eq!(resumed.duration(), None);
    assert_eq!(resumed.clone().judge(&seen, &present, story.start), Some(Outcome::RecoveredAfterRestart));
    assert_eq!(resumed.judge(&seen[..2], &present, story.start + Duration::from_secs(199)), None);
    assert_eq!(
        resumed.judge(&seen[..2], &present, story.start + Duration::from_secs(200)),
        Some(Outcome::TimedOut),
        "the deadline counts from the kill"
    );
}

#[test]
fn labels_are_distinct_and_in_order() {
    let labels: BTreeSet<_> = Outcome::ALL.iter().map(|outcome| outcome.label()).collect();
    assert_eq!(labels.len(), Outcome::ALL.len());
    assert!(Outcome::ALL.is_sorted());
}
