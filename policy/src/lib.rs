//! The rules of Pure Chaos as pure functions of plain values: no I/O, no clock, no randomness.
//!
//! What the webhook admits is by construction what the agent obeys, because both ask this crate:
//! [`consent`] and [`settings`] read a namespace's annotations, [`platform`] bounds them, [`eligibility`] says what
//! follows, [`lock`] whether a kill may happen right now, [`schedule`] when rounds are due, and [`record`] is the form in
//! which the webhook tells the agent.

pub mod ceilings;
pub mod consent;
pub mod cron;
pub mod days;
pub mod digest;
pub mod durations;
pub mod eligibility;
pub mod hours;
pub mod keys;
pub mod lock;
pub mod outlook;
pub mod platform;
pub mod protected;
pub mod record;
pub mod schedule;
pub mod settings;
pub mod targets;
