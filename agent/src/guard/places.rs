//! The guard of outages: a workload whose Ready Pods are all in one place is left alone.

use std::collections::BTreeMap;

use policy::faults::Fault;
use policy::settings::Settings;

use crate::cluster::snapshot::{NamespaceSnapshot, PodView};
use crate::guard::pods::{Candidate, Refused, Screening};
use crate::refusal::Refusal;

/// What goes out in this fault, in a word.
#[must_use]
pub fn noun(fault: Fault) -> &'static str {
    if fault == Fault::ZoneOutage { "zone" } else { "node" }
}

/// The node or the zone in which a Pod is. `None` if nobody can tell.
#[must_use]
pub fn place(fault: Fault, pod: &PodView, observation: &NamespaceSnapshot) -> Option<String> {
    match fault {
        Fault::ZoneOutage => observation.zone_of(pod).map(str::to_owned),
        Fault::NodeOutage | Fault::PodKill => pod.node.clone(),
    }
}

/// Refuses the candidates that an outage can't take: those whose place nobody can tell, and those
/// whose workload has no Ready Pod in another place. A workload that wants only one Pod is not
/// spread, so `single-replica` decides about it.
pub fn keep_spread(
    screening: &mut Screening,
    observation: &NamespaceSnapshot,
    fault: Fault,
    settings: &Settings,
) {
    // The places of the Ready Pods of each workload.
    let mut places: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for pod in observation.pods.iter().filter(|pod| pod.counts_as_ready()) {
        if let Some(workload) = observation.workload_of(pod) {
            places.entry(workload.reference.uid).or_default().push(place(fault, pod, observation));
        }
    }
    let refusal = |candidate: &Candidate| -> Option<(Refusal, String)> {
        let workload = &candidate.workload.reference;
        let Some(here) = place(fault, &candidate.pod, observation) else {
            let what = noun(fault);
            return Some((
                Refusal::PlaceUnknown,
                format!("nobody can tell the {what} of Pod {}", candidate.pod.name),
            ));
        };
        let is_single =
            settings.single_replica && candidate.workload.desired.is_some_and(|desired| desired <= 1);
        let of_workload = places.get(&workload.uid).map(Vec::as_slice).unwrap_or_default();
        if is_single || of_workload.iter().flatten().any(|place| *place != here) {
            return None;
        }
        let preposition = if fault == Fault::ZoneOutage { "in" } else { "on" };
        let (named, here) =
            (format!("{} {}", workload.kind, workload.name), format!("{} {here}", noun(fault)));
        let sentence = match of_workload.iter().flatten().count() {
            count if count < of_workload.len() => {
                format!("no Ready Pod of {named} is known to be outside {here}")
            }
            1 => format!("the only Ready Pod of {named} is {preposition} {here}"),
            count => format!("all {count} Ready Pods of {named} are {preposition} {here}"),
        };
        Some((Refusal::AllInOnePlace, sentence))
    };
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    for candidate in std::mem::take(&mut screening.candidates) {
        match refusal(&candidate) {
            None => kept.push(candidate),
            Some((refusal, because)) => refused.push(Refused {
                pod: candidate.pod.name,
                uid: candidate.pod.uid,
                workload: Some(candidate.workload.reference),
                refusal,
                because: Some(because),
            }),
        }
    }
    screening.candidates = kept;
    screening.refused.extend(refused);
}

#[cfg(test)]
pub(crate) mod examples {
    use std::collections::BTreeSet;

    use policy::settings::Key;

    use super::*;
    use crate::cluster::snapshot::examples::{deployment, noon, pod};
    use crate::guard::pods::{GuardContext, Killed, screen};

    /// The screening of Deployment `web` after the outage's own guard. Each Pod has a name and
    /// perhaps a node.
    pub(crate) fn screened(
        pods: &[(&str, Option<&str>)],
        fault: Fault,
        desired: u32,
    ) -> (Screening, NamespaceSnapshot) {
        let view =
            |(name, node): &(&str, Option<&str>)| PodView { node: node.map(str::to_owned), ..pod(name) };
        let mut observation = deployment(pods.iter().map(view).collect(), desired);
        observation.zones = [("n1", "east"), ("n2", "east"), ("n3", "west")]
            .map(|(node, zone)| (node.to_owned(), zone.to_owned()))
            .into();
        let mut settings = Settings::built_in();
        settings.set(Key::SingleReplica, if desired == 1 { "allow" } else { "refuse" }).unwrap();
        let none = BTreeSet::new();
        let guard_context = GuardContext {
            now: noon(),
            settings: &settings,
            pending: &none,
            backing_off: &BTreeMap::new(),
            resting: &none,
            killed: &Killed::new(),
        };
        let mut screening = screen(&observation, &guard_context);
        if fault != Fault::PodKill {
            keep_spread(&mut screening, &observation, fault, &settings);
        }
        (screening, observation)
    }
}

#[cfg(test)]
mod tests {
    use super::examples::screened;
    use super::*;
    use crate::cluster::snapshot::ZONE;
    use crate::cluster::snapshot::examples::{deployment, pod};

    fn refusals(pods: &[(&str, Option<&str>)], fault: Fault) -> Vec<(Refusal, String)> {
        let (screening, _) = screened(pods, fault, u32::try_from(pods.len()).unwrap());
        screening.refused.into_iter().map(|refused| (refused.refusal, refused.because.unwrap())).collect()
    }

    #[test]
    fn a_workload_that_is_all_there_is_a_finding() {
        let together = [("a", Some("n1")), ("b", Some("n1"))];
        let sentence = "all 2 Ready Pods of Deployment web are on node n1".to_owned();
        assert_eq!(refusals(&together, Fault::NodeOutage), vec![(Refusal::AllInOnePlace, sentence); 2]);
        let apart = [("a", Some("n1")), ("b", Some("n2")), ("c", Some("n1"))];
        assert_eq!(refusals(&apart, Fault::NodeOutage), []);
        let sentence = "all 3 Ready Pods of Deployment web are in zone east".to_owned();
        assert_eq!(refusals(&apart, Fault::ZoneOutage), vec![(Refusal::AllInOnePlace, sentence); 3]);
    }

    #[test]
    fn what_is_not_known_to_be_elsewhere_may_be_there() {
        let unknown = [("a", Some("n1")), ("b", None)];
        let sentence = "no Ready Pod of Deployment web is known to be outside node n1".to_owned();
        let unknown_node = "nobody can tell the node of Pod b".to_owned();
        assert_eq!(
            refusals(&unknown, Fault::NodeOutage),
            [(Refusal::AllInOnePlace, sentence), (Refusal::PlaceUnknown, unknown_node)]
        );
        let no_zone = [("a", Some("n9")), ("b", Some("n9"))];
        let sentence =
            |name: &str| (Refusal::PlaceUnknown, format!("nobody can tell the zone of Pod {name}"));
        assert_eq!(refusals(&no_zone, Fault::ZoneOutage), [sentence("a"), sentence("b")]);
    }

    #[test]
    fn a_single_pod_dies_if_its_owner_allows_that() {
        let (screening, _) = screened(&[("a", Some("n1"))], Fault::NodeOutage, 1);
        assert_eq!((screening.candidates.len(), screening.refused.len()), (1, 0));
    }

    #[test]
    fn the_label_of_the_pod_says_its_zone_before_its_node_does() {
        let mut observation = deployment(vec![pod("a")], 1);
        observation.zones.insert("n1".to_owned(), "east".to_owned());
        let mut view = PodView { node: Some("n1".to_owned()), ..pod("a") };
        assert_eq!(place(Fault::ZoneOutage, &view, &observation).as_deref(), Some("east"));
        view.labels.insert(ZONE.to_owned(), "west".to_owned());
        assert_eq!(place(Fault::ZoneOutage, &view, &observation).as_deref(), Some("west"));
    }
}
