//! Refused requests of our accounts that are expected, and rights that are used although no request
//! shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::audit::Request;
use crate::rights::Right;

/// Whether a right is used although no request shows it.
pub fn is_shown_otherwise(right: &Right, requests: &[Request]) -> bool {
    // When an account makes a RoleBinding and lacks the rights in it, as the webhook does, the API
    // server itself checks the verb `bind`.
    right.verb == "bind"
        && requests.iter().any(|request| {
            request.resource == "rolebindings" && request.verb == "create" && request.is_accepted()
        })
}

/// How long the agent may not know yet that its rights have begun or ended.
const UNAWARE: Duration = Duration::from_secs(10);

/// Why a request was refused, if the refusal is expected.
pub fn excuse(
    refused: &Request,
    changes: &BTreeMap<&str, Vec<&Request>>,
    recorded: &BTreeSet<&str>,
    lent: &BTreeSet<Right>,
) -> Option<&'static str> {
    let changes = changes.get(refused.namespace.as_str()).map(Vec::as_slice).unwrap_or_default();
    let is_near =
        |change: &&Request| change.answered.duration_since(refused.received).unsigned_abs() < UNAWARE;
    let is_lent = lent.iter().any(|right| {
        (&right.group, &right.resource, &right.verb) == (&refused.group, &refused.resource, &refused.verb)
    });
    match refused {
        _ if !refused.allowed
            && ["agent", "default"].contains(&refused.account.as_str())
            && is_lent
            && changes.iter().any(is_near) =>
        {
            Some("the agent's rights in the namespace had just come or gone")
        }
        // A record that isn't admitted has no RoleBinding. Its rounds read the Namespace, and RBAC
        // refuses that.
        _ if !refused.allowed
            && (refused.account.as_str(), refused.verb.as_str(), refused.resource.as_str())
                == ("agent", "get", "namespaces")
            && recorded.contains(refused.namespace.as_str()) =>
        {
            Some("the namespace has a record without an admission")
        }
        // The agent asks once a minute whether it may read nodes.
        _ if !refused.allowed && (refused.verb.as_str(), refused.resource.as_str()) == ("list", "nodes") => {
            Some("component nodes had just gone")
        }
        _ if refused.allowed && refused.is_kill() => Some("a lock held"),
        // For a moment there are webhooks with the old and with the new `--agent-accounts`, and the
        // policy knows only one of the two.
        _ if refused.allowed
            && (refused.account.as_str(), refused.resource.as_str()) == ("webhook", "rolebindings")
            && changes.iter().filter(|change| change.resource == "rolebindings").any(is_near) =>
        {
            Some("the accounts that get rights were being changed")
        }
        _ if refused.allowed && refused.message.contains("because it is being terminated") => {
            Some("the namespace was being deleted")
        }
        _ => None,
    }
}
