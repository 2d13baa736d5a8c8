//! Reads, issues and bundles certificates. Pure except for random keys and serial numbers.

pub mod bundle;
pub mod certificate;
pub mod issue;
