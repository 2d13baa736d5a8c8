//! The stored state, and how it is written as bytes: which key of which Secret holds what. This
//! module is pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::probe::Served;
use crate::x509::bundle;
use crate::x509::certificate::{Certificate, Pair, Unreadable};

/// Key of Secret `certs-ca`: the CA's certificate.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// Key of Secret `certs-ca`: the CA's private key.
pub const CA_KEY: &str = "ca.key";
/// Key of Secret `certs-ca`: the previous CAs. Their private keys are not kept, because they sign
/// nothing any more.
pub const PREVIOUS: &str = "previous.crt";
/// Key of Secret `certs-ca`: the CAs that are never trusted again, until they expire.
pub const REVOKED: &str = "revoked.crt";
/// Key of Secret `webhook-tls`: the serving certificate.
pub const SERVING_CERTIFICATE: &str = "tls.crt";
/// Key of Secret `webhook-tls`: the private key of the serving certificate.
pub const SERVING_KEY: &str = "tls.key";
/// Key of Secret `webhook-tls`: the bundle. People can check a certificate with it by hand, and it
/// is the second copy of the previous CAs.
pub const BUNDLE: &str = "ca.crt";

/// The data of a Secret.
pub type Data = BTreeMap<String, Vec<u8>>;

/// Why a Secret holds no pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// There is no Secret, or the Secret has neither certificate nor key.
    Missing,
    /// The Secret has something, but no usable pair.
    Damaged(Unreadable),
}

/// Everything that a plan is made from.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The CA and its key.
    pub ca: Result<Pair, Absent>,
    /// The previous CAs as they are stored, including expired ones.
    pub previous: Vec<Certificate>,
    /// The CAs that are never trusted again.
    pub revoked: Vec<Certificate>,
    /// Whether somebody has just revoked all CAs that exist.
    pub is_revoked: bool,
    /// The serving certificate and its key.
    pub serving: Result<Pair, Absent>,
    /// The bundle beside the serving certificate, exactly as it is stored.
    pub published: Vec<u8>,
    /// The `caBundle` of each webhook in the configuration; `None` if there is no configuration.
    pub injected: Option<Vec<Vec<u8>>>,
    /// How long every webhook's `caBundle` was seen to hold the CA without a break; zero if one of
    /// them does not hold it.
    pub injected_for: Duration,
    /// What the webhook's ready endpoints serve; empty until somebody asks them.
    pub served: Served,
}

impl Stored {
    /// Reads the data of the two Secrets and the bundles of the configuration. `None` means that
    /// the object does not exist.
    #[must_use]
    pub fn read(
        ca: Option<&Data>,
        serving: Option<&Data>,
        injected: Option<Vec<Vec<u8>>>,
        injected_for: Duration,
    ) -> Self {
        Self {
            ca: pair(ca, CA_CERTIFICATE, CA_KEY),
            previous: Certificate::all(value(ca, PREVIOUS)),
            revoked: Certificate::all(value(ca, REVOKED)),
            is_revoked: false,
            serving: pair(serving, SERVING_CERTIFICATE, SERVING_KEY),
            published: value(serving, BUNDLE).to_vec(),
            injected,
            injected_for,
            served: Ok(Vec::new()),
        }
    }

    /// Returns the CAs of the bundle beside the serving certificate. This second copy is as
    /// trustworthy as the first, because a client that may write Secret `webhook-tls` may also
    /// write Secret `certs-ca`.
    #[must_use]
    pub fn published_cas(&self) -> Vec<Certificate> {
        cas(&self.published)
    }

    /// Returns every CA that is known from any place and has not expired.
    #[must_use]
    pub fn all_cas(&self, now: Timestamp) -> Vec<Certificate> {
        let (published, injected) = (self.published_cas(), self.injected_cas());
        let ca = self.ca.iter().map(Pair::certificate);
        bundle::union(ca.chain(&self.previous).chain(&self.revoked).chain(&published).chain(&injected), now)
    }

    /// Returns the CAs that are injected now. Others than `certs` may write there.
    #[must_use]
    pub fn injected_cas(&self) -> Vec<Certificate> {
        self.injected.iter().flatten().flat_map(|pem| cas(pem)).collect()
    }
}

fn cas(pem: &[u8]) -> Vec<Certificate> {
    Certificate::all(pem).into_iter().filter(Certificate::is_ca).collect()
}

/// Returns the data of Secret `certs-ca` for a CA and its previous CAs.
#[must_use]
pub fn ca_data(ca: &Pair, previous: &[Certificate]) -> Data {
    Data::from([
        (CA_CERTIFICATE.to_owned(), ca.certificate().pem().into_bytes()),
        (CA_KEY.to_owned(), ca.key_pem().as_bytes().to_vec()),
        (PREVIOUS.to_owned(), bundle::pem(previous).into_bytes()),
    ])
}

/// Returns the data of Secret `webhook-tls` for a serving certificate and the bundle that accepts
/// it.
#[must_use]
pub fn serving_data(serving: &Pair, bundle: &[Certificate]) -> Data {
    Data::from([
        (SERVING_CERTIFICATE.to_owned(), serving.certificate().pem().into_bytes()),
        (SERVING_KEY.to_owned(), serving.key_pem().as_bytes().to_vec()),
        (BUNDLE.to_owned(), bundle::pem(bundle).into_bytes()),
    ])
}

fn value<'a>(data: Option<&'a Data>, key: &str) -> &'a [u8] {
    data.and_then(|data| data.get(key)).map_or(&[], Vec::as_slice)
}

fn pair(data: Option<&Data>, certificate: &str, key: &str) -> Result<Pair, Absent> {
    let (certificate, key) = (value(data, certificate), value(data, key));
    if certificate.is_empty() && key.is_empty() {
        return Err(Absent::Missing);
    }
    Pair::parse(certificate, key).map_err(Absent::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::issue::tests::{DAY, START, ca, serving};

    #[test]
    fn what_is_written_is_read_back() {
        let (ca, previous) = (ca(START, DAY), ca(START, DAY));
        let previous = [previous.certificate().clone()];
        let leaf = serving(&ca, START, DAY);
        let (ca_data, serving_data) = (ca_data(&ca, &previous), serving_data(&leaf, &previous));
        let stored = Stored::read(Some(&ca_data), Some(&serving_data), None, Duration::ZERO);
        assert_eq!(stored.ca, Ok(ca));
        assert_eq!(stored.previous, previous);
        assert_eq!(stored.serving, Ok(leaf));
        assert_eq!(stored.published, bundle::pem(&previous).into_bytes());
    }

    #[test]
    fn missing_emptied_and_half_written_are_told_apart_from_whole() {
        let pair = ca(START, DAY);
        let whole = ca_data(&pair, &[]);
        let read = |data: Option<&Data>| Stored::read(data, None, None, Duration::ZERO).ca;
        assert_eq!(read(None), Err(Absent::Missing));
        assert_eq!(read(Some(&Data::new())), Err(Absent::Missing));
        for key in [CA_CERTIFICATE, CA_KEY] {
            let mut half = whole.clone();
            half.insert(key.to_owned(), Vec::new());
            assert!(matches!(read(Some(&half)), Err(Absent::Damaged(_))), "{key} emptied");
            half.remove(key);
            assert!(matches!(read(Some(&half)), Err(Absent::Damaged(_))), "{key} removed");
        }
        assert_eq!(read(Some(&whole)), Ok(pair));
    }

    #[test]
    fn a_serving_certificate_is_never_taken_for_a_ca() {
        let ca = ca(START, DAY);
        let leaf = serving(&ca, START, DAY);
        let both = bundle::pem(&[leaf.certificate().clone(), ca.certificate().clone()]).into_bytes();
        let stored = Stored::read(None, None, Some(vec![b"garbage".to_vec(), both]), Duration::ZERO);
        assert_eq!(stored.injected_cas(), [ca.certificate().clone()]);
    }
}
