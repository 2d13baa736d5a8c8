//! The rules of component `prometheus-operator`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::repository::{read, root};

/// The component's folder.
pub const COMPONENT: &str = "manifests/components/prometheus-operator";

/// A rule. A recording rule has only a name and an expression.
#[derive(Debug, Clone, Deserialize)]
pub struct Rule {
    /// The name of the alert or of the recorded series.
    #[serde(alias = "alert", alias = "record")]
    pub name: String,
    /// Its PromQL.
    pub expr: String,
    /// How long the expression has to hold before the alert fires.
    #[serde(rename = "for")]
    pub waits: Option<String>,
    /// The labels that the rule adds to its series.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The annotations, which hold the alert's texts.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Rule {
    /// Whether the rule is an alert.
    #[must_use]
    pub fn is_alert(&self) -> bool {
        self.waits.is_some()
    }
}

/// The objects of the component.
pub fn objects() -> Vec<Value> {
    let kustomization: Value =
        serde_saphyr::from_str(&read(&format!("{COMPONENT}/kustomization.yaml"))).unwrap();
    let files = kustomization["resources"].as_array().unwrap();
    assert_eq!(
        files.len() + 1,
        std::fs::read_dir(root().join(COMPONENT)).unwrap().count(),
        "a file is not listed"
    );
    let read_one = |file: &Value| read(&format!("{COMPONENT}/{}", file.as_str().unwrap()));
    files.iter().flat_map(|file| serde_saphyr::from_multiple::<Value>(&read_one(file)).unwrap()).collect()
}

/// All groups, in the form of a plain rule file.
pub fn groups() -> Vec<Value> {
    let rules = objects().into_iter().filter(|object| object["kind"] == "PrometheusRule");
    rules.flat_map(|rule| rule["spec"]["groups"].as_array().unwrap().clone()).collect()
}

/// All rules.
pub fn rules() -> Vec<Rule> {
    let rules = groups().into_iter().flat_map(|group| group["rules"].as_array().unwrap().clone());
    rules.map(|rule| serde_json::from_value(rule).unwrap()).collect()
}
