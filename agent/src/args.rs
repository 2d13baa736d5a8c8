//! The agent's flags.

use std::path::PathBuf;

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
    /// Serve every namespace's schedule until ended by a signal
    Run(RunArgs),
    /// Do one round in each namespace where one is due, and end
    Once(OnceArgs),
    /// Say what would be killed in a namespace now, and why the rest is not; it changes nothing
    Explain(ExplainArgs),
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
    /// Only this namespace; without it, all that opted in
    #[arg(long, short, env = "PURE_CHAOS_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,

    /// Wait until the workloads have recovered, at most for their `recovery-deadline`; exit code 1
    /// if one did not
    #[arg(long, env = "PURE_CHAOS_WAIT")]
    pub wait: bool,

    /// Do a round also where none is due by the namespace's own `schedule`
    #[arg(long, env = "PURE_CHAOS_NOW")]
    pub now: bool,

    /// Do everything but the effect, through the API server's dry run, whatever the namespaces' own
    /// `dry-run`
    #[arg(long, env = "PURE_CHAOS_DRY_RUN")]
    pub dry_run: bool,

    /// Form of the output: lines for people, or log lines for programs
    #[arg(long, env = "PURE_CHAOS_LOG_FORMAT", default_value = "text", value_enum, value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Talk to the cluster of this kubeconfig's current context; without it, those of KUBECONFIG,
    /// of ~/.kube/config, or of the Pod
    #[arg(long, env = "PURE_CHAOS_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The platform's policy; without it, the one that is installed
    #[command(flatten)]
    pub policy: PolicyFileArg,
}

/// The flags of `explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The namespace to explain
    pub namespace: String,

    /// Form of the output
    #[arg(long, short, env = "PURE_CHAOS_OUTPUT", default_value = "text", value_enum, value_name = "FORMAT")]
    pub output: Output,

    /// Ask with the rights of this kubeconfig's current context; without it, those of KUBECONFIG,
    /// of ~/.kube/config, or of the Pod
    #[arg(long, env = "PURE_CHAOS_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The platform's policy; without it, ceilings are known only from the record
    #[command(flatten)]
    pub policy: PolicyFileArg,
}

/// Form of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For reading in a terminal
    Text,
    /// For programs
    Json,
}

/// Reads the platform's policy from the file. Without a file, the built-in policy is used.
///
/// # Errors
/// When the file can't be read or parsed.
pub fn read_policy(PolicyFileArg { policy_file }: &PolicyFileArg) -> anyhow::Result<PlatformPolicy> {
    match policy_file {
        Some(file) => {
            let yaml = std::fs::read_to_string(file)
                .with_context(|| format!("failed to read {}", file.display()))?;
            PlatformPolicy::parse(&yaml).with_context(|| file.display().to_string())
        }
        None => Ok(PlatformPolicy::built_in()),
    }
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
