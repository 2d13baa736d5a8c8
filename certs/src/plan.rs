//! What to do next: the whole of the rotation's decisions. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::bundle;
use crate::certificate::{Certificate, Pair};
use crate::served::Endpoint;
use crate::stored::{Absent, Stored};

/// How long certificates live, and how they are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The DNS name that the API server calls the webhook by.
    pub name: String,
    /// How long a CA lives.
    pub ca_lifetime: Duration,
    /// How long a serving certificate lives, if its CA lives as long.
    pub serving_lifetime: Duration,
    /// How long before its end a certificate is renewed.
    pub lookahead: Duration,
    /// How long a new CA is in the bundle before it signs what is served while another serving certificate is good.
    pub settle: Duration,
}

/// Why a certificate is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is none.
    Missing,
    /// What is stored is no certificate with its key.
    Damaged,
    /// It begins in the future: issued by a clock that was ahead.
    NotYetValid,
    /// It has ended.
    Expired,
    /// It ends within the lookahead.
    Expiring,
    /// It is not for the name that the API server calls.
    OtherName,
    /// No CA of the bundle signed it.
    Untrusted,
    /// A previous CA signed it.
    PreviousCa,
}

impl Reason {
    /// For log lines.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Expiring => "expiring",
            Self::OtherName => "other_name",
            Self::Untrusted => "untrusted",
            Self::PreviousCa => "previous_ca",
        }
    }
}

/// The one next act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Issue a CA and store it, with the plan's bundle as its previous CAs.
    IssueCa(Reason),
    /// Store these previous CAs beside the CA.
    StorePrevious(Vec<Certificate>),
    /// Make every webhook's `caBundle` the plan's bundle.
    Inject,
    /// Issue a serving certificate and store it with the plan's bundle.
    IssueServing(Reason),
    /// Store the plan's bundle beside the serving certificate.
    Publish,
    /// Nothing until the bundle has settled, in this time.
    Wait(Duration),
    /// Nothing until each endpoint is seen to serve what the bundle accepts, for at most this time.
    Look(Duration),
    /// Nothing at all.
    Rest,
}

/// What the stored state calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Plan {
    /// Every CA that is to be trusted.
    pub bundle: Vec<Certificate>,
    /// What to do next; then read and plan again.
    pub act: Act,
}

/// Says the next act.
///
/// Two acts also ask what the webhook's endpoints serve: an orderly swap of the serving certificate waits until each endpoint serves
/// what the bundle accepts, and an expired CA stays in the bundle as long as one does not. Neither waits for ever for an endpoint
/// that can't be reached: the swap is made when half of the lookahead is left to the certificate, so that it never expires for want
/// of a look, and the CA goes one lookahead after its end, when nothing that it signed can be good by anybody's clock. What mends a
/// loss, such as a serving certificate that is missing or that nobody could accept, never waits.
///
/// Each plan is made from what is stored alone, so it does not matter who did the act before, or died in it.
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
    match policy.settle.saturating_sub(stored.injected_for) {
        Duration::ZERO => swap(stored, bundle, serving, Reason::PreviousCa, now, policy),
        rest => Act::Wait(rest),
    }
}

/// The swap of a serving certificate that is still good, or the wait for a look at what is served.
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

/// Each ready endpoint that is not known to serve something that the bundle accepts now, and why, for a person.
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

/// The stored CA, if it may go on signing.
fn good_ca<'a>(stored: &'a Stored, now: Timestamp, policy: &Policy) -> Result<&'a Pair, Reason> {
    let pair = stored.ca.as_ref().map_err(absent)?;
    if !pair.certificate().is_ca() {
        return Err(Reason::Damaged);
    }
    current(pair.certificate(), policy, now)?;
    Ok(pair)
}

/// What stays trusted when a new CA takes over. After a loss that is every CA injected, because nobody can tell any more which of
/// them is being served under.
fn succeeded(stored: &Stored, reason: Reason, now: Timestamp, policy: &Policy) -> Vec<Certificate> {
    let injected = match reason {
        Reason::Expiring => injected_signer(stored),
        _ => stored.injected_cas(),
    };
    trusted(stored, injected, now, policy)
}

/// The stored CAs, wherever they are stored, with some of those injected: those that have not expired, and those that have, while
/// an endpoint is not known to do without them.
fn trusted(stored: &Stored, injected: Vec<Certificate>, now: Timestamp, policy: &Policy) -> Vec<Certificate> {
    let ca = stored.ca.iter().map(Pair::certificate).filter(|ca| ca.is_ca());
    let published = stored.published_cas();
    let all: Vec<_> = ca.chain(&stored.previous).chain(&published).chain(&injected).collect();
    let good = bundle::union(all.iter().copied(), now);
    let held = now.checked_sub(policy.lookahead).unwrap_or(now);
    let with_held = bundle::union(all, held);
    if with_held == good || unseen(stored, &good, now, policy).is_empty() { good } else { with_held }
}

/// Of the CAs injected, which may be anybody's, the one that signed what is stored as the serving certificate.
fn injected_signer(stored: &Stored) -> Vec<Certificate> {
    let Ok(serving) = &stored.serving else {
        return Vec::new();
    };
    stored.injected_cas().into_iter().filter(|ca| serving.certificate().is_signed_by(ca)).collect()
}

/// The stored serving certificate, if an API server that knows the bundle accepts it now.
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

/// Whether an API server that knows the bundle accepts a serving certificate now.
fn accepts(
    serving: &Certificate,
    bundle: &[Certificate],
    now: Timestamp,
    policy: &Policy,
) -> Result<(), Reason> {
    // Not its beginning: if this clock is the one that is wrong, the certificate is good and must not be torn down in haste.
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

/// Whether a certificate has begun and does not end within the lookahead.
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
#[path = "plan_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "plan_world_tests.rs"]
mod world_tests;
