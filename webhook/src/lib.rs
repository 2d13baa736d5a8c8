//! The webhook reviews opt-ins at admission, locks the kills of Pure Chaos, and keeps a record of
//! each opt-in.
//!
//! Two flows meet only in [`admission::pending_admissions`]:
//! - Admission. The API server sends a review to the [`server`]. [`admission::routes`] runs the
//!   steps: [`admission::callers`] authenticates the caller, [`admission::review`] parses the
//!   review, [`admission::decide`] makes the answer, and an admission is remembered.
//! - Reconciliation. [`reconcile::watches`] puts the namespaces that are due into
//!   [`reconcile::queue`], and [`reconcile::worker`] takes them from there.
//!   [`reconcile::reconciler`] makes each record and RoleBinding what [`reconcile::desired`] and
//!   [`reconcile::binding`] say, and writes them through [`reconcile::store`].
//!
//! The modules [`admission::decide`], [`admission::change`], [`reconcile::desired`] and
//! [`reconcile::binding`] are pure. The rules themselves are in the crate `policy`.

pub mod admission;
pub mod args;
pub mod events;
pub mod metrics;
pub mod namespaces;
pub mod reconcile;
pub mod run;
pub mod server;

pub use args::Args;

#[cfg(test)]
mod fake;
