//! Log lines on standard error, as JSON or as text for a terminal.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Format of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line
    Json,
    /// Readable text for a terminal
    Text,
}

/// Starts logging. `RUST_LOG` sets the levels, and the default is `info`.
///
/// # Errors
/// Returns an error if logging was started before, or if `RUST_LOG` is not understood.
pub fn start(format: LogFormat) -> anyhow::Result<()> {
    start_at(format, "info")
}

/// Starts logging. `RUST_LOG` sets the levels, and the default is `level`.
///
/// # Errors
/// Returns an error if logging was started before, or if `RUST_LOG` is not understood.
pub fn start_at(format: LogFormat, level: &str) -> anyhow::Result<()> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(levels) => EnvFilter::try_new(&levels)
            .map_err(|error| anyhow::anyhow!("failed to understand RUST_LOG={levels:?}: {error}"))?,
        // The code that uses kube's watchers logs their errors, so the watchers' own long lines are
        // left out.
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
