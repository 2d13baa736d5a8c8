//! The binary of the plugin, `kubectl-chaos`.

use std::process::ExitCode;

use clap::Parser;
use kubectl_chaos::Args;
use runtime::process;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = process::install_tls_provider() {
        return process::exit_code(Err(error));
    }
    let outcome =
        kubectl_chaos::run::run(args).await.map_err(|error| match error.downcast::<clap::Error>() {
            Ok(wrong_usage) => wrong_usage.exit(),
            Err(error) => error,
        });
    process::exit_code(outcome)
}
