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

/// The commit of this build, as the image says (`PURE_CHAOS_REVISION`), else `unknown`. Read at run time, so that a commit without a
/// change of the code needs no new build.
#[must_use]
pub fn revision() -> String {
    std::env::var("PURE_CHAOS_REVISION").unwrap_or_else(|_| "unknown".to_owned())
}
