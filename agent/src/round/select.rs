//! Selects the victims: at most `limit` Pods, and at most `per-workload` Pods of each workload.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use policy::ceilings::Ceilings;
use policy::schedule::{Schedule, Timetable};
use policy::settings::Settings;
use rand::{Rng, RngExt};

use crate::guard::pods::{Candidate, Screening};
use crate::refusal::Refusal;

/// Decides which workloads take part in a slot.
#[derive(Debug, Clone, Copy)]
pub struct Turns<'a> {
    /// The timetable from which the slot was computed. Without it, every workload takes part.
    pub timetable: Option<&'a Timetable>,
    /// The namespace's UID.
    pub namespace_uid: &'a str,
    /// The slot.
    pub slot: Timestamp,
    /// The schedules that Pod templates narrow, by the UID of the workload.
    pub narrowed: &'a BTreeMap<String, Schedule>,
    /// UIDs of workloads that lost their turn in an earlier slot of an `mtbf` schedule for a
    /// temporary reason.
    pub owed: &'a BTreeSet<String>,
}

impl Turns<'_> {
    /// Whether a workload takes part in the slot. With an `mtbf` schedule, a workload takes part if
    /// its turn has come or if it is owed a turn. Otherwise every workload takes part, but one whose
    /// Pod template narrows the schedule only as often as that says.
    #[must_use]
    pub fn has(&self, workload_uid: &str) -> bool {
        let is_due = |timetable: &Timetable| match self.narrowed.get(workload_uid) {
            Some(own) => timetable.is_due_by(own, self.namespace_uid, workload_uid, self.slot),
            None => timetable.is_due(self.namespace_uid, workload_uid, self.slot),
        };
        self.owed.contains(workload_uid) || self.timetable.is_none_or(is_due)
    }

    /// UIDs of the workloads that are owed a turn after this slot, unless one of their Pods is
    /// killed in it.
    ///
    /// With `mtbf`, a workload would otherwise die less often than its rate says. It would lose a
    /// turn each time it meets the limit, the platform's budget, a Pod that is too young, or a
    /// pending recovery. A workload is owed at most one turn, so that owed turns never add up to a
    /// series of kills.
    #[must_use]
    pub fn kept(&self, screening: &Screening) -> BTreeSet<String> {
        let draws = self.timetable.is_some_and(|timetable| {
            matches!(timetable.schedule, Schedule::Mtbf(_)) && timetable.also_at != Some(self.slot)
        });
        let has = |uid: &str| if draws { self.has(uid) } else { self.owed.contains(uid) };
        let passes = |refusal| matches!(refusal, Refusal::TooYoung | Refusal::RecoveryPending);
        let refused = screening.refused.iter().filter(|refused| passes(refused.refusal));
        let refused = refused.filter_map(|refused| refused.workload.as_ref());
        let candidates = screening.candidates.iter().map(|candidate| &candidate.workload.reference);
        let all = refused.chain(candidates).map(|workload| &workload.uid);
        all.filter(|uid| has(uid)).cloned().collect()
    }
}

/// How many Pods a round may kill at most.
#[derive(Debug, Clone, Copy)]
pub struct Most<'a> {
    /// The namespace's settings.
    pub settings: &'a Settings,
    /// The platform's ceilings.
    pub ceilings: &'a Ceilings,
}

impl Most<'_> {
    /// How many of these Pods of one workload a round may kill. If their templates differ, the one
    /// that asks for least counts.
    fn of_workload(self, pods: &[&Candidate]) -> usize {
        pods.iter().map(|victim| self.of_victim(victim)).min().unwrap_or(0)
    }

    fn of_victim(self, victim: &Candidate) -> usize {
        let desired = victim.workload.desired.unwrap_or(victim.steady_state) as usize;
        let most = self.ceilings.most_of_workload(self.settings, desired, victim.steady_state as usize);
        let own = victim.narrowing.as_ref().and_then(|narrowing| narrowing.per_workload);
        own.map_or(most, |own| own.of(desired).min(most))
    }
}

/// Selects workloads, all with the same probability, and up to `per-workload` Pods of each, until
/// the round has as many as `limit` allows.
pub fn select_victims<'a>(
    candidates: &'a [Candidate],
    most: Most<'_>,
    rng: &mut impl Rng,
) -> Vec<&'a Candidate> {
    // A `BTreeMap` instead of a `HashMap`, because the iteration order must not depend on a random
    // hash seed.
    let mut workloads: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        workloads.entry(&candidate.workload.reference.uid).or_default().push(candidate);
    }
    let mut workloads: Vec<Vec<&Candidate>> = workloads.into_values().collect();
    let limit = most.ceilings.most_of_round(most.settings, candidates.len());
    let mut victims = Vec::new();
    while victims.len() < limit && !workloads.is_empty() {
        let mut pods = workloads.swap_remove(rng.random_range(0..workloads.len()));
        let of_workload = most.of_workload(&pods);
        for _ in 0..of_workload.min(pods.len()).min(limit - victims.len()) {
            victims.push(pods.swap_remove(rng.random_range(0..pods.len())));
        }
    }
    victims
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::snapshot::examples::{pod, workload};
    use crate::guard::pods::Refused;
    use jiff::tz::TimeZone;
    use policy::settings::Key;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;
    use std::time::Duration;

    /// Selects with these values of `limit` and `per-workload`, as if the platform set no ceilings.
    fn select<'a>(
        candidates: &'a [Candidate],
        (limit, per_workload): (&str, &str),
        rng: &mut ChaCha8Rng,
    ) -> Vec<&'a Candidate> {
        let mut settings = Settings::built_in();
        settings.set(Key::Limit, limit).unwrap();
        settings.set(Key::PerWorkload, per_workload).unwrap();
        let mut ceilings = Ceilings::built_in();
        ceilings.set(Key::Limit, "100%").unwrap();
        ceilings.set(Key::PerWorkload, "100%").unwrap();
        select_victims(candidates, Most { settings: &settings, ceilings: &ceilings }, rng)
    }

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
                    narrowing: None,
                })
            })
            .collect()
    }

    #[test]
    fn a_seed_gives_the_same_choice_again() {
        let candidates = candidates(&[3, 3, 3]);
        let choose = |seed| -> Vec<String> {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            select(&candidates, ("2", "1"), &mut rng).iter().map(|victim| victim.pod.name.clone()).collect()
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
            .filter(|_| select(&candidates, ("1", "1"), &mut rng)[0].workload.reference.name == "w0")
            .count();
        assert!((400..600).contains(&small), "{small}");
    }

    /// Simulates `slots` slots of an `mtbf` schedule, with at most `limit` kills in each. No Pod of
    /// a workload is killed for `recovery` slots after the workload's last kill. Returns for each
    /// workload the numbers of the slots in which one of its Pods was killed.
    fn kills_by_mtbf(sizes: &[usize], slots: usize, limit: u32, recovery: usize) -> Vec<Vec<usize>> {
        let timetable = Timetable {
            schedule: Schedule::parse("mtbf 20m").unwrap(),
            also_at: None,
            zone: TimeZone::UTC,
            shortest_interval: Duration::from_secs(60),
        };
        let all = candidates(sizes);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut kills: Vec<Vec<usize>> = vec![Vec::new(); sizes.len()];
        let mut slot: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let mut owed = BTreeSet::new();
        let index = |uid: &str| uid[1..].trim_end_matches("-uid").parse::<usize>().unwrap();
        for number in 0..slots {
            slot = timetable.next_after("namespace", slot).unwrap();
            let narrowed = BTreeMap::new();
            let turns = Turns {
                timetable: Some(&timetable),
                namespace_uid: "namespace",
                slot,
                narrowed: &narrowed,
                owed: &owed,
            };
            let is_pending = |candidate: &Candidate| {
                let last = kills[index(&candidate.workload.reference.uid)].last();
                last.is_some_and(|last| number - last <= recovery)
            };
            let (pending, candidates): (Vec<_>, Vec<_>) = all.iter().cloned().partition(is_pending);
            let refused = pending.into_iter().map(|candidate| Refused {
                pod: candidate.pod.name,
                uid: candidate.pod.uid,
                workload: Some(candidate.workload.reference),
                refusal: Refusal::RecoveryPending,
                because: None,
            });
            let screening = Screening { candidates, refused: refused.collect() };
            let mut kept = turns.kept(&screening);
            let mut due = screening.candidates;
            due.retain(|candidate| turns.has(&candidate.workload.reference.uid));
            for victim in select(&due, (&limit.to_string(), "1"), &mut rng) {
                kept.remove(&victim.workload.reference.uid);
                kills[index(&victim.workload.reference.uid)].push(number);
            }
            owed = kept;
        }
        kills
    }

    /// Turns that a workload loses to the limit or to a pending recovery are made up for, so that
    /// the rate stays as configured. Otherwise a limit of 1, or recoveries of six slots, would let
    /// only three of four kills happen.
    #[test]
    fn by_mtbf_turns_that_were_lost_are_made_up_for() {
        let slots = 8_000;
        let p = -(-1.0_f64 / 20.0).exp_m1();
        for (workloads, limit, recovery) in [(10, 1, 0), (1, 1, 6), (10, 1, 3), (12, 5, 6)] {
            let kills = kills_by_mtbf(&vec![2; workloads], slots, limit, recovery);
            let (expected, total) =
                (p * (slots * workloads) as f64, kills.iter().map(Vec::len).sum::<usize>() as f64);
            println!(
                "{workloads} workloads, limit {limit}, recoveries of {recovery}: {:.3} of the rate",
                total / expected
            );
            assert!(
                (0.86..1.1).contains(&(total / expected)),
                "{workloads} workloads, limit {limit}: {total} of {expected:.0}"
            );
            let in_one = |number| kills.iter().filter(|of_one| of_one.contains(&number)).count();
            assert!((0..slots).all(|number| in_one(number) <= limit as usize));
        }
    }

    #[test]
    fn no_turn_is_made_up_for_but_of_mtbf_and_what_passes_by_itself() {
        let slot: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let timetable = |schedule: &str, also_at| Timetable {
            schedule: Schedule::parse(schedule).unwrap(),
            also_at,
            zone: TimeZone::UTC,
            shortest_interval: Duration::from_secs(60),
        };
        let refused = |refusal| {
            let reference = workload("Deployment", "web", 2).reference;
            let refused = Refused {
                pod: "p".to_owned(),
                uid: "p-uid".to_owned(),
                workload: Some(reference),
                refusal,
                because: None,
            };
            Screening { candidates: Vec::new(), refused: vec![refused] }
        };
        let kept = |schedule: &str, also_at, refusal, owed: &BTreeSet<String>| {
            let timetable = timetable(schedule, also_at);
            let narrowed = BTreeMap::new();
            let turns = Turns {
                timetable: Some(&timetable),
                namespace_uid: "namespace",
                slot,
                narrowed: &narrowed,
                owed,
            };
            !turns.kept(&refused(refusal)).is_empty()
        };
        let (none, web) = (BTreeSet::new(), BTreeSet::from(["web-uid".to_owned()]));
        // With this schedule a workload is nearly certain to be due.
        assert!(kept("mtbf 1s", None, Refusal::TooYoung, &none));
        assert!(!kept("mtbf 1s", None, Refusal::BackingOff, &none));
        assert!(!kept("mtbf 1s", None, Refusal::Excluded, &web));
        assert!(!kept("mtbf 1s", Some(slot), Refusal::TooYoung, &none), "asked for");
        assert!(!kept("every 1m", None, Refusal::TooYoung, &none));
        assert!(kept("mtbf 366d", None, Refusal::RecoveryPending, &web), "it stays owed");
    }

    /// With a mean of 20 slots, a workload is due in a slot with p = 1 − exp(−1/20). Over n slots,
    /// it is due np times on average, with variance np(1 − p). More than k slots pass between two
    /// kills with probability exp(−k/20). That is the exponential distribution, observed at whole
    /// slots.
    #[test]
    fn by_mtbf_each_workload_dies_at_the_same_rate_and_exponentially_however_many_there_are_and_however_large()
     {
        let p = -(-1.0_f64 / 20.0).exp_m1();
        for (workloads, pods) in [(1, 1), (1, 50), (10, 1), (10, 7), (60, 3)] {
            let slots = 4_000.min(40_000 / workloads);
            let kills = kills_by_mtbf(&vec![pods; workloads], slots, u32::MAX, 0);
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
            // Kolmogorov–Smirnov test: the largest distance between the two distributions exceeds
            // 1.95/√n once in a thousand times.
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
        fn never_more_than_the_limit_nor_than_per_workload_nor_all_of_a_workload(
            sizes in prop::collection::vec(0..6usize, 0..6), limit in 1..8usize, per_workload in 1..5usize,
            seed in any::<u64>()
        ) {
            let mut candidates = candidates(&sizes);
            for candidate in &mut candidates {
                let index = candidate.workload.reference.uid[1..].trim_end_matches("-uid");
                let size = u32::try_from(sizes[index.parse::<usize>().unwrap()]).unwrap();
                (candidate.steady_state, candidate.workload.desired) = (size, Some(size));
            }
            let words = (limit.to_string(), per_workload.to_string());
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let victims = select(&candidates, (&words.0, &words.1), &mut rng);
            let of_workload = |size: usize| per_workload.min(size.saturating_sub(1));
            let possible: usize = sizes.iter().map(|size| of_workload(*size)).sum();
            prop_assert_eq!(victims.len(), possible.min(limit));
            let pods: BTreeSet<_> = victims.iter().map(|victim| &victim.pod.uid).collect();
            prop_assert_eq!(pods.len(), victims.len());
            for (index, size) in sizes.iter().enumerate() {
                let uid = format!("w{index}-uid");
                let taken = victims.iter().filter(|victim| victim.workload.reference.uid == uid).count();
                prop_assert!(taken <= of_workload(*size), "{} of {}", taken, size);
            }
        }
    }
}
