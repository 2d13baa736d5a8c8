//! Makes sure that only one agent acts at a time. [`rule`] decides from the state of the Lease
//! which agent leads. [`lease`] reads and writes the Lease.

pub mod lease;
pub mod rule;
