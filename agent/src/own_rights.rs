//! Who this process is to the API server, and whether it has the rights that it needs everywhere. Those in a namespace come and go with its
//! opt-in, and their lack is the refusal `no_rights`.

use std::fmt;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use policy::keys::SYSTEM_NAMESPACE;
use runtime::client::{CallError, call};

use crate::lease::LEASE;

/// One verb on one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The verb.
    pub verb: &'static str,
    /// The API group, empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource: `optins/status`.
    pub resource: &'static str,
    /// The one object that it is about, empty where it is about all.
    pub name: &'static str,
    /// In namespace `pure-chaos`; else everywhere.
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

const fn at_home(
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    name: &'static str,
) -> Right {
    Right { verb, group, resource, name, at_home: true }
}

/// What the agent needs everywhere and at home, as in `manifests/base/rbac-agent.yaml`.
pub const NEEDED: [Right; 9] = [
    everywhere("get", "optins"),
    everywhere("list", "optins"),
    everywhere("watch", "optins"),
    everywhere("patch", "optins/status"),
    at_home("get", "", "namespaces", ""),
    at_home("create", "events.k8s.io", "events", ""),
    at_home("create", "coordination.k8s.io", "leases", ""),
    at_home("get", "coordination.k8s.io", "leases", LEASE),
    at_home("update", "coordination.k8s.io", "leases", LEASE),
];

/// What it needs to leave Pods of cordoned nodes alone; component `nodes` grants it.
const NODES: Right = Right { verb: "list", group: "", resource: "nodes", name: "", at_home: false };

/// Whether the cluster's nodes may be read.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn reads_nodes(client: &Client) -> Result<bool, CallError> {
    is_given(client, NODES).await
}

/// Those of [`NEEDED`] that this process doesn't have.
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
    // The right to get Namespaces is bound inside the one that it is about.
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

/// What a look at a namespace lists.
const LISTED: [(&str, &str); 6] = [
    ("", "pods"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("apps", "replicasets"),
    ("policy", "poddisruptionbudgets"),
];

/// What a look at a namespace lists and this process may not.
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

/// The user that this process is, unless it is an account of namespace `pure-chaos`: the locks on a kill hold those accounts and nobody else.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn stranger(client: &Client) -> Result<Option<String>, CallError> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let answer = call(reviews.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
    let user = answer.status.and_then(|status| status.user_info).unwrap_or_default();
    let group = format!("system:serviceaccounts:{SYSTEM_NAMESPACE}");
    let is_ours = user.groups.iter().flatten().any(|known| *known == group);
    Ok((!is_ours).then(|| user.username.unwrap_or_else(|| "nobody".to_owned())))
}
