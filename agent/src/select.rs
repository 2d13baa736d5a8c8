//! The choice of victims: at most so many, at most one per workload, without replacement.

use std::collections::BTreeMap;

use rand::{Rng, RngExt};

use crate::guards::Candidate;

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
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;
    use std::collections::BTreeSet;

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
