//! The rights that RBAC grants the accounts of `pure-chaos`, one by one, and which of them a
//! request used.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::audit::Request;

/// One verb on one resource, granted by one role of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The role's name.
    pub role: String,
    /// The API group, empty for the core.
    pub group: String,
    /// The resource, with its subresource: `pods/eviction`.
    pub resource: String,
    /// The verb.
    pub verb: String,
    /// The one object that the right is for; empty if it is for all.
    pub name: String,
}

/// The single rights of a Role or ClusterRole.
pub fn rights(role: &Value) -> BTreeSet<Right> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        assert!(rule["nonResourceURLs"].is_null(), "{rule} of {} is about paths", role["metadata"]["name"]);
        let names = texts(&rule["resourceNames"]);
        let names = if names.is_empty() { vec![String::new()] } else { names };
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    for name in &names {
                        rights.insert(Right {
                            role: role["metadata"]["name"].as_str().unwrap().to_owned(),
                            group: group.clone(),
                            resource: resource.clone(),
                            verb: verb.clone(),
                            name: name.clone(),
                        });
                    }
                }
            }
        }
    }
    rights
}

/// The role by which the API server says that it allowed a request. `None` if the API server didn't
/// allow the request, or needed no role.
pub fn role(request: &Request) -> Option<&str> {
    let (_, after) = request.reason.split_once("RBAC: allowed by ")?;
    let (_, role) = after.split_once(" of ")?;
    role.split('"').nth(1)
}

impl Right {
    /// Whether the API server allowed a request by this right.
    pub fn is_used_by(&self, request: &Request) -> bool {
        // The request for a list or a watch of one object names the object in its query.
        let name = request.name.is_empty().then(|| format!("metadata.name%3D{}", self.name));
        let is_named = self.name.is_empty()
            || request.name == self.name
            || name.is_some_and(|name| request.uri.contains(&name));
        role(request) == Some(&self.role)
            && (&request.group, &request.resource, &request.verb) == (&self.group, &self.resource, &self.verb)
            && is_named
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_role_taken_apart() {
        let role = json!({"metadata": {"name": "r"}, "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"], "verbs": ["get", "update"]},
            {"apiGroups": ["", "x"], "resources": ["pods"], "verbs": ["get"]}
        ]});
        assert_eq!(rights(&role).len(), 6);
        let name =
            |right: &Right| (right.resource == "secrets" && right.verb == "get").then(|| right.name.clone());
        assert_eq!(rights(&role).iter().filter_map(name).collect::<Vec<_>>(), ["a", "b"]);
    }
}
