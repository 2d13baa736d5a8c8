//! Checks the right to opt in: only a user who may delete Pods in a namespace may opt it in.
//!
//! The webhook asks the API server with a SubjectAccessReview, so every authorizer of the cluster
//! counts, not only RBAC.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::admission::review::User;

/// How long the webhook waits for the API server's answer. The API server itself waits 5 s for the
/// webhook, so this limit leaves time for the rest of the review.
pub const ACCESS_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks whether the user may delete Pods in this namespace, or in all namespaces if `namespace` is
/// `None`.
///
/// The question carries the whole user (name, UID, groups and extra fields) as the API server
/// authenticated or impersonated it.
///
/// # Errors
/// Returns the reason as text if the API server refuses the question, or does not answer within
/// [`ACCESS_TIMEOUT`].
pub async fn may_delete_pods(client: &Client, user: &User, namespace: Option<&str>) -> Result<bool, String> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let question = question(user, namespace);
    match tokio::time::timeout(ACCESS_TIMEOUT, reviews.create(&PostParams::default(), &question)).await {
        Ok(Ok(answer)) => Ok(answer.status.is_some_and(|status| status.allowed)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ACCESS_TIMEOUT.as_secs())),
    }
}

fn question(user: &User, namespace: Option<&str>) -> SubjectAccessReview {
    let User { username, uid, groups, extra } = user;
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: some(username),
            uid: some(uid),
            groups: Some(groups.clone()),
            extra: Some(extra.clone().into_iter().collect::<BTreeMap<_, _>>()),
            resource_attributes: Some(ResourceAttributes {
                verb: some("delete"),
                resource: some("pods"),
                version: some("v1"),
                namespace: namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_user_is_asked_about() {
        let user = User {
            username: "kim".to_owned(),
            uid: "7".to_owned(),
            groups: vec!["team-a".to_owned()],
            extra: BTreeMap::from([("scopes".to_owned(), vec!["a".to_owned()])]),
        };
        let json = serde_json::to_value(question(&user, Some("a")).spec).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "user": "kim", "uid": "7", "groups": ["team-a"], "extra": {"scopes": ["a"]},
                "resourceAttributes": {"verb": "delete", "resource": "pods", "version": "v1", "namespace": "a"}
            })
        );
        let everywhere = question(&user, None).spec.resource_attributes.unwrap();
        assert_eq!(everywhere.namespace, None, "all namespaces");
    }
}
