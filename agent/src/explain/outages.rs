//! What an outage would find in a namespace, for `agent explain`.

use std::collections::BTreeMap;

use policy::faults::Fault;
use policy::settings::Settings;
use serde::Serialize;

use crate::cluster::snapshot::NamespaceSnapshot;
use crate::guard::places::keep_spread;
use crate::guard::pods::{Candidate, Screening};
use crate::refusal::Refusal;

/// A workload that an outage leaves alone, because nothing of it would be left, or because nobody
/// can tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutageFinding {
    /// The kind of outage.
    pub fault: &'static str,
    /// The workload, such as `Deployment/web`.
    pub workload: String,
    /// The label of the refusal.
    pub reason: &'static str,
    /// A sentence that says more.
    pub sentence: String,
}

/// Applies the guard of outages, as far as the namespace's faults ask for it: a Pod is refused if
/// none of the faults may take it. Returns what the outages would find.
pub fn look(
    screening: &mut Screening,
    observation: &NamespaceSnapshot,
    settings: &Settings,
) -> Vec<OutageFinding> {
    let mut findings: BTreeMap<(Fault, String), OutageFinding> = BTreeMap::new();
    // The refusals by the first outage, and the candidates of any fault.
    let (mut refused, mut possible): (Option<Screening>, Vec<Candidate>) = (None, Vec::new());
    for fault in settings.faults.all() {
        if *fault == Fault::PodKill {
            possible.extend(screening.candidates.iter().cloned());
            continue;
        }
        let mut of_fault = Screening { candidates: screening.candidates.clone(), refused: Vec::new() };
        keep_spread(&mut of_fault, observation, *fault, settings);
        possible.extend(of_fault.candidates.iter().cloned());
        for told in &of_fault.refused {
            let Some(workload) = &told.workload else { continue };
            let workload = format!("{}/{}", workload.kind, workload.name);
            let finding = OutageFinding {
                fault: fault.word(),
                workload: workload.clone(),
                reason: told.refusal.label(),
                sentence: told.sentence().to_owned(),
            };
            let known = findings.entry((*fault, workload)).or_insert_with(|| finding.clone());
            // That a workload is all in one place says more than that one of its Pods is unknown.
            if told.refusal == Refusal::AllInOnePlace {
                *known = finding;
            }
        }
        refused.get_or_insert(of_fault);
    }
    if let Some(first) = refused {
        let is_possible = |uid: &String| possible.iter().any(|candidate| candidate.pod.uid == *uid);
        screening.candidates.retain(|candidate| is_possible(&candidate.pod.uid));
        screening.refused.extend(first.refused.into_iter().filter(|refused| !is_possible(&refused.uid)));
    }
    findings.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::places::examples::screened;
    use policy::settings::Key;

    /// What outages would find, and how many Pods could still die.
    fn found(pods: &[(&str, Option<&str>)], faults: &str) -> (Vec<(&'static str, &'static str)>, usize) {
        // No outage has looked yet.
        let (mut screening, observation) = screened(pods, Fault::PodKill, 1);
        let mut settings = Settings::built_in();
        settings.set(Key::Faults, faults).unwrap();
        screening.candidates.iter_mut().for_each(|candidate| candidate.workload.desired = Some(3));
        let findings = look(&mut screening, &observation, &settings);
        assert_eq!(screening.candidates.len() + screening.refused.len(), pods.len());
        let told = findings.iter().map(|finding| (finding.fault, finding.reason)).collect();
        (told, screening.candidates.len())
    }

    #[test]
    fn what_is_all_in_one_place_is_told_for_each_outage() {
        let east = [("a", Some("n1")), ("b", Some("n2"))];
        assert_eq!(found(&east, "pod-kill"), (vec![], 2));
        assert_eq!(found(&east, "node-outage"), (vec![], 2));
        assert_eq!(found(&east, "zone-outage"), (vec![("zone-outage", "all_in_one_place")], 0));
        assert_eq!(found(&east, "node-outage,zone-outage"), (vec![("zone-outage", "all_in_one_place")], 2));
        assert_eq!(found(&east, "zone-outage,pod-kill"), (vec![("zone-outage", "all_in_one_place")], 2));
    }

    #[test]
    fn a_place_that_nobody_can_tell_is_told() {
        let unknown = [("a", Some("n1")), ("b", None)];
        assert_eq!(found(&unknown, "node-outage"), (vec![("node-outage", "all_in_one_place")], 0));
        assert_eq!(found(&[("a", None)], "node-outage"), (vec![("node-outage", "place_unknown")], 0));
    }
}
