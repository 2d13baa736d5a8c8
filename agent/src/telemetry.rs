//! Reports what happens. A task hands over a [`fact::Fact`], and [`reporter`] writes it to the log,
//! the metrics, Kubernetes Events and the agent's status page.

pub mod activity;
pub mod decision_log;
pub mod events;
pub mod fact;
pub mod metrics;
pub mod refusals;
pub mod reporter;
