//! The agent's binary.

use std::process::ExitCode;

use agent::Args;
use agent::args::Command;
use clap::Parser;
use runtime::{logs, process};

#[tokio::main]
async fn main() -> ExitCode {
    let Args { command: Command::Run(args) } = Args::parse();
    let outcome = async {
        logs::start(args.common.log_format)?;
        process::install_tls_provider()?;
        agent::run::run(args).await
    };
    process::exit_code(outcome.await)
}
