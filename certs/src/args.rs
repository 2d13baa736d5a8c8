//! The command line as you type it. [`Config`] is the checked form.

use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use policy::durations;
use runtime::args::CommonArgs;

use crate::rotation::plan::Policy;

/// Issues and rotates the webhook's certificates and its secret path, and injects both into the
/// webhook configuration
#[derive(Debug, Clone, Parser)]
#[command(name = "certs", version)]
pub struct Args {
    /// The subcommand to run
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands of `certs`.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Issue, rotate and repair the certificates and the secret path, until SIGTERM
    Run(RunArgs),
}

/// The flags of `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The flags that agent, webhook and `certs` have in common.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Namespace of the Secrets and of the webhook's Service
    #[arg(long, env = "PURE_CHAOS_NAMESPACE", default_value = "pure-chaos", value_name = "NAME")]
    pub namespace: String,

    /// Name of the webhook's Service. The serving certificate is valid for its DNS name
    #[arg(long, env = "PURE_CHAOS_SERVICE", default_value = "webhook", value_name = "NAME")]
    pub service: String,

    /// Name of the ValidatingWebhookConfiguration into which certs injects the bundle and the path
    #[arg(long, env = "PURE_CHAOS_WEBHOOK_CONFIGURATION", default_value = "pure-chaos", value_name = "NAME")]
    pub webhook_configuration: String,

    // One year, as for the CA that cert-manager makes for its own webhook. So a change of CA is a
    // routine, not a rare risk.
    /// How long a CA is valid; at most 366d
    #[arg(long, env = "PURE_CHAOS_CA_LIFETIME", default_value = "365d", value_name = "DURATION", value_parser = duration)]
    pub ca_lifetime: Duration,

    // `certs` can be away for weeks, and still each installation sees renewals.
    /// How long a serving certificate is valid; at most as long as its CA
    #[arg(long, env = "PURE_CHAOS_SERVING_LIFETIME", default_value = "30d", value_name = "DURATION", value_parser = duration)]
    pub serving_lifetime: Duration,

    /// How long before its end a certificate is renewed; shorter than --serving-lifetime
    #[arg(long, env = "PURE_CHAOS_LOOKAHEAD", default_value = "10d", value_name = "DURATION", value_parser = duration)]
    pub lookahead: Duration,

    // A mounted Secret takes up to about a minute to arrive, and an API server's watch takes much
    // less. The default is twice that minute.
    /// How long a new CA is in the bundle before a certificate that it signed is served. The sum of
    /// this and --interval must be shorter than --lookahead
    #[arg(long, env = "PURE_CHAOS_SETTLE", default_value = "2m", value_name = "DURATION", value_parser = duration)]
    pub settle: Duration,

    /// How often certs checks the certificates and the path, and repairs them
    #[arg(long, env = "PURE_CHAOS_INTERVAL", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub interval: Duration,

    // A user who sees a call fail sees the path, so the path must change often. Each change is one
    // small write. Each change also costs an API server that calls the new path a few kilobytes: up
    // to Kubernetes 1.34, an API server keeps the transport of every path that it ever called, and
    // later versions keep the last 200.
    /// How often the secret path is rotated; at most 30m
    #[arg(long, env = "PURE_CHAOS_PATH_PERIOD", default_value = "10m", value_name = "DURATION", value_parser = duration)]
    pub path_period: Duration,

    /// Manage only the secret path, because another program issues the certificates
    #[arg(long, env = "PURE_CHAOS_ONLY_PATH")]
    pub only_path: bool,
}

/// The flags of `run`, checked against each other.
#[derive(Debug, Clone)]
pub struct Config {
    /// The flags that agent, webhook and `certs` have in common.
    pub common: CommonArgs,
    /// Namespace of the Secrets and of the webhook's Service.
    pub namespace: String,
    /// Name of the webhook's Service.
    pub service: String,
    /// Name of the ValidatingWebhookConfiguration.
    pub webhook_configuration: String,
    /// How long certificates are valid, and how they are replaced.
    pub policy: Policy,
    /// Time between two ticks.
    pub interval: Duration,
    /// How often the secret path is renewed.
    pub path_period: Duration,
    /// Whether something else issues the certificates.
    pub only_path: bool,
}

/// The longest `--path-period`. The webhook accepts a path for an hour, so `certs` can then be away
/// for half an hour.
const LONGEST_PATH_PERIOD: Duration = Duration::from_secs(1_800);

impl RunArgs {
    /// Checks the durations against each other.
    ///
    /// # Errors
    /// Returns a usage error for a combination with which a certificate or a path would end before
    /// its successor is in use.
    pub fn check(self) -> Result<Config, clap::Error> {
        let Self {
            common,
            namespace,
            service,
            webhook_configuration,
            ca_lifetime,
            serving_lifetime,
            lookahead,
            settle,
            interval,
            path_period,
            only_path,
        } = self;
        let wrong = |message: &str| Err(Args::command().error(ErrorKind::ValueValidation, message));
        if serving_lifetime > ca_lifetime {
            return wrong("--serving-lifetime must not be longer than --ca-lifetime");
        }
        if lookahead >= serving_lifetime {
            return wrong(
                "--lookahead is not shorter than --serving-lifetime: every certificate would be renewed at once",
            );
        }
        if settle.saturating_add(interval) >= lookahead {
            return wrong(
                "--settle and --interval together are not shorter than --lookahead: a rotation would come too late",
            );
        }
        if path_period > LONGEST_PATH_PERIOD {
            return wrong(
                "--path-period is longer than 30m: the webhook would refuse the API server when certs is away",
            );
        }
        let name = format!("{service}.{namespace}.svc");
        let policy = Policy { name, ca_lifetime, serving_lifetime, lookahead, settle };
        Ok(Config {
            common,
            namespace,
            service,
            webhook_configuration,
            policy,
            interval,
            path_period,
            only_path,
        })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    durations::parse(text)
        .ok_or_else(|| "expected a duration of 1s to 366d, such as `10s`, `24h` or `90d`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flags: &[&str]) -> Result<Config, clap::Error> {
        let Args { command: Command::Run(args) } =
            Args::try_parse_from(["certs", "run"].iter().chain(flags).copied())?;
        args.check()
    }

    #[test]
    fn the_command_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let Config { policy, interval, namespace, webhook_configuration, .. } = check(&[]).unwrap();
        assert_eq!(policy.name, "webhook.pure-chaos.svc");
        assert_eq!(policy.settle, Duration::from_secs(120));
        assert_eq!(interval, Duration::from_secs(10));
        assert_eq!((namespace.as_str(), webhook_configuration.as_str()), ("pure-chaos", "pure-chaos"));
    }

    #[test]
    fn seconds_will_do_for_tests() {
        let seconds = [
            "--ca-lifetime=60s",
            "--serving-lifetime=30s",
            "--lookahead=10s",
            "--settle=3s",
            "--interval=1s",
        ];
        assert_eq!(check(&seconds).unwrap().policy.ca_lifetime, Duration::from_secs(60));
    }

    #[test]
    fn wrong_usage_exits_2_and_says_what_to_do() {
        for (flags, expected) in [
            (&["--interval", "0s"][..], "expected a duration"),
            (&["--settle", "soon"], "expected a duration"),
            (&["--serving-lifetime", "366d"], "--ca-lifetime"),
            (&["--lookahead", "30d"], "--serving-lifetime"),
            (&["--settle", "10d"], "--lookahead"),
            (&["--lookahead", "2m10s"], "--lookahead"),
            (&["--validity", "1d"], "--validity"),
            (&["--path-period", "31m"], "--path-period"),
        ] {
            let error = check(flags).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{flags:?}");
            assert!(error.to_string().contains(expected), "{flags:?}: {error}");
        }
        assert_eq!(Args::try_parse_from(["certs"]).unwrap_err().exit_code(), 2);
        assert_eq!(Args::try_parse_from(["certs", "--version"]).unwrap_err().exit_code(), 0);
    }
}
