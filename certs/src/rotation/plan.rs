//! Makes all decisions of the rotation: what to do next. This module is pure.

use std::time::Duration;

use jiff::Timestamp;
use strum::IntoStaticStr;

use crate::api::probe::Endpoint;
use crate::rotation::observed::{Absent, Stored};
use crate::x509::bundle;
use crate::x509::certificate::{Certificate, Pair};

/// How long certificates are valid, and how they are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The DNS name by which the API server calls the webhook.
    pub name: String,
    /// How long a CA is valid.
    pub ca_lifetime: Duration,
    /// How long a serving certificate is valid, unless its CA ends earlier.
    pub serving_lifetime: Duration,
    /// How long before its end a certificate is renewed.
    pub lookahead: Duration,
    /// How long a new CA is in the bundle before it signs the served certificate, while another
    /// serving certificate is still good.
    pub settle: Duration,
}

/// Why a certificate is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Reason {
    /// There is no certificate.
    Missing,
    /// The Secret exists, but does not hold a certificate with the matching key.
    Damaged,
    /// The certificate begins in the future, because a clock that was ahead issued it.
    NotYetValid,
    /// The certificate has expired.
    Expired,
    /// The certificate ends within the lookahead.
    Expiring,
    /// The certificate is not for the name by which the API server calls the webhook.
    OtherName,
    /// No CA of the bundle signed the certificate.
    Untrusted,
    /// A previous CA signed the certificate.
    PreviousCa,
    /// Somebody revoked the CAs, because a key has leaked.
    Revoked,
}

impl Reason {
    /// Returns the word for log lines.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// The one next act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Issue a CA and store it. The plan's bundle becomes its previous CAs.
    IssueCa(Reason),
    /// Store these previous CAs beside the CA.
    StorePrevious(Vec<Certificate>),
    /// Set every webhook's `caBundle` to the plan's bundle.
    Inject,
    /// Issue a serving certificate, and store it with the plan's bundle.
    IssueServing(Reason),
    /// Store the plan's bundle beside the serving certificate.
    Publish,
    /// Wait this long, until the bundle has settled.
    Wait(Duration),
    /// Wait at most this long, until each endpoint is seen to serve a certificate that the bundle
    /// accepts.
    Look(Duration),
    /// Do nothing, because everything is in order.
    Rest,
}

/// What has to be done in the stored state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Plan {
    /// Every CA that the API server should trust.
    pub bundle: Vec<Certificate>,
    /// The next act. After the act, read and plan again.
    pub act: Act,
}

/// Returns the bundle and the next act.
///
/// Two acts also depend on what the webhook's endpoints serve. An orderly swap of the serving
/// certificate waits until each endpoint serves a certificate that the bundle accepts. An expired
/// CA stays in the bundle as long as an endpoint does not.
///
/// No wait lasts forever if an endpoint can't be reached. The swap happens at the latest when half
/// of the lookahead is left before the certificate ends, so a missing answer never lets a
/// certificate expire. The bundle isn't given time to settle if the certificate would expire
/// meanwhile. An expired CA leaves the bundle at the latest one lookahead after its end,
/// when no clock can take anything that the CA signed for valid. Repairs (a missing or unusable
/// serving certificate) never wait.
///
/// Each plan is made from the stored state alone. So it does not matter which process did the last
/// act, or whether that process crashed during the act.
pub fn plan(stored: &Stored, now: Timestamp, policy: &Policy) -> Plan {
    let ca = match good_ca(stored, now, policy) {
        Ok(ca) => ca.certificate(),
        Err(reason) => {
            return Plan { bundle: succeeded(stored, reason, now, policy), act: Act::IssueCa(reason) };
        }
    };
    let bundle = trusted(stored, injected_signer(stored), now, policy);
    let act = act(stored, ca, &bundle, now, policy);
    Plan { bundle, act }
}

fn act(stored: &Stored, ca: &Certificate, bundle: &[Certificate], now: Timestamp, policy: &Policy) -> Act {
    let previous: Vec<_> = bundle.iter().filter(|one| *one != ca).cloned().collect();
    if previous != stored.previous {
        return Act::StorePrevious(previous);
    }
    let text = bundle::pem(bundle).into_bytes();
    if stored.injected.iter().flatten().any(|injected| *injected != text) {
        return Act::Inject;
    }
    let serving = match acceptable(stored, bundle, now, policy) {
        Ok(serving) => serving.certificate(),
        Err(reason) => return Act::IssueServing(reason),
    };
    let of_ca = serving.is_signed_by(ca);
    if of_ca && let Err(reason) = current(serving, policy, now) {
        return swap(stored, bundle, serving, reason, now, policy);
    }
    if stored.published != text {
        return Act::Publish;
    }
    if of_ca {
        return Act::Rest;
    }
    let rest = policy.settle.saturating_sub(stored.injected_for);
    let outlives_it = now.checked_add(rest).is_ok_and(|then| then < serving.not_after());
    if rest > Duration::ZERO && outlives_it {
        return Act::Wait(rest);
    }
    swap(stored, bundle, serving, Reason::PreviousCa, now, policy)
}

/// Swaps a serving certificate that is still good, or waits for the endpoints.
fn swap(
    stored: &Stored,
    bundle: &[Certificate],
    serving: &Certificate,
    reason: Reason,
    now: Timestamp,
    policy: &Policy,
) -> Act {
    let latest = serving.not_after().checked_sub(policy.lookahead / 2).unwrap_or(now);
    match Duration::try_from(latest.duration_since(now)) {
        Ok(left) if left > Duration::ZERO && !unseen(stored, bundle, now, policy).is_empty() => {
            Act::Look(left)
        }
        _ => Act::IssueServing(reason),
    }
}

/// Returns a reason, for people, for each ready endpoint that is not known to serve a certificate
/// that the bundle accepts now.
#[must_use]
pub fn unseen(stored: &Stored, bundle: &[Certificate], now: Timestamp, policy: &Policy) -> Vec<String> {
    let endpoints = match &stored.served {
        Ok(endpoints) => endpoints,
        Err(why) => return vec![why.clone()],
    };
    let why = |Endpoint { address, leaf }: &Endpoint| match leaf {
        Err(why) => Some(format!("{address}: {why}")),
        Ok(leaf) => {
            Some(format!("{address}: serves what is {}", accepts(leaf, bundle, now, policy).err()?.label()))
        }
    };
    endpoints.iter().filter_map(why).collect()
}

/// Returns the stored CA, if it may go on signing.
fn good_ca<'a>(stored: &'a Stored, now: Timestamp, policy: &Policy) -> Result<&'a Pair, Reason> {
    if stored.is_revoked {
        return Err(Reason::Revoked);
    }
    let pair = stored.ca.as_ref().map_err(absent)?;
    if !pair.certificate().is_ca() {
        return Err(Reason::Damaged);
    }
    current(pair.certificate(), policy, now)?;
    Ok(pair)
}

/// Returns the CAs that stay trusted when a new CA takes over. After a loss, these include every
/// injected CA, because nobody can tell any more which of them signed the certificates that are
/// served.
fn succeeded(stored: &Stored, reason: Reason, now: Timestamp, policy: &Policy) -> Vec<Certificate> {
    let injected = match reason {
        // Trust no earlier CA: nobody knows which key has leaked, and an attacker who has one key
        // may also have the key before it.
        Reason::Revoked => return Vec::new(),
        Reason::Expiring => injected_signer(stored),
        _ => stored.injected_cas(),
    };
    trusted(stored, injected, now, policy)
}

/// Returns all stored CAs that are not revoked, and these injected ones, without those that have
/// expired. Expired CAs stay while an endpoint is not known to do without them.
fn trusted(stored: &Stored, injected: Vec<Certificate>, now: Timestamp, policy: &Policy) -> Vec<Certificate> {
    let ca = stored.ca.iter().map(Pair::certificate).filter(|ca| ca.is_ca());
    let published = stored.published_cas();
    let all = ca.chain(&stored.previous).chain(&published).chain(&injected);
    let all: Vec<_> = all.filter(|ca| !stored.revoked.contains(ca)).collect();
    let good = bundle::union(all.iter().copied(), now);
    let held = now.checked_sub(policy.lookahead).unwrap_or(now);
    let with_held = bundle::union(all, held);
    if with_held == good || unseen(stored, &good, now, policy).is_empty() { good } else { with_held }
}

/// Returns the injected CA that signed the stored serving certificate. Anybody may have injected
/// the other CAs.
fn injected_signer(stored: &Stored) -> Vec<Certificate> {
    let Ok(serving) = &stored.serving else {
        return Vec::new();
    };
    stored.injected_cas().into_iter().filter(|ca| serving.certificate().is_signed_by(ca)).collect()
}

/// Returns the stored serving certificate, if an API server with this bundle accepts it now.
fn acceptable<'a>(
    stored: &'a Stored,
    bundle: &[Certificate],
    now: Timestamp,
    policy: &Policy,
) -> Result<&'a Pair, Reason> {
    let pair = stored.serving.as_ref().map_err(absent)?;
    accepts(pair.certificate(), bundle, now, policy)?;
    Ok(pair)
}

/// Checks whether an API server with this bundle accepts a serving certificate now.
fn accepts(
    serving: &Certificate,
    bundle: &[Certificate],
    now: Timestamp,
    policy: &Policy,
) -> Result<(), Reason> {
    // Do not check the beginning of the certificate: if the clock of this process is wrong, the
    // certificate is good, and must not be replaced in haste.
    if now > serving.not_after() {
        return Err(Reason::Expired);
    }
    if !serving.names().contains(&policy.name) {
        return Err(Reason::OtherName);
    }
    if !bundle.iter().any(|ca| serving.is_signed_by(ca)) {
        return Err(Reason::Untrusted);
    }
    Ok(())
}

fn absent(absent: &Absent) -> Reason {
    match absent {
        Absent::Missing => Reason::Missing,
        Absent::Damaged(_) => Reason::Damaged,
    }
}

/// Checks that a certificate has begun and does not end within the lookahead.
fn current(certificate: &Certificate, policy: &Policy, now: Timestamp) -> Result<(), Reason> {
    if now < certificate.not_before() {
        Err(Reason::NotYetValid)
    } else if now > certificate.not_after() {
        Err(Reason::Expired)
    } else if now.checked_add(policy.lookahead).map_or(true, |horizon| horizon > certificate.not_after()) {
        Err(Reason::Expiring)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod world_tests;
