//! The sizes of custom workloads for `agent explain`, with the rights of the person who asks.

use kube::Client;
use policy::custom_workloads::CustomWorkloads;
use policy::settings::{Kinds, Settings};

use crate::cluster::policy_config_map;
use crate::cluster::snapshot::{Controller, NamespaceSnapshot, UnknownSize, WorkloadView};
use crate::explain::explanation::Unseen;

/// The custom kinds of the platform's policy. Without `known`, this is the installed policy, and it
/// is read only if the settings choose a kind that it could list.
///
/// # Errors
/// A sentence that says why the policy can't be read.
pub async fn listed(
    client: &Client,
    settings: Option<&Settings>,
    known: Option<CustomWorkloads>,
) -> Result<CustomWorkloads, String> {
    let is_asked = settings.is_some_and(|settings| settings.kinds.of_unknown_size().next().is_some());
    match known {
        Some(known) => Ok(known),
        None if is_asked => policy_config_map::read(client).await.map(|policy| policy.workloads),
        None => Ok(CustomWorkloads::default()),
    }
}

/// Says of each workload whose size this person can't see that the agent may see it, and adds the
/// missing right to `unseen`. `unlisted` says why the platform's policy can't be read.
pub fn tell_unseen(
    observation: &mut NamespaceSnapshot,
    namespace: &str,
    kinds: &Kinds,
    unlisted: Option<&str>,
    unseen: &mut Vec<Unseen>,
) {
    let because = |kind: &str, name: &str| {
        UnknownSize::because(format!(
            "you can't see how many Pods {kind} {name} wants, because you lack a right; the agent may see it"
        ))
    };
    for workload in observation.workloads.values_mut() {
        let forbidden = workload.unknown_size.as_ref().and_then(|unknown| unknown.forbidden.clone());
        let Some(resource) = forbidden else { continue };
        let (kind, name) = (&workload.reference.kind, &workload.reference.name);
        let what = format!("how many Pods {kind} {name} wants");
        unseen.push(Unseen { what, right: format!("get {resource} in namespace {namespace}") });
        workload.unknown_size = Some(because(kind, name));
    }
    let Some(why) = unlisted else { return };
    for owner in observation.unread() {
        let Controller { kind, name, uid } = &owner;
        if Kinds::are_built_in(kind) || !kinds.contain(kind) {
            continue;
        }
        let what = format!("how many Pods {kind} {name} wants");
        unseen.push(Unseen { what, right: format!("read the platform's policy ({why})") });
        let (uid, unknown) = (uid.clone(), because(kind, name));
        observation.workloads.insert(uid, WorkloadView::of_unknown_size(owner, unknown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::snapshot::examples::{controller, deployment, pod, workload};

    fn with_clone_set(unknown_size: Option<UnknownSize>) -> NamespaceSnapshot {
        let mut observation = deployment(vec![pod("a")], 3);
        for (member, kind, owner) in [("b", "CloneSet", "c"), ("c", "Herd", "h"), ("d", "Job", "j")] {
            let mut member = pod(member);
            member.controller = Some(controller(kind, owner));
            observation.pods.push(member);
        }
        if unknown_size.is_some() {
            let view = WorkloadView { desired: None, unknown_size, ..workload("CloneSet", "c", 0) };
            observation.workloads.insert("c-uid".to_owned(), view);
        }
        observation
    }

    fn told(observation: &mut NamespaceSnapshot, unlisted: Option<&str>) -> Vec<String> {
        let mut unseen = Vec::new();
        let kinds = Kinds::parse("Deployment,CloneSet").unwrap();
        tell_unseen(observation, "a", &kinds, unlisted, &mut unseen);
        unseen.into_iter().map(|unseen| format!("{}: {}", unseen.right, unseen.what)).collect()
    }

    fn because(observation: &NamespaceSnapshot) -> String {
        let workload = observation.workload_of(&observation.pods[1]).unwrap();
        assert_eq!(workload.desired, None);
        workload.unknown_size.unwrap().because
    }

    #[test]
    fn a_right_that_only_the_person_lacks_is_no_fault_of_the_agent() {
        let resource = "clonesets.apps.kruise.io".to_owned();
        let forbidden = UnknownSize { because: "the agent may not".to_owned(), forbidden: Some(resource) };
        let mut observation = with_clone_set(Some(forbidden));
        let expected = ["get clonesets.apps.kruise.io in namespace a: how many Pods CloneSet c wants"];
        assert_eq!(told(&mut observation, None), expected);
        assert!(because(&observation).starts_with("you can't see how many Pods CloneSet c wants"));

        let mut observation = with_clone_set(Some(UnknownSize::because("it says so".to_owned())));
        assert_eq!(told(&mut observation, None), Vec::<String>::new());
        assert_eq!(because(&observation), "it says so");
    }

    #[test]
    fn without_the_policy_nobody_says_that_a_kind_is_not_listed() {
        let mut observation = with_clone_set(None);
        let expected = ["read the platform's policy (no): how many Pods CloneSet c wants"];
        assert_eq!(told(&mut observation, Some("no")), expected);
        assert!(because(&observation).starts_with("you can't see how many Pods CloneSet c wants"));
        let mut observation = with_clone_set(None);
        assert_eq!(told(&mut observation, None), Vec::<String>::new());
        assert!(because(&observation).contains("not in `workloads`"));
    }
}
