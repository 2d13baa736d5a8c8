//! Tests on a real node that touch nothing but namespaces of their own, so that several groups run
//! at the same time.

mod budgets;
mod custom_workloads;
mod kills;
mod manifests;
mod narrowing;
mod opt_in;
mod outages;
mod plugin;
mod recovery;
mod recovery_edges;
mod steady_state;
