//! The rules of Pure Chaos, as pure functions of plain values. This crate does no I/O, reads no
//! clock and uses no randomness.
//!
//! The webhook and the agent both call this crate, so the agent obeys exactly what the webhook
//! admits.
//!
//! - [`consent`] and [`settings`] read the annotations of a namespace.
//! - [`platform`] reads the platform's policy, which sets defaults and ceilings for the settings.
//! - [`eligibility`] decides whether a namespace is eligible, and why not.
//! - [`kill_gate`] decides whether a kill may happen in a namespace right now.
//! - [`consented`] checks that a kill happens in the way that the owner agreed to.
//! - [`narrowing`] reads how a Pod template narrows the settings for its own Pods.
//! - [`exclusion`] finds the Pods that ask to be left alone.
//! - [`schedule`] computes when rounds are due.
//! - [`steady_state`] reads the checks that the platform's policy names.
//! - [`custom_workloads`] reads the custom kinds that the platform's policy lists.
//! - [`agent_role`] says which further rights the agent needs for a policy.
//! - [`record`] defines the `OptIn` record, by which the webhook tells the agent what it admitted.

pub mod active_hours;
pub mod agent_role;
pub mod ceilings;
pub mod consent;
pub mod consented;
pub mod cron;
pub mod custom_workloads;
pub mod digest;
pub mod durations;
pub mod eligibility;
pub mod excluded_days;
pub mod exclusion;
pub mod faults;
pub mod feasibility;
pub mod kill_gate;
pub mod narrowing;
pub mod platform;
pub mod pod_selector;
pub mod prometheus_address;
pub mod protected;
pub mod record;
pub mod schedule;
pub mod settings;
pub mod share;
pub mod steady_state;
pub mod well_known;
