//! Issues certificates. [`crate::rotation::plan`] decides which ones and when. The caller provides
//! all times, and only keys and serial numbers are random.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::x509::certificate::{Certificate, Pair, Unreadable};

/// How far before now a certificate begins, for API servers whose clocks are behind.
/// cert-controller uses an hour, too.
pub const BACKDATE: Duration = Duration::from_secs(3_600);

/// Bytes of a serial number, of which 126 bits are random. RFC 5280 allows 20 bytes, and the
/// CA/Browser Forum requires 64 random bits.
const SERIAL_BYTES: usize = 16;

/// Why a certificate could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The certificate library returned an error.
    #[error("failed to make a certificate")]
    Library(#[from] rcgen::Error),
    /// The new certificate can't be read back.
    #[error("failed to read back a certificate just made")]
    ReadBack(#[from] Unreadable),
    /// The system provides no randomness.
    #[error("failed to generate a serial number or a key: the system provides no random numbers")]
    Randomness,
    /// This time can't be written in a certificate.
    #[error("failed to write {0} in a certificate: check the clock and the lifetimes")]
    Time(Timestamp),
}

/// Issues a CA that is valid for `lifetime` from `now`. The CA may sign serving certificates and
/// nothing else.
///
/// # Errors
/// Returns an error if the system provides no randomness, or if the times can't be written.
pub fn ca(now: Timestamp, lifetime: Duration) -> Result<Pair, IssueError> {
    let mut params = params(now, after(now, lifetime)?)?;
    // People tell CAs in a bundle apart by the time in the name. Verifiers tell them apart by the
    // key.
    params.distinguished_name.push(DnType::CommonName, format!("pure-chaos CA {}", whole_second(now)?));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = Certificate::parse(params.self_signed(&key)?.der())?;
    Ok(Pair::new(certificate, &key)?)
}

/// Issues a serving certificate for the DNS name `name`, signed by `ca`. The certificate is valid
/// for `lifetime` from `now`, but never longer than `ca`.
///
/// # Errors
/// Returns an error if the system provides no randomness, if `name` is not a DNS name, or if the
/// times can't be written.
pub fn serving(ca: &Pair, name: &str, now: Timestamp, lifetime: Duration) -> Result<Pair, IssueError> {
    // The end is limited to the CA's end, so that an expired CA can be dropped without a look at
    // what it signed.
    let not_after = after(now, lifetime)?.min(ca.certificate().not_after());
    let mut params = params(now, not_after)?;
    params.subject_alt_names = CertificateParams::new([name.to_owned()])?.subject_alt_names;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let der = CertificateDer::from(ca.certificate().der());
    let issuer = Issuer::from_ca_cert_der(&der, KeyPair::from_pem(ca.key_pem())?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = Certificate::parse(params.signed_by(&key, &issuer)?.der())?;
    Ok(Pair::new(certificate, &key)?)
}

/// Returns what both kinds of certificates share. The library's defaults do not fit: a validity
/// from 1975 to 4096, and the subject "rcgen self signed cert".
fn params(now: Timestamp, not_after: Timestamp) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = written(now.checked_sub(BACKDATE).map_err(|_| IssueError::Time(now))?)?;
    params.not_after = written(not_after)?;
    params.serial_number = Some(serial()?);
    Ok(params)
}

fn serial() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0; SERIAL_BYTES];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| IssueError::Randomness)?;
    // DER requires a positive number. These bits also keep the length constant.
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn after(now: Timestamp, lifetime: Duration) -> Result<Timestamp, IssueError> {
    now.checked_add(lifetime).map_err(|_| IssueError::Time(now))
}

fn whole_second(time: Timestamp) -> Result<Timestamp, IssueError> {
    Timestamp::from_second(time.as_second()).map_err(|_| IssueError::Time(time))
}

fn written(time: Timestamp) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| IssueError::Time(time))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::verify::accepted;
    use x509_parser::prelude::{FromDer, X509Certificate};

    pub(crate) const DAY: u64 = 86_400;
    pub(crate) const NAME: &str = "webhook.pure-chaos.svc";
    /// 2026-11-23T00:00:00Z, in seconds of the Unix epoch.
    pub(crate) const START: i64 = 1_795_392_000;

    pub(crate) fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    pub(crate) fn ca(now: i64, lifetime: u64) -> Pair {
        super::ca(at(now), Duration::from_secs(lifetime)).unwrap()
    }

    pub(crate) fn serving(ca: &Pair, now: i64, lifetime: u64) -> Pair {
        super::serving(ca, NAME, at(now), Duration::from_secs(lifetime)).unwrap()
    }

    #[test]
    fn a_ca_may_sign_and_nothing_else() {
        let pair = ca(START, 10 * DAY);
        let (_, parsed) = X509Certificate::from_der(pair.certificate().der()).unwrap();
        assert_eq!(parsed.subject().to_string(), "CN=pure-chaos CA 2026-11-23T00:00:00Z");
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = parsed.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert!(!usage.value.digital_signature());
        assert_eq!(pair.certificate().not_before(), at(START - 3_600));
        assert_eq!(pair.certificate().not_after(), at(START + 10 * DAY as i64));
        let algorithm = &parsed.signature_algorithm.algorithm;
        assert_eq!(algorithm.to_id_string(), "1.2.840.10045.4.3.2", "ECDSA with SHA-256");
    }

    #[test]
    fn a_serving_certificate_is_for_the_service_only() {
        let pair = serving(&ca(START, 10 * DAY), START, DAY);
        let (_, parsed) = X509Certificate::from_der(pair.certificate().der()).unwrap();
        assert_eq!(pair.certificate().names(), [NAME]);
        let extended = parsed.extended_key_usage().unwrap().unwrap();
        assert!(extended.value.server_auth && !extended.value.client_auth && !extended.value.any);
        assert!(!parsed.is_ca());
        assert_eq!(pair.certificate().not_before(), at(START - 3_600));
        assert_eq!(pair.certificate().not_after(), at(START + DAY as i64));
    }

    #[test]
    fn a_serving_certificate_never_outlives_its_ca() {
        let ca = ca(START, 10 * DAY);
        let pair = serving(&ca, START + 9 * DAY as i64, 5 * DAY);
        assert_eq!(pair.certificate().not_after(), ca.certificate().not_after());
    }

    #[test]
    fn serials_and_keys_differ_in_the_same_second() {
        let [one, other] = [ca(START, DAY), ca(START, DAY)];
        let serial = |pair: &Pair| {
            let (_, parsed) = X509Certificate::from_der(pair.certificate().der()).unwrap();
            parsed.raw_serial().to_vec()
        };
        assert_ne!(serial(&one), serial(&other));
        assert_eq!(serial(&one).len(), SERIAL_BYTES);
        assert_ne!(one.key_pem(), other.key_pem());
    }

    #[test]
    fn a_verifier_accepts_it_exactly_while_it_is_valid() {
        let [signer, other] = [ca(START, 10 * DAY), ca(START, 10 * DAY)];
        let leaf = serving(&signer, START, DAY);
        let accepts = |pair: &Pair, seconds| accepted(leaf.certificate(), &[pair.certificate()], at(seconds));
        let end = START + DAY as i64;
        for (seconds, right) in
            [(START - 3_601, false), (START - 3_600, true), (START, true), (end, true), (end + 1, false)]
        {
            assert_eq!(accepts(&signer, seconds), right, "{seconds}");
        }
        assert!(!accepts(&other, START));
    }

    #[test]
    fn fractions_of_a_second_are_cut_off() {
        let now = Timestamp::new(START, 999_999_999).unwrap();
        let pair = super::ca(now, Duration::from_secs(60)).unwrap();
        assert_eq!(pair.certificate().not_after(), at(START + 60));
    }
}
