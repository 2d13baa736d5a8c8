//! A certificate with the fields that this crate needs, and a pair of a certificate and its key.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The most certificates that are read from one PEM text. Our bundles have far fewer, and a foreign
/// text must not cost much.
const MOST_CERTIFICATES: usize = 64;

/// Why a certificate or a pair could not be read. The error never contains any part of the text,
/// because the text may be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is no PEM certificate in the text.
    #[error("no PEM certificate found")]
    NoCertificate,
    /// The certificate is not X.509, or has dates that do not exist.
    #[error("the certificate is not valid X.509: {0}")]
    Certificate(String),
    /// There is no PEM key in the text, or the key can't sign.
    #[error("no usable PEM key found")]
    Key,
    /// The key belongs to another certificate.
    #[error("the key does not belong to the certificate")]
    OtherKey,
}

/// One certificate, with the fields that the plan needs.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    public_key: Vec<u8>,
    is_ca: bool,
    names: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Certificate {
    /// Reads one certificate in DER.
    ///
    /// # Errors
    /// Returns an error if the certificate is not valid X.509.
    pub fn parse(der: &[u8]) -> Result<Self, Unreadable> {
        let wrong = |error: &dyn fmt::Display| Unreadable::Certificate(error.to_string());
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| wrong(&error))?;
        let time = |seconds| Timestamp::from_second(seconds).map_err(|error| wrong(&error));
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| wrong(&error))?
            .map(|extension| extension.value.general_names.iter().filter_map(dns_name).collect());
        Ok(Self {
            der: der.to_vec(),
            public_key: parsed.public_key().raw.to_vec(),
            is_ca: parsed.is_ca(),
            names: names.unwrap_or_default(),
            not_before: time(parsed.validity().not_before.timestamp())?,
            not_after: time(parsed.validity().not_after.timestamp())?,
        })
    }

    /// Reads the first certificate of a PEM text. In a chain, this is the one that the key belongs
    /// to.
    ///
    /// # Errors
    /// Returns an error if there is no certificate, or if it is not valid X.509.
    pub fn first(pem: &[u8]) -> Result<Self, Unreadable> {
        match CertificateDer::pem_slice_iter(pem).next() {
            Some(Ok(der)) => Self::parse(&der),
            Some(Err(_)) | None => Err(Unreadable::NoCertificate),
        }
    }

    /// Reads the certificates of a PEM text. Certificates that can't be read are skipped, so that
    /// half a bundle still helps.
    #[must_use]
    pub fn all(pem: &[u8]) -> Vec<Self> {
        CertificateDer::pem_slice_iter(pem)
            .take(MOST_CERTIFICATES)
            .filter_map(|der| Self::parse(&der.ok()?).ok())
            .collect()
    }

    /// Returns the certificate as PEM, always in the same form.
    #[must_use]
    pub fn pem(&self) -> String {
        // Kubernetes' types write base64 in the standard alphabet with padding, as PEM requires.
        let base64 = match serde_json::to_value(ByteString(self.der.clone())) {
            Ok(serde_json::Value::String(base64)) => base64,
            _ => String::new(),
        };
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, tail) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = tail;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// Returns the certificate as DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns whether the certificate may sign other certificates.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// Returns the DNS names that the certificate is for.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the first second of the certificate.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Returns the last second of the certificate.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Returns whether `ca` signed this certificate: `ca` may sign, its name is the issuer's, and
    /// the signature is right.
    #[must_use]
    pub fn is_signed_by(&self, ca: &Self) -> bool {
        let (Ok((_, certificate)), Ok((_, signer))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&ca.der))
        else {
            return false;
        };
        ca.is_ca
            && certificate.issuer() == signer.subject()
            && certificate.verify_signature(Some(signer.public_key())).is_ok()
    }
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    }
}

/// Keeps the text short, because failure messages of tests contain dozens of certificates.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_ca { "CA" } else { "serving" };
        let tail = self.der.iter().rev().take(4).map(|byte| format!("{byte:02x}"));
        write!(f, "{kind} …{} until {}", tail.collect::<String>(), self.not_after)
    }
}

/// A certificate and its key, which are known to belong together.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    certificate: Certificate,
    key_pem: String,
}

impl Pair {
    /// Reads a pair in PEM.
    ///
    /// # Errors
    /// Returns an error if one of the two can't be read, or if they do not belong together.
    pub fn parse(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Self, Unreadable> {
        let certificate = Certificate::first(certificate_pem)?;
        let key_pem = std::str::from_utf8(key_pem).map_err(|_| Unreadable::Key)?;
        let key = KeyPair::from_pem(key_pem).map_err(|_| Unreadable::Key)?;
        Self::new(certificate, &key)
    }

    /// Creates a pair of a certificate and its key.
    ///
    /// # Errors
    /// Returns an error if the two do not belong together.
    pub fn new(certificate: Certificate, key: &KeyPair) -> Result<Self, Unreadable> {
        if key.subject_public_key_info() != certificate.public_key {
            return Err(Unreadable::OtherKey);
        }
        let key_pem = key.serialize_pem();
        Ok(Self { certificate, key_pem })
    }

    /// Returns the certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Returns the key as PEM. Never write it into a log line.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

/// Leaves out the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::issue::tests::{DAY, NAME, START, ca, serving};

    #[test]
    fn pem_is_read_back() {
        let ca = ca(START, 10 * DAY);
        let pem = ca.certificate().pem();
        assert_eq!(Certificate::first(pem.as_bytes()).unwrap(), *ca.certificate());
        assert!(pem.lines().all(|line| line.len() <= 64), "{pem}");
        let pair = Pair::parse(pem.as_bytes(), ca.key_pem().as_bytes()).unwrap();
        assert_eq!(pair, ca);
    }

    #[test]
    fn half_a_bundle_gives_what_is_whole() {
        let [first, second] = [ca(START, DAY), ca(START, DAY)];
        let text = first.certificate().pem() + &second.certificate().pem();
        for end in 0..text.len() {
            let read = Certificate::all(&text.as_bytes()[..end]);
            assert!(read.len() <= 2);
            assert!(read.iter().all(|one| one == first.certificate() || one == second.certificate()));
        }
        assert_eq!(Certificate::all(text.as_bytes()).len(), 2);
        let garbled = format!("garbage\n{}", text.replacen("MII", "!!!", 1));
        assert_eq!(Certificate::all(garbled.as_bytes()), [second.certificate().clone()]);
    }

    #[test]
    fn a_pair_is_whole_or_not_a_pair() {
        let [one, other] = [ca(START, DAY), ca(START, DAY)];
        let pem = one.certificate().pem();
        let parse = |certificate: &str, key: &str| Pair::parse(certificate.as_bytes(), key.as_bytes());
        assert_eq!(parse("", one.key_pem()), Err(Unreadable::NoCertificate));
        assert_eq!(parse(&pem[..pem.len() / 2], one.key_pem()), Err(Unreadable::NoCertificate));
        assert_eq!(parse(&pem, ""), Err(Unreadable::Key));
        assert_eq!(parse(&pem, &one.key_pem()[..60]), Err(Unreadable::Key));
        assert_eq!(parse(&pem, other.key_pem()), Err(Unreadable::OtherKey));
    }

    #[test]
    fn signatures_count_not_names() {
        let [one, other] = [ca(START, DAY), ca(START, DAY)];
        let leaf = serving(&one, START, DAY);
        assert!(leaf.certificate().is_signed_by(one.certificate()));
        assert!(!leaf.certificate().is_signed_by(other.certificate()));
        assert!(!leaf.certificate().is_signed_by(leaf.certificate()));
        assert_eq!(leaf.certificate().names(), [NAME]);
    }

    #[test]
    fn keys_are_never_printed() {
        let pair = ca(START, DAY);
        let secret = pair.key_pem().lines().nth(1).unwrap();
        assert!(!format!("{pair:?} {pair:#?}").contains(secret));
    }
}
