//! The `certs` binary: parses the command line and runs `certs`.

use std::process::ExitCode;

use certs::args::{Args, Command};
use clap::Parser;
use runtime::process;

// One thread is enough, because the process does nothing between two ticks, which are seconds
// apart.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Args { command: Command::Run(args) } = Args::parse();
    match args.check() {
        Ok(config) => process::exit_code(certs::run::run(config).await),
        Err(usage) => usage.exit(),
    }
}
