//! The webhook: guards the opt-in at admission, locks Pure Chaos's own kills, and keeps the records of who opted in.
//!
//! Two flows that meet only in [`notes`]:
//! - a review comes in ([`server`], [`routes`], [`review`]), [`decide`] says what to answer, and an admission is remembered;
//! - the watches ([`watches`]) show which namespaces are due ([`queue`]), and each look ([`worker`], [`records`], [`objects`]) makes its record and
//!   its RoleBinding what [`desired`] and [`binding`] say.
//!
//! [`decide`], [`desired`] and [`binding`] are pure; the rules themselves are in the crate `policy`.

pub mod access;
pub mod args;
pub mod binding;
pub mod body;
pub mod connections;
pub mod decide;
pub mod desired;
pub mod events;
pub mod metrics;
pub mod namespaces;
pub mod notes;
pub mod objects;
pub mod origin;
pub mod pace;
pub mod queue;
pub mod records;
pub mod review;
pub mod routes;
pub mod run;
pub mod server;
pub mod watches;
pub mod worker;

pub use args::Args;

#[cfg(test)]
mod fake;
