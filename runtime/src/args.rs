//! The flags that every part has.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::logs::LogFormat;

/// Flags common to all parts; each has an environment variable `PURE_CHAOS_…`.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonArgs {
    /// Address that serves `/metrics`, `/livez` and `/readyz` over plain HTTP. The agent also
    /// serves its status page there
    #[arg(long, env = "PURE_CHAOS_METRICS_ADDRESS", default_value = "[::]:9090", value_name = "ADDRESS")]
    pub metrics_address: SocketAddr,

    /// Format of the log lines. The environment variable RUST_LOG sets the levels
    #[arg(long, env = "PURE_CHAOS_LOG_FORMAT", default_value = "json", value_enum, value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Kubeconfig file whose current context names the cluster. By default, the cluster that the
    /// Pod runs in
    #[arg(long, env = "PURE_CHAOS_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// The platform's policy file, for the parts that obey it.
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyFileArg {
    /// File with the platform's policy: defaults, ceilings and protected namespaces. By default,
    /// the built-in policy
    #[arg(long, env = "PURE_CHAOS_POLICY_FILE", value_name = "FILE")]
    pub policy_file: Option<PathBuf>,
}
