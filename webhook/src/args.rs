//! The command line, as it is typed; [`Config`] is what it means once checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use policy::durations;
use policy::platform::PlatformPolicy;
use runtime::args::{CommonArgs, PolicyFileArg};

/// Guards the opt-in to chaos at admission, locks Pure Chaos's own kills, and keeps the records of who opted in
#[derive(Debug, Clone, Parser)]
#[command(name = "webhook", version)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve admission reviews and keep the records, until SIGTERM
    Run(RunArgs),
}

/// The flags of `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// What all parts have.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The platform's policy.
    #[command(flatten)]
    pub policy: PolicyFileArg,

    /// Where admission reviews are served, over HTTPS
    #[arg(long, env = "PURE_CHAOS_ADDRESS", default_value = "0.0.0.0:8443", value_name = "ADDRESS")]
    pub address: SocketAddr,

    /// Directory of `tls.crt` and `tls.key`, as a Secret is mounted; what is put there later is served without a restart
    #[arg(
        long,
        env = "PURE_CHAOS_CERTIFICATE_DIRECTORY",
        default_value = "/etc/webhook/tls",
        value_name = "DIRECTORY"
    )]
    pub certificate_directory: PathBuf,

    /// How long reviews are still answered after SIGTERM, because the API server goes on sending them for a while
    #[arg(long, env = "PURE_CHAOS_DRAIN", default_value = "8s", value_name = "DURATION", value_parser = drain)]
    pub drain: Duration,

    /// ServiceAccounts of namespace pure-chaos that get the agent's rights where a namespace opted in, joined with commas
    #[arg(long, env = "PURE_CHAOS_AGENT_ACCOUNTS", default_value = "agent", value_name = "NAMES", value_delimiter = ',', value_parser = account)]
    pub agent_accounts: Vec<String>,
}

/// The flags of `run`, checked: the policy file is read.
#[derive(Debug, Clone)]
pub struct Config {
    /// What all parts have.
    pub common: CommonArgs,
    /// The platform's policy.
    pub policy: PlatformPolicy,
    /// Where admission reviews are served.
    pub address: SocketAddr,
    /// Where the serving certificate is mounted.
    pub certificate_directory: PathBuf,
    /// How long to serve after the end was asked for.
    pub drain: Duration,
    /// Who gets the agent's rights.
    pub agent_accounts: Vec<String>,
}

impl RunArgs {
    /// Reads the policy file.
    ///
    /// # Errors
    /// When it can't be read or isn't understood, with the place.
    pub fn check(self) -> anyhow::Result<Config> {
        let Self { common, policy, address, certificate_directory, drain, agent_accounts } = self;
        let policy = match policy.policy_file {
            None => PlatformPolicy::built_in(),
            Some(file) => {
                let yaml = std::fs::read_to_string(&file)
                    .with_context(|| format!("failed to read the policy file {}", file.display()))?;
                PlatformPolicy::parse(&yaml).with_context(|| format!("in {}", file.display()))?
            }
        };
        Ok(Config { common, policy, address, certificate_directory, drain, agent_accounts })
    }
}

/// Longer than Kubernetes lets a Pod live after SIGTERM by default makes no sense.
const LONGEST_DRAIN: Duration = Duration::from_secs(60);

fn drain(text: &str) -> Result<Duration, String> {
    let duration = if text == "0s" { Some(Duration::ZERO) } else { durations::parse(text) };
    duration
        .filter(|duration| *duration <= LONGEST_DRAIN)
        .ok_or_else(|| "expected a duration of at most 60s, such as `8s`".to_owned())
}

/// A ServiceAccount's name is a DNS subdomain.
fn account(text: &str) -> Result<String, String> {
    let is_part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        part.bytes().all(inner) && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    let is_name = text.len() <= 253 && text.split('.').all(is_part);
    is_name
        .then(|| text.to_owned())
        .ok_or_else(|| "expected names of ServiceAccounts, such as `agent,default`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(flags: &[&str]) -> Result<RunArgs, clap::Error> {
        let Args { command: Command::Run(args) } =
            Args::try_parse_from(["webhook", "run"].iter().chain(flags).copied())?;
        Ok(args)
    }

    #[test]
    fn the_command_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let config = run(&[]).unwrap().check().unwrap();
        assert_eq!(config.address.to_string(), "0.0.0.0:8443");
        assert_eq!(config.certificate_directory.to_str(), Some("/etc/webhook/tls"));
        assert_eq!(config.drain, Duration::from_secs(8));
        assert_eq!(config.agent_accounts, ["agent"]);
        assert_eq!(config.policy, PlatformPolicy::built_in());
    }

    #[test]
    fn wrong_usage_exits_2() {
        for flags in [
            &["--drain", "soon"][..],
            &["--drain", "2m"],
            &["--address", "8443"],
            &["--port", "1"],
            &["--agent-accounts", ""],
            &["--agent-accounts", "agent,Default"],
        ] {
            assert_eq!(run(flags).unwrap_err().exit_code(), 2, "{flags:?}");
        }
        assert_eq!(Args::try_parse_from(["webhook"]).unwrap_err().exit_code(), 2);
        assert_eq!(Args::try_parse_from(["webhook", "--version"]).unwrap_err().exit_code(), 0);
        assert_eq!(run(&["--drain", "0s"]).unwrap().drain, Duration::ZERO);
        assert_eq!(run(&["--agent-accounts", "agent,default"]).unwrap().agent_accounts, ["agent", "default"]);
    }

    #[test]
    fn a_bad_policy_file_is_refused_with_line_and_reason() {
        let file = std::env::temp_dir().join(format!("webhook-policy-{}.yaml", std::process::id()));
        std::fs::write(&file, "defaults:\n  limit: 1\n  speed: 3\n").unwrap();
        let error =
            format!("{:#}", run(&["--policy-file", file.to_str().unwrap()]).unwrap().check().unwrap_err());
        std::fs::remove_file(&file).unwrap();
        assert!(error.contains("line 3") && error.contains("speed"), "{error}");
        let missing = run(&["--policy-file", "/nonexistent"]).unwrap().check().unwrap_err();
        assert!(missing.to_string().contains("/nonexistent"));
    }
}
