//! Reads objects from the API server and turns them into plain values. The rules work on the types
//! in [`snapshot`]; the other modules fill them.

pub mod access;
pub mod conditions;
pub mod custom_workloads;
pub mod list;
pub mod live_consent;
pub mod observe;
pub mod owners;
#[cfg(feature = "controller")]
pub mod pod_watch;
pub mod pods;
pub mod policy_config_map;
pub mod snapshot;
pub mod workloads;
