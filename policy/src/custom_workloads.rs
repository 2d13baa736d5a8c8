//! Custom kinds that own Pods themselves, such as a CloneSet. The platform's policy lists them, so
//! that the agent can read how many Pods such a workload wants.
//!
//! ```yaml
//! workloads:
//!   - {apiVersion: apps.kruise.io/v1alpha1, kind: CloneSet, resource: clonesets}
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::settings::{Kinds, Problem};

/// The most kinds that the policy may list. Each Pod's owner is looked up among them.
const MOST: usize = 32;
/// The longest label of a DNS name.
const LONGEST_LABEL: usize = 63;
/// The longest DNS name.
const LONGEST_NAME: usize = 253;
/// Kinds that own Pods and that a platform can't list: the agent knows the size of their workloads
/// without a list, or never kills their Pods.
const BUILT_IN: [&str; 9] = [
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "Job",
    "CronJob",
    "Node",
    "Pod",
];

/// A custom kind that owns Pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomWorkload {
    /// The API group, such as `apps.kruise.io`.
    pub group: String,
    /// The version, such as `v1alpha1`.
    pub version: String,
    /// The kind, such as `CloneSet`.
    pub kind: String,
    /// The plural of the kind in the paths of the API, such as `clonesets`.
    pub resource: String,
}

impl CustomWorkload {
    /// The resource with its group, as kubectl writes it: `clonesets.apps.kruise.io`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.resource, self.group)
    }
}

/// The custom kinds that the platform's policy lists, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomWorkloads(BTreeMap<String, CustomWorkload>);

impl CustomWorkloads {
    /// The listed kind of this name.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&CustomWorkload> {
        self.0.get(kind)
    }

    /// All listed kinds, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &CustomWorkload> {
        self.0.values()
    }

    /// Reads the list of the policy file.
    pub(crate) fn read(entries: Vec<Spanned<WorkloadEntry>>) -> Result<Self, (u64, String)> {
        let mut known = BTreeMap::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let line = entry.referenced.line();
            let path = format!("workloads[{index}]");
            if index == MOST {
                return Err((line, format!("workloads: expected at most {MOST} kinds")));
            }
            let WorkloadEntry { api_version, kind, resource } = entry.value;
            let (group, version) = group_and_version(&api_version.value).ok_or_else(|| {
                let expected = "expected a group and a version, such as `apps.kruise.io/v1alpha1`";
                wrong(&api_version, format!("{path}.apiVersion"), expected)
            })?;
            if let Some(why) = problem_of_kind(&kind.value) {
                return Err(wrong(&kind, format!("{path}.kind"), &why));
            }
            if !is_label(&resource.value) {
                let expected = "expected the plural of the kind in lower case, such as `clonesets`";
                return Err(wrong(&resource, format!("{path}.resource"), expected));
            }
            if known.contains_key(&kind.value) {
                return Err(wrong(&kind, format!("{path}.kind"), "this kind is listed twice"));
            }
            let workload =
                CustomWorkload { group, version, kind: kind.value.clone(), resource: resource.value };
            known.insert(kind.value, workload);
        }
        Ok(Self(known))
    }
}

/// A custom kind in the policy file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct WorkloadEntry {
    api_version: Spanned<String>,
    kind: Spanned<String>,
    resource: Spanned<String>,
}

fn wrong(value: &Spanned<String>, path: String, why: &str) -> (u64, String) {
    (value.referenced.line(), Problem::invalid(path, &value.value, why.to_owned()).to_string())
}

fn group_and_version(text: &str) -> Option<(String, String)> {
    let (group, version) = text.split_once('/')?;
    let is_group = group.len() <= LONGEST_NAME && group.split('.').all(is_label);
    (is_group && is_label(version)).then(|| (group.to_owned(), version.to_owned()))
}

/// Whether the text is one part of a DNS name that begins with a letter.
fn is_label(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let is_inner = |byte: u8| is_letter(byte) || byte.is_ascii_digit();
    text.len() <= LONGEST_LABEL
        && text.bytes().all(|byte| is_inner(byte) || byte == b'-')
        && text.bytes().next().is_some_and(is_letter)
        && text.bytes().last().is_some_and(is_inner)
}

fn problem_of_kind(kind: &str) -> Option<String> {
    let begins_as_a_kind = kind.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase());
    if !begins_as_a_kind || !kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Some("expected a kind in CamelCase, such as `CloneSet`".to_owned());
    }
    if BUILT_IN.contains(&kind) {
        return Some("this kind is built in; the list is for custom kinds".to_owned());
    }
    // The setting has one list of kinds, so a kind that it refuses could be of no use here.
    Kinds::parse(kind)
        .is_none()
        .then(|| "the setting `kinds` can't choose this kind, so its Pods could never die".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::PlatformPolicy;
    use proptest::prelude::*;

    fn read(yaml: &str) -> Result<CustomWorkloads, String> {
        PlatformPolicy::parse(yaml).map(|policy| policy.workloads).map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_is_read() {
        let workloads = read(
            "workloads:\n\
             - {apiVersion: apps.kruise.io/v1alpha1, kind: CloneSet, resource: clonesets}\n\
             - apiVersion: postgresql.cnpg.io/v1\n  kind: Cluster\n  resource: clusters\n",
        )
        .unwrap();
        assert_eq!(
            workloads.iter().map(|known| known.kind.as_str()).collect::<Vec<_>>(),
            ["CloneSet", "Cluster"]
        );
        let clone_set = workloads.get("CloneSet").unwrap();
        assert_eq!((clone_set.group.as_str(), clone_set.version.as_str()), ("apps.kruise.io", "v1alpha1"));
        assert_eq!(clone_set.full_name(), "clonesets.apps.kruise.io");
        assert_eq!(workloads.get("Deployment"), None);
        assert_eq!(read("workloads:\n"), Ok(CustomWorkloads::default()));
    }

    #[test]
    fn what_is_wrong_in_the_list_is_said_with_its_line() {
        let entry = |api_version: &str, kind: &str, resource: &str| {
            format!("workloads:\n- apiVersion: {api_version}\n  kind: {kind}\n  resource: {resource}\n")
        };
        let api_version = |text: &str| {
            format!("line 2: workloads[0].apiVersion: Invalid value: \"{text}\": expected a group")
        };
        let kind =
            |text: &str, why: &str| format!("line 3: workloads[0].kind: Invalid value: \"{text}\": {why}");
        let camel = "expected a kind in CamelCase, such as `CloneSet`";
        for (file, expected) in [
            (entry("v1", "CloneSet", "clonesets"), api_version("v1")),
            (entry("apps.kruise.io/", "CloneSet", "clonesets"), api_version("apps.kruise.io/")),
            (entry("/v1", "CloneSet", "clonesets"), api_version("/v1")),
            (entry("a/b/v1", "CloneSet", "clonesets"), api_version("a/b/v1")),
            (entry("Apps/v1", "CloneSet", "clonesets"), api_version("Apps/v1")),
            (entry("apps..io/v1", "CloneSet", "clonesets"), api_version("apps..io/v1")),
            (entry("a.io/v1", "cloneSet", "clonesets"), kind("cloneSet", camel)),
            (entry("a.io/v1", "Clone-Set", "clonesets"), kind("Clone-Set", camel)),
            (entry("a.io/v1", "''", "clonesets"), kind("", camel)),
            (
                entry("apps.kruise.io/v1", "StatefulSet", "statefulsets"),
                kind("StatefulSet", "this kind is built in"),
            ),
            (entry("a.io/v1", "Pod", "pods"), kind("Pod", "this kind is built in")),
            (entry("a.io/v1", "Service", "services"), kind("Service", "the setting `kinds` can't choose")),
            (
                entry("a.io/v1", "DeamonSet", "deamonsets"),
                kind("DeamonSet", "the setting `kinds` can't choose"),
            ),
            (
                entry("a.io/v1", "CloneSet", "CloneSets"),
                "line 4: workloads[0].resource: Invalid value: \"CloneSets\": expected the plural".to_owned(),
            ),
            (
                entry("a.io/v1", "CloneSet", "clonesets/scale"),
                "line 4: workloads[0].resource: Invalid value: \"clonesets/scale\": expected the plural"
                    .to_owned(),
            ),
            (
                format!(
                    "{}- apiVersion: b.io/v1\n  kind: CloneSet\n  resource: others\n",
                    entry("a.io/v1", "CloneSet", "clonesets")
                ),
                "line 6: workloads[1].kind: Invalid value: \"CloneSet\": this kind is listed twice"
                    .to_owned(),
            ),
            (
                "workloads:\n- {apiVersion: a.io/v1, kind: CloneSet}\n".to_owned(),
                "missing field `resource`".to_owned(),
            ),
            (
                format!("{}  scale: true\n", entry("a.io/v1", "CloneSet", "clonesets")),
                "unknown field".to_owned(),
            ),
        ] {
            let error = read(&file).unwrap_err();
            assert!(error.contains(&expected), "{file}: {error}");
        }
    }

    #[test]
    fn the_list_is_bounded() {
        let list = |kinds: usize| {
            let entry =
                |number| format!("- {{apiVersion: a.io/v1, kind: Custom{number}, resource: customs}}\n");
            format!("workloads:\n{}", (0..kinds).map(entry).collect::<String>())
        };
        assert_eq!(read(&list(MOST)).unwrap().iter().count(), MOST);
        let error = read(&list(MOST + 1)).unwrap_err();
        assert!(
            error.contains(&format!("line {}: workloads: expected at most 32 kinds", MOST + 2)),
            "{error}"
        );
    }

    proptest! {
        /// What is accepted fits into the path of a request as it is.
        #[test]
        fn no_entry_leaves_its_path(
            api_version in prop_oneof![".{0,12}", "[a-bA9./%-]{1,6}/[a-bA9./%-]{1,3}"],
            resource in prop_oneof![".{0,12}", "[a-bA9./%-]{1,4}"],
        ) {
            let quoted = |text: &str| serde_json::to_string(text).unwrap();
            let (api_version, resource) = (quoted(&api_version), quoted(&resource));
            let yaml = format!("workloads:\n- {{apiVersion: {api_version}, kind: CloneSet, resource: {resource}}}\n");
            if let Ok(workloads) = read(&yaml) {
                let known = workloads.get("CloneSet").unwrap();
                let path = format!("{}/{}/{}", known.group, known.version, known.resource);
                prop_assert!(path.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-./".contains(&byte)));
                prop_assert!(path.split('/').count() == 3 && !path.contains(".."));
            }
        }
    }
}
