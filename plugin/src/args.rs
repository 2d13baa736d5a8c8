//! The plugin's flags.

use std::path::PathBuf;
use std::time::Duration;

use agent::args::Output;
use clap::{Parser, Subcommand, ValueEnum};

use crate::flags::SettingFlags;

/// Opts namespaces in and out of chaos, and says what happens there. It can do what you can do with
/// kubectl and no more, and prints the kubectl command for each change.
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
    /// The kubeconfig; without it, those of KUBECONFIG, or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The kubeconfig's context; without it, its current one
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub context: Option<String>,

    /// The namespace, where none is named otherwise
    #[arg(long, short, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// What the plugin can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Opt a namespace in, or change its settings; those that aren't named stay as they are
    On(OnArgs),
    /// Opt a namespace out, and remove its settings; a halt stays
    Off(ChangeArgs),
    /// Show the records of the namespaces that opted in, with the countdown to the next round and
    /// the reason where nothing is killed
    Status(StatusArgs),
    /// Say what would be killed in a namespace now, and why the rest is not
    Explain(ExplainArgs),
    /// Ask for one round more in a namespace, in about ten seconds, and say what came of it
    Now(NowArgs),
    /// Stop all kills in a namespace, or everywhere where none is named
    Halt(HaltArgs),
    /// End the halt of a namespace, or the one of everything where none is named
    Resume(ChangeArgs),
    /// Print a completion script
    Completion {
        /// For which shell; `kubectl` is the script kubectl_complete-chaos, by which kubectl's own
        /// completion asks
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

    /// Ask the API server, and change nothing
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

    /// Why, for whoever wonders; without it, who halts and when
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// The flags of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Of all namespaces, whatever --namespace says
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,

    /// Form of the output
    #[arg(long, short, default_value = "text", value_enum, value_name = "FORMAT")]
    pub output: Output,
}

/// The flags of `explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The namespace
    #[arg(value_name = "NAMESPACE")]
    pub name: Option<String>,

    /// Form of the output
    #[arg(long, short, default_value = "text", value_enum, value_name = "FORMAT")]
    pub output: Output,
}

/// The flags of `now`.
#[derive(Debug, clap::Args)]
pub struct NowArgs {
    /// The namespace
    #[arg(value_name = "NAMESPACE")]
    pub name: Option<String>,

    /// How long after its slot to wait for the round
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
