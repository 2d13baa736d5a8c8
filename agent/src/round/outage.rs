//! Selects the victims of an outage: all selected Pods of the namespace on one node, or in one zone.

use std::collections::BTreeSet;
use std::fmt;

use policy::faults::{Fault, Faults};
use rand::{Rng, RngExt};

use crate::cluster::snapshot::NamespaceSnapshot;
use crate::guard::places::{noun, place};
use crate::guard::pods::Candidate;

/// What goes out in an outage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// The kind of outage.
    pub fault: Fault,
    /// The name of the node or the zone.
    pub place: String,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} {}", self.fault.word(), noun(self.fault), self.place)
    }
}

/// Draws the fault of a round.
pub fn draw(faults: &Faults, rng: &mut impl Rng) -> Fault {
    match faults.all() {
        [only] => *only,
        several => several.get(rng.random_range(0..several.len())).copied().unwrap_or(Fault::PodKill),
    }
}

/// Draws a place in which a candidate of a workload that takes part is, all with the same
/// probability, and selects all candidates there. `None` if there is no such place.
pub fn select_place<'a>(
    candidates: &'a [Candidate],
    takes_part: impl Fn(&Candidate) -> bool,
    fault: Fault,
    observation: &NamespaceSnapshot,
    rng: &mut impl Rng,
) -> Option<(Outage, Vec<&'a Candidate>)> {
    let of = |candidate: &Candidate| place(fault, &candidate.pod, observation);
    let places: BTreeSet<String> =
        candidates.iter().filter(|candidate| takes_part(candidate)).filter_map(of).collect();
    let places: Vec<String> = places.into_iter().collect();
    if places.is_empty() {
        return None;
    }
    let place = places.get(rng.random_range(0..places.len()))?.clone();
    let victims = candidates.iter().filter(|candidate| of(candidate).as_ref() == Some(&place)).collect();
    Some((Outage { fault, place }, victims))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::places::examples::screened;
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;
    use std::collections::BTreeMap;

    #[test]
    fn all_candidates_of_one_place_are_selected() {
        let pods = [("a", Some("n1")), ("b", Some("n2")), ("c", Some("n1")), ("d", Some("n3"))];
        let (screening, observation) = screened(&pods, Fault::NodeOutage, 4);
        let mut drawn = BTreeMap::new();
        for seed in 0..60 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let selected =
                select_place(&screening.candidates, |_| true, Fault::NodeOutage, &observation, &mut rng);
            let (outage, victims) = selected.unwrap();
            let names: Vec<&str> = victims.iter().map(|victim| victim.pod.name.as_str()).collect();
            drawn.insert(outage.to_string(), names.join(","));
        }
        let expected = [
            ("node-outage of node n1", "a,c"),
            ("node-outage of node n2", "b"),
            ("node-outage of node n3", "d"),
        ];
        assert_eq!(drawn, expected.map(|(outage, names)| (outage.to_owned(), names.to_owned())).into());
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let none = select_place(&screening.candidates, |_| false, Fault::NodeOutage, &observation, &mut rng);
        assert_eq!(none, None);
        let mut zone = |pod: &str| {
            let takes_part = |candidate: &Candidate| candidate.pod.name == pod;
            let selected =
                select_place(&screening.candidates, takes_part, Fault::ZoneOutage, &observation, &mut rng);
            let (outage, victims) = selected.unwrap();
            (outage.to_string(), victims.len())
        };
        assert_eq!(zone("a"), ("zone-outage of zone east".to_owned(), 3));
        assert_eq!(zone("d"), ("zone-outage of zone west".to_owned(), 1));
    }

    #[test]
    fn a_round_draws_one_of_its_faults() {
        let faults = Faults::parse("pod-kill,zone-outage").unwrap();
        let drawn: BTreeSet<Fault> =
            (0..40).map(|seed| draw(&faults, &mut ChaCha8Rng::seed_from_u64(seed))).collect();
        assert_eq!(drawn, BTreeSet::from([Fault::PodKill, Fault::ZoneOutage]));
    }
}
