//! The agent's flags.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use policy::platform::PlatformPolicy;
use runtime::args::{CommonArgs, PolicyFileArg};
use runtime::logs::LogFormat;

/// Kills Pods in namespaces whose owners opted in, and measures how long their workloads take to
/// recover.
#[derive(Debug, Parser)]
#[command(name = "agent", version, arg_required_else_help = true)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What the agent can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Do rounds by the schedule of each namespace, until SIGTERM
    Run(RunArgs),
    /// Do one round in each namespace where one is due, and exit
    Once(OnceArgs),
    /// Show which Pods of a namespace could be killed now, and why the others can't be. This
    /// command changes nothing
    Explain(ExplainArgs),
    /// Print the rights that the agent needs for `workloads` and for the checks with `http` of a
    /// platform's policy, as a patch for ClusterRole pure-chaos-agent
    PrintRole(PrintRoleArgs),
}

/// The flags of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Flags of every part
    #[command(flatten)]
    pub common: CommonArgs,
    /// The platform's policy
    #[command(flatten)]
    pub policy: PolicyFileArg,
}

/// The flags of `once`.
#[derive(Debug, clap::Args)]
pub struct OnceArgs {
    /// Do a round only in this namespace. By default, in all namespaces that opted in
    #[arg(long, short, env = "PURE_CHAOS_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,

    /// Wait until the workloads have recovered, for at most their `recovery-deadline`. The exit
    /// code is 1 if a workload misses its deadline
    #[arg(long, env = "PURE_CHAOS_WAIT")]
    pub wait: bool,

    /// Do a round even if none is due by the namespace's own `schedule`
    #[arg(long, env = "PURE_CHAOS_NOW")]
    pub now: bool,

    /// Do everything but the kill, by the API server's dry run, even if a namespace's `dry-run` is
    /// `false`
    #[arg(long, env = "PURE_CHAOS_DRY_RUN")]
    pub dry_run: bool,

    /// Format of the output. `text` prints a line for each kill, refusal and recovery. `json`
    /// prints log lines
    #[arg(long, env = "PURE_CHAOS_LOG_FORMAT", default_value = "text", value_enum, value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Kubeconfig file whose current context names the cluster and the account. By default, the
    /// files in KUBECONFIG, else ~/.kube/config, else the Pod's ServiceAccount. The account must be
    /// one of namespace pure-chaos
    #[arg(long, env = "PURE_CHAOS_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// File with the platform's policy. By default, the policy that is installed in the cluster
    #[arg(long, env = "PURE_CHAOS_POLICY_FILE", value_name = "FILE")]
    pub policy_file: Option<PathBuf>,
}

/// The flags of `explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// Namespace to explain
    pub namespace: String,

    /// Format of the output
    #[arg(long, short, env = "PURE_CHAOS_OUTPUT", default_value = "text", value_enum, value_name = "FORMAT")]
    pub output: Output,

    /// Kubeconfig file whose current context names the cluster and the account. By default, the
    /// files in KUBECONFIG, else ~/.kube/config, else the Pod's ServiceAccount
    #[arg(long, env = "PURE_CHAOS_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// File with the platform's policy. Without this flag, the command knows the ceilings only from
    /// the record, and not the platform's `except`
    #[arg(long, env = "PURE_CHAOS_POLICY_FILE", value_name = "FILE")]
    pub policy_file: Option<PathBuf>,
}

/// The flags of `print-role`.
#[derive(Debug, clap::Args)]
pub struct PrintRoleArgs {
    /// File with the platform's policy
    #[arg(long, env = "PURE_CHAOS_POLICY_FILE", value_name = "FILE")]
    pub policy_file: PathBuf,
}

/// Format of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Readable text for a terminal
    Text,
    /// JSON for programs
    Json,
}

/// Reads the platform's policy from the file. Without a file, the built-in policy is used.
///
/// # Errors
/// When the file can't be read or parsed.
pub fn read_policy(PolicyFileArg { policy_file }: &PolicyFileArg) -> anyhow::Result<PlatformPolicy> {
    policy_file.as_deref().map_or_else(|| Ok(PlatformPolicy::built_in()), read_policy_file)
}

/// Reads the platform's policy from this file.
///
/// # Errors
/// When the file can't be read or parsed.
pub fn read_policy_file(file: &Path) -> anyhow::Result<PlatformPolicy> {
    let yaml = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    PlatformPolicy::parse(&yaml).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["agent"].iter().chain(line))
    }

    #[test]
    fn the_commands_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn wrong_usage_exits_2() {
        for line in [
            &[][..],
            &["kill"],
            &["run", "--metrics-address", "9090"],
            &["run", "--log-format", "xml"],
            &["run", "learning-place"],
            &["once", "--dry-run=maybe"],
            &["once", "--wait", "5m"],
            &["once", "learning-place"],
            &["explain"],
            &["explain", "a", "b"],
            &["explain", "a", "-o", "yaml"],
            &["print-role"],
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
        for line in [&["--version"][..], &["once", "--help"]] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 0, "{line:?}");
        }
    }

    #[test]
    fn a_policy_file_that_is_not_there_is_named() {
        let file = PolicyFileArg { policy_file: Some("/nonexistent/policy.yaml".into()) };
        let error = read_policy(&file).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/policy.yaml"), "{error:#}");
    }
}
