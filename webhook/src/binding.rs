//! The RoleBinding that gives the agent its rights in one namespace, and what to do about the one there is. Pure.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::core::ObjectMeta;
use policy::keys::{AGENT_BINDING, RECORD, SYSTEM_NAMESPACE};
use policy::record::OptIn;

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// All is as it should be.
    Nothing,
    /// There is one that isn't ours: it stays.
    Foreign,
    /// Make it.
    Create,
    /// Put its subjects and owner right.
    PutRight,
    /// It can't be put right: delete the one of this UID, then make it.
    Replace(String),
    /// Delete the one of this UID.
    Delete(String),
}

/// The binding as it should be: to these accounts of `pure-chaos`, and owned by the record of this UID, so that it goes with it.
#[must_use]
pub fn binding(namespace: &str, record_uid: &str, accounts: &[String]) -> RoleBinding {
    let subject = |account: &String| Subject {
        kind: "ServiceAccount".to_owned(),
        name: account.clone(),
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        api_group: None,
    };
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(AGENT_BINDING.to_owned()),
            namespace: Some(namespace.to_owned()),
            owner_references: Some(vec![owner(record_uid)]),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: AGENT_BINDING.to_owned(),
        },
        subjects: Some(accounts.iter().map(subject).collect()),
    }
}

/// What to do about the binding there is. `record_uid` is the record's where these accounts should have the agent's rights, else `None`.
#[must_use]
pub fn step(existing: Option<&RoleBinding>, record_uid: Option<&str>, accounts: &[String]) -> Step {
    let Some(existing) = existing else {
        return if record_uid.is_some() { Step::Create } else { Step::Nothing };
    };
    let Some(uid) = existing.metadata.uid.clone().filter(|_| is_ours(existing)) else {
        return Step::Foreign;
    };
    let Some(record_uid) = record_uid else {
        return Step::Delete(uid);
    };
    let wanted = binding("", record_uid, accounts);
    if existing.role_ref != wanted.role_ref {
        return Step::Replace(uid);
    }
    let same_owner = existing.metadata.owner_references == wanted.metadata.owner_references;
    if same_owner && existing.subjects.as_ref().map(|all| all.iter().map(plain).collect()) == wanted.subjects
    {
        Step::Nothing
    } else {
        Step::PutRight
    }
}

/// Ours is what a record owns: this one, or an earlier one that is gone.
fn is_ours(binding: &RoleBinding) -> bool {
    let owner = owner("");
    binding.metadata.owner_references.iter().flatten().any(|known| {
        known.api_version == owner.api_version && known.kind == owner.kind && known.name == owner.name
    })
}

fn owner(record_uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: OptIn::api_version(&()).into_owned(),
        kind: OptIn::kind(&()).into_owned(),
        name: RECORD.to_owned(),
        uid: record_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// The API group of a ServiceAccount is empty, which may be written in two ways.
fn plain(subject: &Subject) -> Subject {
    Subject { api_group: subject.api_group.clone().filter(|group| !group.is_empty()), ..subject.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn existing(change: impl FnOnce(&mut RoleBinding)) -> RoleBinding {
        let mut binding = binding("a", "r-1", &accounts(&["agent"]));
        binding.metadata.uid = Some("b-1".to_owned());
        change(&mut binding);
        binding
    }

    #[test]
    fn each_step() {
        let cases: [(Option<RoleBinding>, Step, Step); 8] = [
            // the one there is; the step where the agent should have rights; and where not
            (None, Step::Create, Step::Nothing),
            (Some(existing(|_| {})), Step::Nothing, Step::Delete("b-1".to_owned())),
            (
                Some(existing(|b| b.subjects.as_mut().unwrap()[0].api_group = Some(String::new()))),
                Step::Nothing,
                Step::Delete("b-1".to_owned()),
            ),
            (Some(existing(|b| b.subjects = None)), Step::PutRight, Step::Delete("b-1".to_owned())),
            (
                Some(existing(|b| b.role_ref.name = "cluster-admin".to_owned())),
                Step::Replace("b-1".to_owned()),
                Step::Delete("b-1".to_owned()),
            ),
            (
                // Owned by a record that is gone.
                Some(existing(|b| b.metadata.owner_references.as_mut().unwrap()[0].uid = "r-0".to_owned())),
                Step::PutRight,
                Step::Delete("b-1".to_owned()),
            ),
            (Some(existing(|b| b.metadata.owner_references = None)), Step::Foreign, Step::Foreign),
            (
                Some(existing(|b| {
                    b.metadata.owner_references.as_mut().unwrap()[0].kind = "Deployment".to_owned()
                })),
                Step::Foreign,
                Step::Foreign,
            ),
        ];
        for (binding, with, without) in cases {
            let agent = accounts(&["agent"]);
            assert_eq!(step(binding.as_ref(), Some("r-1"), &agent), with, "{binding:?}");
            assert_eq!(step(binding.as_ref(), None, &agent), without, "{binding:?}");
        }
        let one = existing(|_| {});
        assert_eq!(step(Some(&one), Some("r-1"), &accounts(&["agent", "default"])), Step::PutRight);
    }

    #[test]
    fn its_names() {
        let json = serde_json::to_value(binding("a", "r-1", &accounts(&["agent"]))).unwrap();
        assert_eq!(json["roleRef"]["name"], "pure-chaos-agent");
        assert_eq!(
            json["subjects"][0],
            serde_json::json!({"kind": "ServiceAccount", "name": "agent", "namespace": "pure-chaos"})
        );
        assert_eq!(json["metadata"]["ownerReferences"][0]["apiVersion"], "purechaos.dev/v1alpha1");
        assert_eq!(json["metadata"]["ownerReferences"][0]["kind"], "OptIn");
    }
}
