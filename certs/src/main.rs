//! `certs run`.

use std::process::ExitCode;

use certs::args::{Args, Command};
use clap::Parser;
use runtime::process;

// One thread: between two ticks of some seconds there is nothing to do.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Args { command: Command::Run(args) } = Args::parse();
    match args.check() {
        Ok(config) => process::exit_code(certs::run::run(config).await),
        Err(usage) => usage.exit(),
    }
}
