//! Log lines on standard error, one per decision, as JSON or for a person.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line
    Json,
    /// For reading in a terminal
    Text,
}

/// Starts logging; levels come from `RUST_LOG`, else `info`.
///
/// # Errors
/// When logging was started before, or `RUST_LOG` can't be understood.
pub fn start(format: LogFormat) -> anyhow::Result<()> {
    start_at(format, "info")
}

/// Starts logging; levels come from `RUST_LOG`, else as is said here.
///
/// # Errors
/// When logging was started before, or `RUST_LOG` can't be understood.
pub fn start_at(format: LogFormat, level: &str) -> anyhow::Result<()> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(levels) => EnvFilter::try_new(&levels)
            .map_err(|error| anyhow::anyhow!("failed to understand RUST_LOG={levels:?}: {error}"))?,
        // kube's watchers say at length what whoever uses them logs as well.
        Err(_) => EnvFilter::new(format!("{level},kube_runtime=error")),
    };
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
        LogFormat::Text => lines.with_ansi(false).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))
}
