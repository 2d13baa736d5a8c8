//! The start and the end of a process: the TLS provider, tasks that end together, the signals that
//! end them, and the exit code.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::output::is_reader_left;

/// The exit code of a failure at run time. After wrong usage, clap exits with 2. After one signal,
/// the process exits with 0.
const FAILED: u8 = 1;

/// Installs the TLS provider that the Kubernetes client and the webhook use.
///
/// # Errors
/// Returns an error if a TLS provider is installed already.
pub fn install_tls_provider() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("failed to install the TLS provider: there is one already"))
}

/// A token that SIGTERM or SIGINT cancels. A second signal ends the process at once.
///
/// # Errors
/// Returns an error if the process cannot wait for signals.
pub fn ended_by_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let end = CancellationToken::new();
    let token = end.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if first {
                tracing::info!(signal = name, "received a signal, shutting down");
                token.cancel();
            } else {
                tracing::warn!(signal = name, "received a second signal, exiting at once");
                std::process::exit(i32::from(FAILED));
            }
        }
    });
    Ok(end)
}

/// Runs one task, and cancels `end` when the task ends. So no process lives on without one of its
/// parts.
///
/// # Errors
/// Returns the error of the task.
pub async fn essential(
    name: &'static str,
    end: CancellationToken,
    task: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let outcome = task.await;
    if let Err(error) = &outcome {
        tracing::error!(task = name, error = format!("{error:#}"), "a task failed, shutting down");
    } else if !end.is_cancelled() {
        tracing::error!(task = name, "a task ended early, shutting down");
    }
    end.cancel();
    outcome
}

/// The exit code for the end of the process. Prints the error for people, if there is one. Output
/// that nobody reads any more is no error.
#[must_use]
pub fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_tasks_failure_ends_the_others() {
        let end = CancellationToken::new();
        let waiting = {
            let end = end.clone();
            async move {
                end.cancelled().await;
                Ok(())
            }
        };
        let failing = async { Err(anyhow::anyhow!("broken")) };
        let (first, second) = tokio::join!(
            essential("waiting", end.clone(), waiting),
            essential("failing", end.clone(), failing)
        );
        assert!(first.is_ok());
        assert_eq!(second.unwrap_err().to_string(), "broken");
    }
}
