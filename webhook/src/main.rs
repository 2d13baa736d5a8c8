//! The `webhook` binary: parses the command line and runs the webhook.

use std::process::ExitCode;

use clap::Parser;
use runtime::process;
use webhook::args::{Args, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let Args { command: Command::Run(args) } = Args::parse();
    process::exit_code(webhook::run::run(args).await)
}
