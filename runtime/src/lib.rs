//! What the three processes share, and nothing that decides anything: flags, logs, the clock, the Kubernetes client
//! with its time limit, the admin server and the orderly end.

pub mod admin;
pub mod args;
pub mod client;
pub mod clock;
pub mod logs;
pub mod metrics;
pub mod process;

/// The version of this build, as in the workspace's Cargo.toml.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit of this build, where the build was told it (`PURE_CHAOS_REVISION`), else `unknown`.
pub const REVISION: &str = match option_env!("PURE_CHAOS_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
