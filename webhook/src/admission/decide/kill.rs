//! Decides the rule on kills.

use jiff::Timestamp;
use policy::consented::{self, Kill, Victim, Way};
use policy::eligibility::NamespaceView;
use policy::exclusion::Marks;
use policy::kill_gate::{is_time, may_kill};
use policy::platform::PlatformPolicy;
use policy::well_known::SYSTEM_NAMESPACE;

use super::Decision;
use crate::admission::review::{Code, Operation, Request};

/// The group of all ServiceAccounts in [`SYSTEM_NAMESPACE`]. The API server asks
/// `kill.purechaos.dev` only about members of this group.
pub const LOCKED_GROUP: &str = "system:serviceaccounts:pure-chaos";

/// Returns whether the kill lock judges a request. The lock judges only ServiceAccounts of
/// `pure-chaos`.
#[must_use]
pub fn is_locked(request: &Request) -> bool {
    request.user_info.groups.iter().any(|group| group == LOCKED_GROUP)
        // The user name alone is enough, in case an API server leaves the groups out.
        || request
            .user_info
            .username
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(namespace, _)| namespace == SYSTEM_NAMESPACE)
}

/// Allows a kill by a user whom the kill lock does not judge.
pub fn not_locked() -> Decision {
    Decision::allow("not an account of pure-chaos")
}

/// Returns the namespace in which a locked request would kill.
///
/// # Errors
/// Returns a denial if the request is not a kill that this rule knows.
pub fn place_of_kill(request: &Request) -> Result<&str, Box<Decision>> {
    let is_pods = request.resource.group.is_empty() && request.resource.resource == "pods";
    let is_kill = match (request.operation, request.sub_resource.as_str()) {
        (Operation::Delete, "") | (Operation::Create, "eviction") => is_pods,
        _ => false,
    };
    if !is_kill || request.namespace.is_empty() {
        let what = format!(
            "{} of {}/{} in namespace {:?}",
            request.operation.word(),
            request.resource.resource,
            request.sub_resource,
            request.namespace
        );
        return Err(Box::new(Decision::deny(
            Code::Forbidden,
            "not a kill",
            format!(
                "accounts of namespace {SYSTEM_NAMESPACE} may only delete or evict Pods in a namespace; \
                 this request is {what}"
            ),
        )));
    }
    Ok(&request.namespace)
}

/// Decides the kill rule: whether a Pod of `namespace` may be killed at `now` and in the requested
/// way, as both Namespaces are now.
///
/// `system` is `None` if namespace `pure-chaos` can't be read, which counts as a halt.
pub fn decide(
    request: &Request,
    namespace: &NamespaceView,
    system: Option<&NamespaceView>,
    policy: &PlatformPolicy,
    now: Timestamp,
) -> Decision {
    let allowed = may_kill(namespace, system, policy, now)
        .and_then(|settings| is_time(&settings, policy, now).map(|()| settings));
    let settings = match allowed {
        Ok(settings) => settings,
        Err(locked) => return Decision::deny(Code::Forbidden, "locked", locked.sentence(&namespace.name)),
    };
    let kill = match kill_of(request) {
        Ok(kill) => kill,
        Err(why) => return Decision::deny(Code::Forbidden, "pod not understood", why.to_owned()),
    };
    match consented::check(&settings, &kill) {
        Ok(()) => Decision::allow("opted in"),
        Err(excess) => Decision::deny(
            Code::Forbidden,
            "not consented to",
            format!("namespace {} {excess}", namespace.name),
        ),
    }
}

/// Returns the kill that a request asks for. [`place_of_kill`] must have accepted the request
/// before.
fn kill_of(request: &Request) -> Result<Kill<'_>, &'static str> {
    let way = if request.operation == Operation::Delete {
        let pod =
            request.old_object.as_ref().ok_or("the review does not show the Pod that is to be deleted")?;
        let (metadata, spec) = (&pod.metadata, pod.spec.as_ref());
        if metadata.labels.is_cut {
            return Err("the Pod has more or longer labels than the webhook checks");
        }
        let is_finished = pod.status.as_ref().is_some_and(|status| status.is_finished);
        Way::Delete(Victim {
            marks: Marks {
                annotations: &metadata.annotations,
                labels: &metadata.labels.pairs,
                priority_class: spec.and_then(|spec| spec.priority_class_name.as_deref()),
                is_pod: true,
            },
            controller: metadata.controller.0.as_deref(),
            grace: spec.and_then(|spec| spec.termination_grace_period_seconds),
            runs_nowhere: is_finished || !spec.is_some_and(|spec| spec.is_on_a_node),
        })
    } else {
        Way::Evict
    };
    Ok(Kill { dry_run: request.is_dry_run(), grace: request.grace(), way })
}

/// Denies a kill because the namespace could not be read. A failed check is a refusal.
pub fn unreadable(namespace: &str, why: &str) -> Decision {
    Decision::deny(
        Code::Forbidden,
        "namespace unreadable",
        format!("namespace {namespace} can't be read, so the kill is denied: {why}; try again"),
    )
}
