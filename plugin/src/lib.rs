//! `kubectl chaos`: the kubectl plugin by which people use Pure Chaos.
//!
//! The plugin has only the rights of the user who runs it. Each command that changes something does
//! the same as one `kubectl` command, and prints that command.
//!
//! Three modules are pure:
//!
//! - [`change`] turns arguments into annotations, and annotations into the `kubectl` command.
//! - [`round`] reads in a record what became of a round.
//! - [`completion`] completes a line.
//!
//! [`apply`] sends requests to the API server, and [`run`] runs each command.

pub mod absence;
pub mod apply;
pub mod apply_change;
pub mod args;
pub mod candidates;
pub mod change;
pub mod completion;
pub mod flags;
pub mod halt;
pub mod namespace_arg;
pub mod now;
pub mod round;
pub mod run;
pub mod shell;
pub mod status;
pub mod suggest;

pub use args::Args;
