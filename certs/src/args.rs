//! The command line, as it is typed; [`Config`] is what it means once checked.

use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use policy::durations;
use runtime::args::CommonArgs;

use crate::plan::Policy;

/// Makes and rotates the webhook's CA and serving certificate, and keeps the CA known to the API server
#[derive(Debug, Clone, Parser)]
#[command(name = "certs", version)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Keep the certificates right, until SIGTERM
    Run(RunArgs),
}

/// The flags of `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// What all parts have.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Namespace of the Secrets and of the webhook's Service
    #[arg(long, env = "PURE_CHAOS_NAMESPACE", default_value = "pure-chaos", value_name = "NAME")]
    pub namespace: String,

    /// The webhook's Service, which the serving certificate is for
    #[arg(long, env = "PURE_CHAOS_SERVICE", default_value = "webhook", value_name = "NAME")]
    pub service: String,

    /// The ValidatingWebhookConfiguration that the bundle is injected into
    #[arg(long, env = "PURE_CHAOS_WEBHOOK_CONFIGURATION", default_value = "pure-chaos", value_name = "NAME")]
    pub webhook_configuration: String,

    // A year, as cert-manager's own CA: rotation is tried, not feared.
    /// How long a CA lives; at most 366d
    #[arg(long, env = "PURE_CHAOS_CA_LIFETIME", default_value = "365d", value_name = "DURATION", value_parser = duration)]
    pub ca_lifetime: Duration,

    // Long enough for certs to be away for weeks, short enough that each installation sees renewals.
    /// How long a serving certificate lives, at most as long as its CA
    #[arg(long, env = "PURE_CHAOS_SERVING_LIFETIME", default_value = "30d", value_name = "DURATION", value_parser = duration)]
    pub serving_lifetime: Duration,

    /// How long before its end a certificate is renewed
    #[arg(long, env = "PURE_CHAOS_LOOKAHEAD", default_value = "10d", value_name = "DURATION", value_parser = duration)]
    pub lookahead: Duration,

    // A mounted Secret takes up to about a minute to arrive, an API server's watch much less; twice that.
    /// How long a new CA is in the bundle before what it signed is served
    #[arg(long, env = "PURE_CHAOS_SETTLE", default_value = "2m", value_name = "DURATION", value_parser = duration)]
    pub settle: Duration,

    /// How often everything is compared and put right
    #[arg(long, env = "PURE_CHAOS_INTERVAL", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub interval: Duration,
}

/// The flags of `run`, checked against each other.
#[derive(Debug, Clone)]
pub struct Config {
    /// What all parts have.
    pub common: CommonArgs,
    /// Namespace of the Secrets.
    pub namespace: String,
    /// The webhook's Service.
    pub service: String,
    /// The ValidatingWebhookConfiguration's name.
    pub webhook_configuration: String,
    /// How certificates live and are changed.
    pub policy: Policy,
    /// Time between two ticks.
    pub interval: Duration,
}

impl RunArgs {
    /// Checks the durations against each other.
    ///
    /// # Errors
    /// Wrong usage: a combination with which a certificate would end before its successor is served.
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
        } = self;
        let wrong = |message: &str| Err(Args::command().error(ErrorKind::ValueValidation, message));
        if serving_lifetime > ca_lifetime {
            return wrong("--serving-lifetime is longer than --ca-lifetime: make it at most as long");
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
        let name = format!("{service}.{namespace}.svc");
        let policy = Policy { name, ca_lifetime, serving_lifetime, lookahead, settle };
        Ok(Config { common, namespace, service, webhook_configuration, policy, interval })
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
        ] {
            let error = check(flags).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{flags:?}");
            assert!(error.to_string().contains(expected), "{flags:?}: {error}");
        }
        assert_eq!(Args::try_parse_from(["certs"]).unwrap_err().exit_code(), 2);
        assert_eq!(Args::try_parse_from(["certs", "--version"]).unwrap_err().exit_code(), 0);
    }
}
