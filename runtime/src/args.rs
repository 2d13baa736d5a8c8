//! The flags that every part has.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::logs::LogFormat;

/// Flags common to all parts; each has an environment variable `PURE_CHAOS_…`.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonArgs {
    /// Where `/metrics`, `/livez` and `/readyz` are served, over plain HTTP
    #[arg(long, env = "PURE_CHAOS_METRICS_ADDRESS", default_value = "[::]:9090", value_name = "ADDRESS")]
    pub metrics_address: SocketAddr,

    /// Form of the log lines
    #[arg(long, env = "PURE_CHAOS_LOG_FORMAT", default_value = "json", value_enum, value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Talk to the cluster of this kubeconfig's current context; without it, to the cluster this
    /// Pod runs in
    #[arg(long, env = "PURE_CHAOS_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// The platform's policy file, for the parts that obey it.
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyFileArg {
    /// The platform's policy: defaults, ceilings, protected namespaces; without it, the built-in
    /// ones
    #[arg(long, env = "PURE_CHAOS_POLICY_FILE", value_name = "FILE")]
    pub policy_file: Option<PathBuf>,
}
