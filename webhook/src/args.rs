//! The command line as you type it. [`Config`] is the checked form.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand};
use policy::durations;
use policy::platform::PlatformPolicy;
use runtime::args::{CommonArgs, PolicyFileArg};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Reviews opt-ins and kills at admission, and keeps a record of each opt-in
#[derive(Debug, Clone, Parser)]
#[command(name = "webhook", version)]
pub struct Args {
    /// The subcommand to run
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands of `webhook`.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve admission reviews and keep the records, until SIGTERM
    Run(RunArgs),
}

/// The flags of `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The flags that agent, webhook and `certs` have in common.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The flag for the platform's policy.
    #[command(flatten)]
    pub policy: PolicyFileArg,

    /// Address that serves admission reviews to the API server over HTTPS
    #[arg(long, env = "PURE_CHAOS_ADDRESS", default_value = "[::]:8443", value_name = "ADDRESS")]
    pub address: SocketAddr,

    /// Directory with `tls.crt`, `tls.key` and `path-keys`, mounted from Secrets. The webhook loads
    /// changed files without a restart
    #[arg(
        long,
        env = "PURE_CHAOS_CERTIFICATE_DIRECTORY",
        default_value = "/etc/webhook/tls",
        value_name = "DIRECTORY"
    )]
    pub certificate_directory: PathBuf,

    /// PEM file with the CAs of client certificates, read at the start. With this flag, the webhook
    /// refuses callers that present no certificate of these CAs. By default, the webhook asks for
    /// no client certificate
    #[arg(long, env = "PURE_CHAOS_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,

    /// Name of the ValidatingWebhookConfiguration that contains the secret path. The path tells the
    /// API server from other callers
    #[arg(long, env = "PURE_CHAOS_WEBHOOK_CONFIGURATION", default_value = "pure-chaos", value_name = "NAME")]
    pub webhook_configuration: String,

    /// How long the webhook keeps answering reviews after SIGTERM; at most 60s. The API server
    /// sends reviews until it knows that this replica ends
    #[arg(long, env = "PURE_CHAOS_DRAIN", default_value = "8s", value_name = "DURATION", value_parser = drain)]
    pub drain: Duration,

    /// Names of the ServiceAccounts in namespace pure-chaos that get the agent's rights in opted-in
    /// namespaces, separated by commas
    #[arg(long, env = "PURE_CHAOS_AGENT_ACCOUNTS", default_value = "agent", value_name = "NAMES", value_delimiter = ',', value_parser = account)]
    pub agent_accounts: Vec<String>,
}

/// The checked flags of `run`. The files that they name are already read.
#[derive(Debug, Clone)]
pub struct Config {
    /// The flags that agent, webhook and `certs` have in common.
    pub common: CommonArgs,
    /// The platform's policy, from its file or built in.
    pub policy: PlatformPolicy,
    /// Address on which admission reviews are served.
    pub address: SocketAddr,
    /// Directory where the serving certificate and the keys of the secret path are mounted.
    pub certificate_directory: PathBuf,
    /// The CAs of client certificates. With `None`, the server does not ask for a client
    /// certificate.
    pub client_cas: Option<Arc<RootCertStore>>,
    /// Name of the ValidatingWebhookConfiguration that contains the secret path.
    pub webhook_configuration: String,
    /// How long the server goes on after the process was told to end.
    pub drain: Duration,
    /// ServiceAccounts of namespace `pure-chaos` that get the agent's rights in opted-in
    /// namespaces.
    pub agent_accounts: Vec<String>,
}

impl RunArgs {
    /// Reads the policy file and the file of client CAs.
    ///
    /// # Errors
    /// Returns an error that names the file if a file can't be read or is not valid. For the policy
    /// file, the error also names the line.
    pub fn check(self) -> anyhow::Result<Config> {
        let Self {
            common,
            policy,
            address,
            certificate_directory,
            client_ca,
            webhook_configuration,
            drain,
            agent_accounts,
        } = self;
        let policy = match policy.policy_file {
            None => PlatformPolicy::built_in(),
            Some(file) => {
                let yaml = std::fs::read_to_string(&file)
                    .with_context(|| format!("failed to read the policy file {}", file.display()))?;
                PlatformPolicy::parse(&yaml).with_context(|| format!("in {}", file.display()))?
            }
        };
        let client_cas = client_ca.map(|file| -> anyhow::Result<_> {
            let what = || format!("failed to read the clients' CA {}", file.display());
            let pem = std::fs::read(&file).with_context(what)?;
            Ok(Arc::new(cas(&pem).with_context(what)?))
        });
        Ok(Config {
            client_cas: client_cas.transpose()?,
            common,
            policy,
            address,
            certificate_directory,
            webhook_configuration,
            drain,
            agent_accounts,
        })
    }
}

/// Reads the CAs of a PEM text.
///
/// # Errors
/// Returns an error if the text has no certificate, or has one that can't serve as a CA.
pub fn cas(pem: &[u8]) -> anyhow::Result<RootCertStore> {
    let mut cas = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(pem) {
        cas.add(ca?)?;
    }
    anyhow::ensure!(!cas.is_empty(), "the file contains no certificate");
    Ok(cas)
}

/// The upper limit of `--drain`. A longer drain makes no sense: the kubelet kills the Pod at the
/// end of its termination grace period, which is 30 s by default.
const LONGEST_DRAIN: Duration = Duration::from_secs(60);

fn drain(text: &str) -> Result<Duration, String> {
    let duration = if text == "0s" { Some(Duration::ZERO) } else { durations::parse(text) };
    duration
        .filter(|duration| *duration <= LONGEST_DRAIN)
        .ok_or_else(|| "expected a duration of at most 60s, such as `8s`".to_owned())
}

/// Accepts a DNS subdomain, because the name of a ServiceAccount has that form.
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
        assert_eq!(config.address.to_string(), "[::]:8443");
        assert_eq!(config.certificate_directory.to_str(), Some("/etc/webhook/tls"));
        assert_eq!(config.webhook_configuration, "pure-chaos");
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
    fn a_client_ca_is_read_at_start() {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let ca = certs::x509::issue::ca(now, Duration::from_secs(86_400)).unwrap().certificate().pem();
        assert_eq!(cas(ca.repeat(2).as_bytes()).unwrap().len(), 2);
        assert!(cas(b"").unwrap_err().to_string().contains("no certificate"));
        assert!(run(&[]).unwrap().check().unwrap().client_cas.is_none());
        let missing = run(&["--client-ca", "/nonexistent"]).unwrap().check().unwrap_err();
        assert!(missing.to_string().contains("/nonexistent"), "{missing}");
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
