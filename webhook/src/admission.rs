//! Admission reviews: [`callers`] authenticates the caller, [`review`] parses the request,
//! [`decide`] makes the answer, and [`pending_admissions`] remembers each admission.

pub mod access;
pub mod bounds;
pub mod callers;
pub mod change;
pub mod configuration_watch;
pub mod decide;
pub mod field_managers;
pub mod pending_admissions;
pub mod pod;
pub mod review;
pub mod routes;
