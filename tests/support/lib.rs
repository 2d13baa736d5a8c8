//! The code that the tests share.

pub mod alert_rules;
pub mod audit;
pub mod browser;
pub mod case;
pub mod cgroup;
pub mod cluster;
pub mod dashboard;
pub mod disruption;
pub mod excuses;
pub mod exported;
pub use fake_api;
pub mod fake_node;
pub mod generator;
pub mod lateness;
pub mod load;
pub mod manifests;
pub mod process;
pub mod promtool;
pub mod repository;
pub mod rights;
pub mod rotations;
pub mod scene;
pub mod schemas;
pub mod second_api_server;
pub mod served;
pub mod site;
pub mod soak;
pub mod stage;
pub mod tags;
pub mod truth;
pub mod walk;
pub mod ways;

use kube::CustomResourceExt;
use policy::record::OptIn;

/// The CustomResourceDefinition of the record, as in the manifests.
pub fn crd_yaml() -> String {
    let json = serde_json::to_value(OptIn::crd()).unwrap();
    let yaml = serde_saphyr::to_string(&json).unwrap();
    format!("# The record. Written by `make crd` from the code; a test compares.\n{yaml}")
}
