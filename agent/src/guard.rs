//! The guards: conditions that must hold before a Pod is killed. They cover the whole cluster, the
//! namespace, the workload and the Pod. Guards do no I/O.

pub mod backoff;
pub mod namespace;
pub mod places;
pub mod pods;
pub mod rate_limit;
pub mod resting;
