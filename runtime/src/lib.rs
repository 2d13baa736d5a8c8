//! What the agent, the webhook, `certs` and the plugin share. Nothing in this crate decides about
//! chaos.
//!
//! - [`process`], [`args`], [`logs`] and [`output`]: the start and the end of a process, its flags,
//!   its log lines and its standard output.
//! - [`clock`]: the only code that reads the clocks.
//! - [`client`] and [`watch_clients`]: the Kubernetes client, with a time limit for each call.
//! - [`outside`]: a client for an HTTPS server outside the cluster.
//! - [`http`], [`connections`] and [`admin`]: the HTTP server with its limits, and the admin
//!   server.
//! - [`events`] and [`metrics`]: Kubernetes Events, and the metrics that every process has.
//! - [`text`]: cuts texts to a size.

pub mod admin;
pub mod args;
pub mod client;
pub mod clock;
pub mod connections;
pub mod events;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod output;
pub mod outside;
pub mod process;
pub mod text;
pub mod watch_clients;

/// The version of this build, from the workspace's `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit of this build, from the environment variable `PURE_CHAOS_REVISION` that the image
/// sets. Without the variable, the commit is `unknown`.
///
/// The process reads the variable at run time, so that a commit that changes no code needs no new
/// build.
#[must_use]
pub fn revision() -> String {
    std::env::var("PURE_CHAOS_REVISION").unwrap_or_else(|_| "unknown".to_owned())
}
