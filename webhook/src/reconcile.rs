//! Keeps the records and RoleBindings.
//!
//! The [`watches`] put the namespaces that are due into the [`queue`], and the [`worker`] takes
//! them from there. The [`reconciler`] makes each record and RoleBinding what [`desired`] and
//! [`binding`] say.

pub mod binding;
pub mod desired;
pub mod queue;
pub mod reconciler;
pub mod store;
pub mod watches;
pub mod worker;
pub mod write_throttle;
