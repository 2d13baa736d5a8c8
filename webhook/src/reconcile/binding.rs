//! Describes the RoleBinding that gives the agent its rights in one namespace, and decides what to
//! do about the existing one. This module is pure.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::core::ObjectMeta;
use policy::record::OptIn;
use policy::well_known::{AGENT_BINDING, RECORD, SYSTEM_NAMESPACE};

/// What to do about the RoleBinding.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Do nothing, because all is as it should be.
    Nothing,
    /// Do nothing, because the existing RoleBinding is not ours.
    Foreign,
    /// Create the RoleBinding.
    Create,
    /// Correct the subjects and the owner.
    PutRight,
    /// Delete the RoleBinding with this UID and create it again, because Kubernetes does not allow
    /// a change of its role.
    Replace(String),
    /// Delete the RoleBinding with this UID.
    Delete(String),
}

/// The rights that the agent should have in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights<'a> {
    /// The agent should have no rights.
    None,
    /// The agent should have its rights. The record that will own the RoleBinding is not written
    /// yet.
    Given,
    /// The agent should have its rights. The record with this UID owns the RoleBinding, so that
    /// Kubernetes deletes both together.
    OwnedBy(&'a str),
}

/// Returns the RoleBinding as it should be. Its subjects are these accounts of `pure-chaos`. Its
/// owner is the record with this UID, if the UID is known.
#[must_use]
pub fn binding(namespace: &str, record_uid: Option<&str>, accounts: &[String]) -> RoleBinding {
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
            owner_references: record_uid.map(|uid| vec![owner(uid)]),
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

/// Returns what to do about the existing RoleBinding, so that these accounts have these rights.
#[must_use]
pub fn step(existing: Option<&RoleBinding>, rights: Rights<'_>, accounts: &[String]) -> Step {
    let Some(existing) = existing else {
        return if rights == Rights::None { Step::Nothing } else { Step::Create };
    };
    let Some(uid) = existing.metadata.uid.clone().filter(|_| is_ours(existing)) else {
        return Step::Foreign;
    };
    let record_uid = match rights {
        Rights::None => return Step::Delete(uid),
        Rights::Given => None,
        Rights::OwnedBy(uid) => Some(uid),
    };
    let wanted = binding("", record_uid, accounts);
    if existing.role_ref != wanted.role_ref {
        return Step::Replace(uid);
    }
    let same_owner =
        record_uid.is_none() || existing.metadata.owner_references == wanted.metadata.owner_references;
    if same_owner && existing.subjects.as_ref().map(|all| all.iter().map(plain).collect()) == wanted.subjects
    {
        Step::Nothing
    } else {
        Step::PutRight
    }
}

/// Returns whether a RoleBinding is ours.
///
/// A RoleBinding is ours if a record owns it, either the present record or an earlier one that is
/// gone. A RoleBinding is also ours if it gives our role to nobody, or to a ServiceAccount of
/// `pure-chaos`, even beside others. There is no better sign: a tenant may have removed the owner or
/// added a subject, and there may have been more accounts when the RoleBinding was created.
fn is_ours(binding: &RoleBinding) -> bool {
    let owner = owner("");
    let is_owned = binding.metadata.owner_references.iter().flatten().any(|known| {
        known.api_version == owner.api_version && known.kind == owner.kind && known.name == owner.name
    });
    let is_account = |subject: &Subject| {
        subject.kind == "ServiceAccount" && subject.namespace.as_deref() == Some(SYSTEM_NAMESPACE)
    };
    let subjects = binding.subjects.as_deref().unwrap_or_default();
    is_owned
        || binding.role_ref == self::binding("", None, &[]).role_ref
            && (subjects.is_empty() || subjects.iter().any(is_account))
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

/// Returns the subject in one form. The API group of a ServiceAccount is empty, which can be
/// written in two ways.
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
        let mut binding = binding("a", Some("r-1"), &accounts(&["agent"]));
        binding.metadata.uid = Some("b-1".to_owned());
        change(&mut binding);
        binding
    }

    #[test]
    fn each_step() {
        let cases: [(Option<RoleBinding>, Step, Step); 11] = [
            // The existing RoleBinding, the step if the agent should have rights, and the step if
            // it should not.
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
                // The owner is a record that is gone.
                Some(existing(|b| b.metadata.owner_references.as_mut().unwrap()[0].uid = "r-0".to_owned())),
                Step::PutRight,
                Step::Delete("b-1".to_owned()),
            ),
            (
                // Somebody removed the owner.
                Some(existing(|b| b.metadata.owner_references = None)),
                Step::PutRight,
                Step::Delete("b-1".to_owned()),
            ),
            (
                // There were more accounts when the RoleBinding was created.
                Some(existing(|b| {
                    b.metadata.owner_references = None;
                    b.subjects.as_mut().unwrap()[0].name = "default".to_owned();
                })),
                Step::PutRight,
                Step::Delete("b-1".to_owned()),
            ),
            (
                // Somebody made the RoleBinding before the opt-in, with a subject of their own.
                Some(existing(|b| {
                    b.metadata.owner_references = None;
                    let user =
                        Subject { kind: "User".to_owned(), name: "mara".to_owned(), ..Subject::default() };
                    b.subjects.as_mut().unwrap().push(user);
                })),
                Step::PutRight,
                Step::Delete("b-1".to_owned()),
            ),
            (
                Some(existing(|b| {
                    b.metadata.owner_references.as_mut().unwrap()[0].kind = "Deployment".to_owned();
                    b.role_ref.name = "view".to_owned();
                })),
                Step::Foreign,
                Step::Foreign,
            ),
            (
                Some(existing(|b| {
                    b.metadata.owner_references = None;
                    b.subjects.as_mut().unwrap()[0].namespace = Some("a".to_owned());
                })),
                Step::Foreign,
                Step::Foreign,
            ),
        ];
        for (binding, with, without) in cases {
            let agent = accounts(&["agent"]);
            assert_eq!(step(binding.as_ref(), Rights::OwnedBy("r-1"), &agent), with, "{binding:?}");
            assert_eq!(step(binding.as_ref(), Rights::None, &agent), without, "{binding:?}");
        }
        let one = existing(|_| {});
        assert_eq!(
            step(Some(&one), Rights::OwnedBy("r-1"), &accounts(&["agent", "default"])),
            Step::PutRight
        );
    }

    #[test]
    fn before_there_is_a_record_any_owner_will_do() {
        let agent = accounts(&["agent"]);
        let unowned = existing(|b| b.metadata.owner_references = None);
        assert_eq!(step(None, Rights::Given, &agent), Step::Create);
        assert_eq!(step(Some(&unowned), Rights::Given, &agent), Step::Nothing);
        assert_eq!(step(Some(&existing(|_| {})), Rights::Given, &agent), Step::Nothing);
        assert_eq!(step(Some(&existing(|b| b.subjects = None)), Rights::Given, &agent), Step::PutRight);
    }

    #[test]
    fn its_names() {
        let json = serde_json::to_value(binding("a", Some("r-1"), &accounts(&["agent"]))).unwrap();
        assert_eq!(json["roleRef"]["name"], "pure-chaos-agent");
        assert_eq!(
            json["subjects"][0],
            serde_json::json!({"kind": "ServiceAccount", "name": "agent", "namespace": "pure-chaos"})
        );
        assert_eq!(json["metadata"]["ownerReferences"][0]["apiVersion"], "purechaos.dev/v1alpha1");
        assert_eq!(json["metadata"]["ownerReferences"][0]["kind"], "OptIn");
    }
}
