//! A client for an HTTPS server outside the cluster. It sends no credentials.

use std::time::Duration;

use anyhow::Context;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// How long the connection may take, and how long it may be silent.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client whose requests go to `url`, with its path before theirs. It trusts only the authorities
/// in `ca`, in PEM form.
///
/// # Errors
/// When `url` is no address, or `ca` holds no certificate that can be read.
pub fn client(url: &str, ca: &str) -> anyhow::Result<kube::Client> {
    let address: hyper::Uri = url.parse().with_context(|| format!("failed to read the address {url}"))?;
    let certificates: Result<Vec<CertificateDer>, _> =
        CertificateDer::pem_slice_iter(ca.as_bytes()).collect();
    let certificates = certificates.context("failed to read the certificate of the authority")?;
    anyhow::ensure!(
        !certificates.is_empty(),
        "failed to read the certificate of the authority: there is none"
    );
    let mut config = kube::Config::new(address);
    config.root_cert = Some(certificates.iter().map(|certificate| certificate.to_vec()).collect());
    config.default_retry = false;
    config.connect_timeout = Some(TIMEOUT);
    config.read_timeout = Some(TIMEOUT);
    kube::Client::try_from(config).with_context(|| format!("failed to make a client for {url}"))
}
