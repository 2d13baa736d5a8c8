//! Asks the API server who this process is and which rights it has everywhere. Its rights in a
//! namespace come and go with the opt-in. If they are missing, the refusal `no_rights` says so.

use std::fmt;

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::PostParams;
use kube::{Api, Client};
use policy::settings::Mode;
use policy::well_known::{AGENT_BINDING, LEASE, SYSTEM_NAMESPACE};
use runtime::client::{CallError, call};

/// The right to use one verb on one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The verb, such as `list`.
    pub verb: &'static str,
    /// The API group. Empty for the core group.
    pub group: &'static str,
    /// The resource with its subresource, such as `optins/status`.
    pub resource: &'static str,
    /// The name of the one object that the right is about. Empty if it is about all objects.
    pub name: &'static str,
    /// Whether the right is needed in namespace `pure-chaos` only. If false, it is needed
    /// everywhere.
    pub at_home: bool,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource, name, at_home } = self;
        write!(f, "{verb} {resource}")?;
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        if !name.is_empty() {
            write!(f, " {name}")?;
        }
        if *at_home { write!(f, " in namespace {SYSTEM_NAMESPACE}") } else { f.write_str(" everywhere") }
    }
}

const fn everywhere(verb: &'static str, resource: &'static str) -> Right {
    Right { verb, group: "purechaos.dev", resource, name: "", at_home: false }
}

const fn halt(verb: &'static str) -> Right {
    Right { verb, group: "", resource: "namespaces", name: SYSTEM_NAMESPACE, at_home: false }
}

const fn at_home(
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    name: &'static str,
) -> Right {
    Right { verb, group, resource, name, at_home: true }
}

/// The rights that the agent needs everywhere and in namespace `pure-chaos`.
/// `manifests/base/rbac-agent.yaml` grants them.
pub const NEEDED: [Right; 12] = [
    everywhere("get", "optins"),
    everywhere("list", "optins"),
    everywhere("watch", "optins"),
    everywhere("patch", "optins/status"),
    halt("list"),
    halt("watch"),
    // Shows whether the role that the webhook binds in a namespace is enough for the modes that the
    // platform allows.
    Right {
        verb: "get",
        group: "rbac.authorization.k8s.io",
        resource: "clusterroles",
        name: AGENT_BINDING,
        at_home: false,
    },
    at_home("get", "", "namespaces", ""),
    at_home("create", "events.k8s.io", "events", ""),
    at_home("create", "coordination.k8s.io", "leases", ""),
    at_home("get", "coordination.k8s.io", "leases", LEASE),
    at_home("update", "coordination.k8s.io", "leases", LEASE),
];

/// The right that the agent needs in order to leave Pods on cordoned nodes alone. The component
/// `nodes` grants it.
const NODES: Right = Right { verb: "list", group: "", resource: "nodes", name: "", at_home: false };

/// Whether this process may list the cluster's nodes.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn reads_nodes(client: &Client) -> Result<bool, CallError> {
    is_given(client, NODES).await
}

/// The rights in [`NEEDED`] that this process does not have.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn missing(client: &Client) -> Result<Vec<Right>, CallError> {
    let mut missing = Vec::new();
    for right in NEEDED {
        if !is_given(client, right).await? {
            missing.push(right);
        }
    }
    Ok(missing)
}

async fn is_given(client: &Client, right: Right) -> Result<bool, CallError> {
    let (resource, subresource) = right.resource.split_once('/').unwrap_or((right.resource, ""));
    // The API server treats a request for a Namespace as a request inside that namespace. So a
    // RoleBinding in `pure-chaos` grants `get` on the Namespace `pure-chaos`.
    let name = if right.resource == "namespaces" { SYSTEM_NAMESPACE } else { right.name };
    let attributes = ResourceAttributes {
        namespace: right.at_home.then(|| SYSTEM_NAMESPACE.to_owned()),
        group: Some(right.group.to_owned()),
        verb: Some(right.verb.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        name: Some(name.to_owned()),
        ..ResourceAttributes::default()
    };
    ask(client, attributes).await
}

async fn ask(client: &Client, attributes: ResourceAttributes) -> Result<bool, CallError> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = call(reviews.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// A sentence that says which allowed modes the agent can't use, because the role that the webhook
/// binds in opted-in namespaces has no right for them. `None` if the role has all rights.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn unable(client: &Client, allowed: &[Mode]) -> Result<Option<String>, CallError> {
    if !allowed.iter().any(|mode| deletes(*mode)) {
        return Ok(None);
    }
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let role = call(roles.get(AGENT_BINDING)).await?;
    Ok(unable_by(&role.rules.unwrap_or_default(), allowed))
}

fn deletes(mode: Mode) -> bool {
    matches!(mode, Mode::Delete | Mode::Force)
}

fn unable_by(rules: &[PolicyRule], allowed: &[Mode]) -> Option<String> {
    let has = |list: Option<&Vec<String>>, word: &str| {
        list.into_iter().flatten().any(|one| one == word || one == "*")
    };
    let lends = |rule: &PolicyRule| {
        has(rule.api_groups.as_ref(), "")
            && has(rule.resources.as_ref(), "pods")
            && has(Some(&rule.verbs), "delete")
            && rule.resource_names.as_ref().is_none_or(Vec::is_empty)
    };
    let modes: Vec<&str> = allowed.iter().filter(|mode| deletes(**mode)).map(|mode| mode.word()).collect();
    (!modes.is_empty() && !rules.iter().any(lends)).then(|| {
        format!(
            "ceilings.mode of the platform's policy allows `{}`, but ClusterRole {AGENT_BINDING} has no \
             right to delete Pods, so no Pod is killed in a namespace that chooses this mode; add \
             component `delete` to the manifests, or remove the mode from ceilings.mode",
            modes.join("` and `")
        )
    })
}

/// The resources that the agent lists in a namespace.
const LISTED: [(&str, &str); 7] = [
    ("", "pods"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("apps", "replicasets"),
    ("", "replicationcontrollers"),
    ("policy", "poddisruptionbudgets"),
];

/// The resources that the agent lists in a namespace and that this user may not list.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn unlisted(client: &Client, namespace: &str) -> Result<Vec<&'static str>, CallError> {
    let mut unlisted = Vec::new();
    for (group, resource) in LISTED {
        let attributes = ResourceAttributes {
            namespace: Some(namespace.to_owned()),
            group: Some(group.to_owned()),
            verb: Some("list".to_owned()),
            resource: Some(resource.to_owned()),
            ..ResourceAttributes::default()
        };
        if !ask(client, attributes).await? {
            unlisted.push(resource);
        }
    }
    Ok(unlisted)
}

/// The user as which the API server sees this process.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn user(client: &Client) -> Result<UserInfo, CallError> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let answer = call(reviews.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
    Ok(answer.status.and_then(|status| status.user_info).unwrap_or_default())
}

/// The name of the user as which this process runs. `None` if it is a ServiceAccount of namespace
/// `pure-chaos`: the locks on a kill apply only to those accounts.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn stranger(client: &Client) -> Result<Option<String>, CallError> {
    let user = user(client).await?;
    let group = format!("system:serviceaccounts:{SYSTEM_NAMESPACE}");
    let is_ours = user.groups.iter().flatten().any(|known| *known == group);
    Ok((!is_ours).then(|| user.username.unwrap_or_else(|| "nobody".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_the_role_cannot_do_is_told() {
        let rule = |resource: &str, verbs: &[&str]| PolicyRule {
            api_groups: Some(vec![String::new()]),
            resources: Some(vec![resource.to_owned()]),
            verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            ..PolicyRule::default()
        };
        let evicts = [
            rule("pods", &["get", "list"]),
            rule("pods/eviction", &["create"]),
            rule("secrets", &["delete"]),
        ];
        let named = PolicyRule { resource_names: Some(vec!["a".to_owned()]), ..rule("pods", &["delete"]) };
        assert_eq!(unable_by(&evicts, &[Mode::Evict]), None);
        let told = unable_by(&evicts, &[Mode::Evict, Mode::Delete, Mode::Force]).unwrap();
        assert!(told.contains("allows `delete` and `force`, but ClusterRole pure-chaos-agent"), "{told}");
        assert!(unable_by(&[named], &[Mode::Force]).is_some());
        for enough in [rule("pods", &["delete"]), rule("*", &["*"])] {
            assert_eq!(unable_by(&[enough], &[Mode::Delete]), None);
        }
    }
}
