//! For tests: verifies a serving certificate with rustls, as an API server does.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::x509::certificate::Certificate;
use crate::x509::issue::tests::NAME;

/// Returns whether a client that trusts `bundle` accepts `leaf` for the webhook's name at `now`.
pub fn accepted(leaf: &Certificate, bundle: &[&Certificate], now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    for ca in bundle {
        roots.add(CertificateDer::from(ca.der())).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return false;
    };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().unsigned_abs()));
    let name = ServerName::try_from(NAME).unwrap();
    verifier.verify_server_cert(&CertificateDer::from(leaf.der()), &[], &name, &[], now).is_ok()
}
