//! The binary of the agent. It parses the flags and runs the subcommand.

use std::process::ExitCode;

use agent::Args;
use agent::args::Command;
use clap::Parser;
use runtime::process;

#[tokio::main]
async fn main() -> ExitCode {
    let Args { command } = Args::parse();
    if let Err(error) = process::install_tls_provider() {
        return process::exit_code(Err(error));
    }
    match command {
        Command::Run(args) => process::exit_code(agent::run::run(args).await),
        Command::Once(args) => agent::once::run(args).await,
        Command::Explain(args) => process::exit_code(agent::explain::run(args).await),
        Command::PrintRole(args) => process::exit_code(agent::print_role::run(&args)),
    }
}
