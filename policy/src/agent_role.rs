//! The rights in opted-in namespaces that the agent needs for a platform's policy, beside those that
//! it always has.

use std::collections::{BTreeMap, BTreeSet};

use crate::platform::PlatformPolicy;
use crate::steady_state::Probe;

/// A rule of a role. It gives the verb `get`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The API group. Empty for the core group.
    pub group: String,
    /// The resources, with their subresources, such as `clonesets/scale`.
    pub resources: Vec<String>,
    /// The names of the only objects that the rule is about. Empty if it is about all of them.
    pub names: Vec<String>,
}

/// The rules that the policy's `workloads` and its checks with `http` need: one for each API group,
/// and one for the Services.
#[must_use]
pub fn rules(policy: &PlatformPolicy) -> Vec<Rule> {
    let services: BTreeSet<&str> = policy
        .steady_state
        .iter()
        .filter_map(|check| match &check.probe {
            Probe::Http { service, .. } => Some(service.as_str()),
            // This right is needed in the namespace of Prometheus.
            Probe::Prometheus { .. } => None,
        })
        .collect();
    let proxy = (!services.is_empty()).then(|| Rule {
        group: String::new(),
        resources: vec!["services/proxy".to_owned()],
        names: services.into_iter().map(str::to_owned).collect(),
    });
    let mut groups: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for workload in policy.workloads.iter() {
        let resources = groups.entry(&workload.group).or_default();
        resources.extend([workload.resource.clone(), format!("{}/scale", workload.resource)]);
    }
    let custom = groups.into_iter().map(|(group, resources)| Rule {
        group: group.to_owned(),
        resources: resources.into_iter().collect(),
        names: Vec::new(),
    });
    proxy.into_iter().chain(custom).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listed_kind_and_service_has_its_right_and_nothing_else_has() {
        let file = "
prometheus: monitoring/prometheus:9090
steadyState:
  no-alert: {prometheus: up}
  web: {http: {service: web, port: http}}
  web-too: {http: {service: web, port: http, path: /healthz}}
  shop: {http: {service: shop, port: 443, scheme: https}}
workloads:
- {apiVersion: apps.kruise.io/v1alpha1, kind: CloneSet, resource: clonesets}
- {apiVersion: postgresql.cnpg.io/v1, kind: Cluster, resource: clusters}
- {apiVersion: apps.kruise.io/v1beta1, kind: Podset, resource: podsets}
";
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let rule = |group: &str, resources: &[&str], names: &[&str]| Rule {
            group: group.to_owned(),
            resources: texts(resources),
            names: texts(names),
        };
        assert_eq!(
            rules(&PlatformPolicy::parse(file).unwrap()),
            [
                rule("", &["services/proxy"], &["https:shop:443", "web:http"]),
                rule("apps.kruise.io", &["clonesets", "clonesets/scale", "podsets", "podsets/scale"], &[]),
                rule("postgresql.cnpg.io", &["clusters", "clusters/scale"], &[]),
            ]
        );
        assert_eq!(rules(&PlatformPolicy::built_in()), []);
    }
}
