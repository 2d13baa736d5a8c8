//! The agent's flags.

use clap::{Parser, Subcommand};
use runtime::args::{CommonArgs, PolicyFileArg};

/// Kills Pods in namespaces whose owners opted in, and measures how long their workloads take to recover.
#[derive(Debug, Parser)]
#[command(name = "agent", version, arg_required_else_help = true)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What the agent can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve every namespace's schedule until ended by a signal
    Run(RunArgs),
}

/// The flags of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Flags of every part
    #[command(flatten)]
    pub common: CommonArgs,
    /// The platform's policy
    #[command(flatten)]
    pub policy: PolicyFileArg,
}
