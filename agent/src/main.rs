//! The agent's binary.

use std::process::ExitCode;

use agent::Args;
use agent::args::Command;
use clap::Parser;
use runtime::{logs, process};

#[tokio::main]
async fn main() -> ExitCode {
    let Args { command } = Args::parse();
    let outcome = async {
        process::install_tls_provider()?;
        match command {
            Command::Run(args) => {
                logs::start(args.common.log_format)?;
                agent::run::run(args).await
            }
            Command::Explain(args) => agent::explain::run(args).await,
        }
    };
    process::exit_code(outcome.await)
}
