//! The choice of victims: at most so many, at most one per workload, without replacement.

use std::collections::BTreeMap;

use jiff::Timestamp;
use policy::schedule::Timetable;
use rand::{Rng, RngExt};

use crate::guards::Candidate;

/// Leaves the candidates whose workload takes part in this slot: all of them, but with `mtbf` those whose turn it is.
pub fn keep_due(
    candidates: &mut Vec<Candidate>,
    timetable: &Timetable,
    namespace_uid: &str,
    slot: Timestamp,
) {
    candidates.retain(|candidate| timetable.is_due(namespace_uid, &candidate.workload.reference.uid, slot));
}

/// Chooses up to `limit` workloads, each as likely as the other, and one Pod of each.
pub fn select_victims<'a>(candidates: &'a [Candidate], limit: u32, rng: &mut impl Rng) -> Vec<&'a Candidate> {
    // A BTreeMap, not a HashMap: iteration order must not depend on a random hash seed.
    let mut workloads: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        workloads.entry(&candidate.workload.reference.uid).or_default().push(candidate);
    }
    let mut workloads: Vec<Vec<&Candidate>> = workloads.into_values().collect();
    let mut victims = Vec::new();
    while victims.len() < limit as usize && !workloads.is_empty() {
        let mut pods = workloads.swap_remove(rng.random_range(0..workloads.len()));
        victims.push(pods.swap_remove(rng.random_range(0..pods.len())));
    }
    victims
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::examples::{pod, workload};
    use jiff::tz::TimeZone;
    use policy::schedule::Schedule;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn candidates(sizes: &[usize]) -> Vec<Candidate> {
        sizes
            .iter()
            .enumerate()
            .flat_map(|(w, size)| {
                (0..*size).map(move |p| Candidate {
                    pod: pod(&format!("w{w}-{p}")),
                    workload: workload("Deployment", &format!("w{w}"), 3),
                    steady_state: 3,
                    others: BTreeSet::new(),
                })
            })
            .collect()
    }

    #[test]
    fn a_seed_gives_the_same_choice_again() {
        let candidates = candidates(&[3, 3, 3]);
        let choose = |seed| -> Vec<String> {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            select_victims(&candidates, 2, &mut rng).iter().map(|victim| victim.pod.name.clone()).collect()
        };
        assert_eq!(choose(7), choose(7));
        let choices: BTreeSet<_> = (0..20).map(choose).collect();
        assert!(choices.len() > 5, "{choices:?}");
    }

    #[test]
    fn a_large_workload_is_not_likelier_than_a_small_one() {
        let candidates = candidates(&[1, 50]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let small = (0..1_000)
            .filter(|_| select_victims(&candidates, 1, &mut rng)[0].workload.reference.name == "w0")
            .count();
        assert!((400..600).contains(&small), "{small}");
    }

    /// Kills of each workload over so many slots of `mtbf`, by their numbers, where nothing else stops any.
    fn kills_by_mtbf(sizes: &[usize], slots: usize) -> Vec<Vec<usize>> {
        let timetable = Timetable {
            schedule: Schedule::parse("mtbf 20m").unwrap(),
            also_at: None,
            zone: TimeZone::UTC,
            shortest_interval: Duration::from_secs(60),
        };
        let all = candidates(sizes);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut kills = vec![Vec::new(); sizes.len()];
        let mut slot: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        for number in 0..slots {
            slot = timetable.next_after("namespace", slot).unwrap();
            let mut due = all.clone();
            keep_due(&mut due, &timetable, "namespace", slot);
            for victim in select_victims(&due, u32::MAX, &mut rng) {
                kills[victim.workload.reference.name[1..].parse::<usize>().unwrap()].push(number);
            }
        }
        kills
    }

    /// With a mean of 20 slots a workload is due in one with p = 1 − exp(−1/20), so over n slots np times with variance np(1 − p), and from one
    /// time to the next more than k slots pass with probability exp(−k/20): the exponential distribution, seen at whole slots.
    #[test]
    fn by_mtbf_each_workload_dies_at_the_same_rate_and_exponentially_however_many_there_are_and_however_large()
     {
        let slots = 4_000;
        let p = -(-1.0_f64 / 20.0).exp_m1();
        for (workloads, pods) in [(1, 1), (1, 50), (10, 1), (10, 7), (60, 3)] {
            let kills = kills_by_mtbf(&vec![pods; workloads], slots);
            let expected = p * (slots * workloads) as f64;
            let total = kills.iter().map(Vec::len).sum::<usize>() as f64;
            let deviation = (expected * (1.0 - p)).sqrt();
            let away = (total - expected) / deviation;
            println!(
                "{workloads} workloads of {pods}: {total} kills, {expected:.0} expected, {away:+.1} standard deviations"
            );
            assert!(
                away.abs() < 4.0,
                "{workloads} workloads of {pods} Pods: {total} kills, {expected:.0} expected"
            );

            let gaps: Vec<usize> =
                kills.iter().flat_map(|of_one| of_one.windows(2).map(|two| two[1] - two[0])).collect();
            let n = gaps.len() as f64;
            // Kolmogorov and Smirnov: the largest distance between the two distributions exceeds 1.95/√n once in a thousand times.
            let largest = (1..200)
                .map(|k| {
                    (gaps.iter().filter(|gap| **gap > k).count() as f64 / n - (-(k as f64) / 20.0).exp())
                        .abs()
                })
                .fold(0.0, f64::max);
            assert!(
                largest < 1.95 / n.sqrt(),
                "{workloads} workloads of {pods} Pods: {largest} of {}",
                1.95 / n.sqrt()
            );
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_nor_two_of_a_workload(
            sizes in prop::collection::vec(0..6usize, 0..6), limit in 0..8u32, seed in any::<u64>()
        ) {
            let candidates = candidates(&sizes);
            let victims = select_victims(&candidates, limit, &mut ChaCha8Rng::seed_from_u64(seed));
            let workloads: BTreeSet<_> = victims.iter().map(|victim| &victim.workload.reference.uid).collect();
            let nonempty = sizes.iter().filter(|size| **size > 0).count();
            prop_assert_eq!(victims.len(), workloads.len());
            prop_assert_eq!(victims.len(), nonempty.min(limit as usize));
        }
    }
}
