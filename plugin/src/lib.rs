//! `kubectl chaos`: what people do with Pure Chaos, by name. It has no rights of its own and no way of its own: each command that changes something
//! is a `kubectl` command, which it prints.
//!
//! The rules are pure: [`change`] makes annotations of arguments and the command of annotations, [`round`] reads a record, [`completion`] completes. The
//! rest asks the API server ([`apply`]), and [`run`] says what is done for each command.

pub mod apply;
pub mod args;
pub mod change;
pub mod completion;
pub mod flags;
pub mod halt;
pub mod hint;
pub mod known;
pub mod make;
pub mod now;
pub mod place;
pub mod round;
pub mod run;
pub mod shell;
pub mod status;

pub use args::Args;
