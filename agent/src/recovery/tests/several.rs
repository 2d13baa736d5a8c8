//! Several Pods of a workload die in one round.

use super::*;

/// A round that killed Pods `a` and `b` of three.
fn story(kind: &str) -> Story {
    let mut story = Story::of(kind);
    let workload = workload(kind, "web", 3);
    let candidate =
        Candidate { pod: pod("b"), workload, steady_state: 2, others: BTreeSet::new(), narrowing: None };
    let asked = story.start + Duration::from_millis(300);
    let kill = Kill {
        candidate,
        asked,
        answered: asked,
        at: noon() + Duration::from_millis(300),
        deadline: DEADLINE,
        checks: Vec::new(),
    };
    story.recovery.join(&kill);
    story.change("b", |victim| victim.terminating = true);
    story
}

#[test]
fn recovered_when_each_victim_is_replaced() {
    let mut story = story("Deployment");
    assert_eq!(story.judge(1), None, "the other victim is no loss");
    story.appears("d", 1, true);
    assert_eq!(story.judge(2), None);
    story.appears("e", 2, false);
    story.recovery.pods_changed(story.start + Duration::from_secs(2));
    assert_eq!(story.judge(3), None);
    story.change("e", |replacement| replacement.ready = true);
    story.recovery.pods_changed(story.start + Duration::from_secs(4));
    assert_eq!(story.judge(4), Some(RecoveryOutcome::Recovered));
    assert_eq!(story.recovery.duration(), Some(Duration::from_secs(4)), "from the first kill");
}

#[test]
fn a_further_pod_is_not_the_second_replacement_if_that_is_known() {
    let mut story = story("Deployment");
    story.appears("d", 1, true);
    story.appears("e", 1, false);
    assert_eq!(story.judge(1), None);
    story.appears("f", 2, true);
    assert_eq!(story.judge(2), None, "f is a Pod too many, e is the replacement");
}

#[test]
fn a_stateful_sets_pods_come_back_by_name() {
    let mut story = story("StatefulSet");
    for (old, new) in [("a", "a-again"), ("b", "b-again")] {
        story.pods.retain(|seen| seen.pod.name != old);
        story.appears(new, 1, false);
        story.change(new, |pod| pod.name = old.to_owned());
    }
    story.change("b", |pod| pod.ready = true);
    story.appears("d", 1, true);
    assert_eq!(story.judge(2), None, "there are Ready Pods enough, but a is not back");
    story.change("a", |pod| pod.ready = true);
    assert_eq!(story.judge(3), Some(RecoveryOutcome::Recovered));
}

#[test]
fn the_loss_of_a_third_pod_or_of_a_replacement_disturbs() {
    let mut third = story("Deployment");
    third.change("c", |other| other.terminating = true);
    assert_eq!(third.judge(1), Some(RecoveryOutcome::Disturbed));
    let mut replacement = story("Deployment");
    replacement.appears("d", 1, true);
    assert_eq!(replacement.judge(1), None);
    replacement.change("d", |pod| pod.terminating = true);
    assert_eq!(replacement.judge(2), Some(RecoveryOutcome::Disturbed));
}

#[test]
fn the_next_process_waits_for_each_victims_replacement() {
    let mut story = story("Deployment");
    let pending = story.recovery.pending(&[]);
    assert_eq!(pending.iter().map(|kill| kill.pod.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    story.recovery = Recovery::resume(&pending[0], DEADLINE, noon(), story.start).unwrap();
    assert!(story.recovery.rejoin(&pending[1]));
    assert_eq!(story.recovery.pending(&[]), pending);
    story.appears("d", 1, true);
    assert_eq!(story.judge(2), None);
    story.appears("e", 2, true);
    assert_eq!(story.judge(3), Some(RecoveryOutcome::RecoveredAfterRestart));
}

#[test]
fn only_the_first_victim_says_when_the_recovery_began() {
    let mut late = Story::answered_after(Duration::from_secs(3));
    let seen = late.start + Duration::from_secs(1);
    late.recovery.add_victim(Victim::new("b", "b-uid", noon(), None));
    late.recovery.victim_seen_dying("b-uid", seen, false);
    late.change("b", |victim| victim.terminating = true);
    late.appears("d", 2, true);
    late.appears("e", 2, true);
    late.recovery.pods_changed(late.start + Duration::from_secs(2));
    assert_eq!(late.judge(2), Some(RecoveryOutcome::RecoveredAfterRestart));
}
