//! The tasks of the leader. [`supervisor`] runs one [`namespace`] task for each OptIn record.
//! [`halt`] watches the halt of the whole cluster.

pub mod halt;
pub mod namespace;
pub mod supervisor;
