//! The agent decides which Pods of eligible namespaces it kills and when, kills them, and measures
//! how long their workloads take to recover.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`mod@run`], [`once`], [`explain`], [`print_role`] | the subcommands of the binary |
//! | [`controller`] | the tasks of the leader: one for each OptIn record, and one that watches the halt of the whole cluster |
//! | [`round`] | one round: which slot is due, how victims are selected, the kills, the report |
//! | [`recovery`] | measures how long a workload takes to recover |
//! | [`guard`] | the conditions that must hold before a Pod is killed |
//! | [`cluster`] | reads objects from the API server and turns them into plain values |
//! | [`steady_state`] | asks the checks of the steady state, and decides whether a round may begin |
//! | [`leader_election`] | decides which agent process acts |
//! | [`status`] | the only module that writes the status of a record |
//! | [`telemetry`], [`status_page`] | logs, metrics, Kubernetes Events and the agent's status page |
//! | [`refusal`] | the reasons why the agent leaves a Pod, a workload or a namespace alone |
//! | `identity` | the identity of this process, and its source of randomness |
//!
//! Without the feature `controller`, the crate contains [`explain`] and what it needs, for
//! `kubectl chaos`.
//!
//! These modules do no I/O and never await: [`guard`], [`leader_election::rule`], [`round::due`],
//! [`round::select`], [`round::outage`], the file `recovery.rs` of [`recovery`], and [`telemetry::fact`].

pub mod args;
pub mod cluster;
#[cfg(feature = "controller")]
pub mod context;
#[cfg(feature = "controller")]
pub mod controller;
pub mod explain;
pub mod guard;
#[cfg(feature = "controller")]
mod identity;
#[cfg(feature = "controller")]
pub mod leader_election;
#[cfg(feature = "controller")]
pub mod once;
#[cfg(feature = "controller")]
pub mod print_role;
#[cfg(feature = "controller")]
pub mod recovery;
pub mod refusal;
#[cfg(feature = "controller")]
pub mod round;
#[cfg(feature = "controller")]
pub mod run;
#[cfg(feature = "controller")]
pub mod status;
#[cfg(feature = "controller")]
pub mod status_page;
pub mod steady_state;
#[cfg(feature = "controller")]
pub mod telemetry;

pub use args::Args;
