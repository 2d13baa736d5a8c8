//! The plugin's flags.

use std::path::PathBuf;
use std::time::Duration;

use agent::args::Output;
use clap::{Parser, Subcommand, ValueEnum};

use crate::flags::SettingFlags;

/// Opts namespaces in and out of chaos, and shows what happens there. This plugin has only your own
/// rights, and prints the kubectl command for each change.
#[derive(Debug, Parser)]
#[command(name = "kubectl-chaos", bin_name = "kubectl chaos", version, arg_required_else_help = true)]
pub struct Args {
    /// Which cluster, and as whom
    #[command(flatten)]
    pub target: Target,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster, namespace and user, as kubectl has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Target {
    /// Kubeconfig file to use. By default, the files in KUBECONFIG, else ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig to use. By default, its current context
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub context: Option<String>,

    /// Namespace to use, if you name none as an argument
    #[arg(long, short, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// What the plugin can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Opt a namespace in, or change its settings. Settings that you don't name stay as they are
    On(OnArgs),
    /// Opt a namespace out, and remove its settings. A halt stays
    Off(ChangeArgs),
    /// Show the records of the namespaces that opted in, with the countdown to the next round and
    /// the reason if nothing is killed
    Status(StatusArgs),
    /// Show which Pods of a namespace could be killed now, and why the others can't be
    Explain(ExplainArgs),
    /// Ask for one more round in a namespace, in about ten seconds, and show its result
    Now(NowArgs),
    /// Stop all kills in a namespace, or in the whole cluster if you name no namespace
    Halt(HaltArgs),
    /// End the halt of a namespace, or of the whole cluster if you name no namespace
    Resume(ChangeArgs),
    /// Print a completion script
    Completion {
        /// Shell that runs the script. `kubectl` prints the script kubectl_complete-chaos, which
        /// kubectl's own completion calls
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Complete a line, for kubectl
    #[command(name = "__complete", hide = true)]
    Complete {
        /// The words after `kubectl chaos`, the last of them unfinished
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// Where a change is made, and whether it is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ChangeArgs {
    /// The namespace
    #[arg(value_name = "NAMESPACE")]
    pub name: Option<String>,

    /// Ask the API server whether it would allow the change, and change nothing
    #[arg(long)]
    pub server_dry_run: bool,
}

/// The flags of `on`.
#[derive(Debug, clap::Args)]
pub struct OnArgs {
    /// Where
    #[command(flatten)]
    pub change: ChangeArgs,
    /// The settings
    #[command(flatten)]
    pub settings: SettingFlags,
}

/// The flags of `halt`.
#[derive(Debug, clap::Args)]
pub struct HaltArgs {
    /// Where
    #[command(flatten)]
    pub change: ChangeArgs,

    /// Text that says why kills are halted. By default, the text says who set the halt, and when
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// The flags of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Show the records of all namespaces, and ignore --namespace
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,

    /// Format of the output
    #[arg(long, short, default_value = "text", value_enum, value_name = "FORMAT")]
    pub output: Output,
}

/// The flags of `explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The namespace
    #[arg(value_name = "NAMESPACE")]
    pub name: Option<String>,

    /// Format of the output
    #[arg(long, short, default_value = "text", value_enum, value_name = "FORMAT")]
    pub output: Output,
}

/// The flags of `now`.
#[derive(Debug, clap::Args)]
pub struct NowArgs {
    /// The namespace
    #[arg(value_name = "NAMESPACE")]
    pub name: Option<String>,

    /// How long to wait for the round after its slot
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub timeout: Duration,
}

/// What completion is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash, for `kubectl-chaos`
    Bash,
    /// zsh, for `kubectl-chaos`
    Zsh,
    /// Any shell with kubectl's own completion, for `kubectl chaos`
    Kubectl,
}

fn duration(text: &str) -> Result<Duration, String> {
    policy::durations::parse(text).ok_or_else(|| format!("expected {}", policy::durations::EXPECTED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["kubectl-chaos"].iter().chain(line))
    }

    #[test]
    fn the_commands_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn help_shows_what_people_type() {
        let help = parse(&["on", "--help"]).unwrap_err();
        assert_eq!(help.exit_code(), 0);
        let help = help.to_string();
        assert!(help.contains("Usage: kubectl chaos on ") && help.contains("--schedule <VALUE>"), "{help}");
    }

    #[test]
    fn wrong_usage_exits_2() {
        for line in [
            &[][..],
            &["kill"],
            &["on", "a", "b"],
            &["on", "a", "--shedule", "every 10m"],
            &["on", "a", "--limit"],
            &["halt", "a", "--reason"],
            &["status", "-o", "yaml"],
            &["now", "a", "--timeout", "soon"],
            &["completion", "fish"],
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }

    #[test]
    fn settings_and_the_target_are_read_in_any_place() {
        let args = parse(&["on", "--dry-run", "a", "--limit=2", "--context", "c"]).unwrap();
        assert_eq!(args.target.context.as_deref(), Some("c"));
        let Command::On(OnArgs { change, settings }) = args.command else { panic!("not `on`") };
        assert_eq!(change.name.as_deref(), Some("a"));
        let pairs: Vec<_> = settings.0.into_iter().collect();
        let expected = [("purechaos.dev/dry-run", "true"), ("purechaos.dev/limit", "2")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
