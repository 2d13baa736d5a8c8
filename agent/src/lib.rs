//! The agent: decides which Pods of eligible namespaces die and when, kills them, and measures how long their workloads take to
//! recover.
//!
//! The rules are pure: [`election`], [`slots`], [`permission`], [`guards`], [`select`], [`recovery`] and [`back_off`] take plain [`views`] and say
//! what follows.
//! The rest fetches ([`observe`], [`pods`], [`workloads`]), acts ([`lease`], [`kill`]) and tells ([`metrics`], [`events`], [`ledger`],
//! [`page`]); [`round`] and [`namespace`] are the drivers that read as a list of those steps.

pub mod args;
pub mod back_off;
pub mod board;
pub mod budget;
pub mod decisions;
pub mod deps;
pub mod election;
pub mod events;
pub mod explain;
pub mod explanation;
pub mod guards;
pub mod halt;
pub mod installed_policy;
pub mod kill;
pub mod lease;
pub mod ledger;
pub mod lineage;
pub mod metrics;
pub mod namespace;
pub mod narration;
pub mod observe;
pub mod once;
pub mod own_rights;
pub mod page;
pub mod permission;
pub mod pod_book;
pub mod pods;
pub mod recoveries;
pub mod recovery;
pub mod refusal;
pub mod report;
pub mod round;
pub mod run;
pub mod select;
pub mod slots;
pub mod supervise;
pub mod views;
pub mod workloads;

pub use args::Args;
