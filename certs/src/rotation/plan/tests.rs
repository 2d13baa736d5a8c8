//! A table of states and acts.

use super::*;
use crate::x509::issue;
use crate::x509::issue::tests::{DAY, NAME, START, at, ca, serving};

const LOOKAHEAD: u64 = 36 * 3_600;

pub(super) fn policy() -> Policy {
    Policy {
        name: NAME.to_owned(),
        ca_lifetime: Duration::from_secs(8 * DAY),
        serving_lifetime: Duration::from_secs(4 * DAY),
        lookahead: Duration::from_secs(LOOKAHEAD),
        settle: Duration::from_secs(120),
    }
}

/// Everything is in order: a CA, one previous CA, a serving certificate of the CA, and the bundle
/// published and injected.
fn in_order(ca: &Pair, previous: &Pair, leaf: &Pair) -> Stored {
    let bundle = bundle::union([ca.certificate(), previous.certificate()], at(START));
    let text = bundle::pem(&bundle).into_bytes();
    Stored {
        ca: Ok(ca.clone()),
        previous: vec![previous.certificate().clone()],
        revoked: vec![],
        is_revoked: false,
        serving: Ok(leaf.clone()),
        published: text.clone(),
        injected: Some(vec![text.clone(), text]),
        injected_for: Duration::ZERO,
        served: Ok(vec![]),
    }
}

#[test]
fn states_and_acts() {
    let (new, old, foreign) = (ca(START, 8 * DAY), ca(START - 3_600, 6 * DAY), ca(START, 8 * DAY));
    let (leaf, old_leaf) = (serving(&new, START, 4 * DAY), serving(&old, START, 4 * DAY));
    let other_name =
        issue::serving(&new, "webhook.elsewhere.svc", at(START), Duration::from_secs(4 * DAY)).unwrap();
    let order = || in_order(&new, &old, &leaf);
    let old_only = bundle::pem(&[old.certificate().clone()]).into_bytes();
    let later = (6 * DAY) as i64 + 1;
    use Reason::{Damaged, Expired, Expiring, Missing, NotYetValid, OtherName, PreviousCa, Untrusted};
    let damaged = || Err(Absent::Damaged(crate::x509::certificate::Unreadable::Key));
    let table: Vec<(&str, Stored, i64, Act)> = vec![
        ("all in order", order(), 0, Act::Rest),
        ("no configuration to inject into", Stored { injected: None, ..order() }, 0, Act::Rest),
        // States of the CA.
        ("first start", Stored::read(None, None, None, Duration::ZERO), 0, Act::IssueCa(Missing)),
        ("CA lost", Stored { ca: Err(Absent::Missing), ..order() }, 0, Act::IssueCa(Missing)),
        ("CA half written", Stored { ca: damaged(), ..order() }, 0, Act::IssueCa(Damaged)),
        ("a serving pair as CA", Stored { ca: Ok(leaf.clone()), ..order() }, 0, Act::IssueCa(Damaged)),
        // The CA is not issued again yet. By then the previous CA has ended, and its removal comes
        // before the serving certificate.
        ("CA just before the lookahead", order(), (8 * DAY - LOOKAHEAD) as i64, Act::StorePrevious(vec![])),
        ("CA within the lookahead", order(), (8 * DAY - LOOKAHEAD) as i64 + 1, Act::IssueCa(Expiring)),
        ("CA expired", order(), (8 * DAY) as i64 + 1, Act::IssueCa(Expired)),
        ("CA from a clock far ahead", order(), -3_601, Act::IssueCa(NotYetValid)),
        ("CA from a clock an hour ahead", order(), -3_600, Act::Rest),
        ("CAs revoked", Stored { is_revoked: true, ..order() }, 0, Act::IssueCa(Reason::Revoked)),
        (
            "a revoked CA still injected and published",
            Stored { revoked: vec![old.certificate().clone()], previous: vec![], ..order() },
            0,
            Act::Inject,
        ),
        (
            "a revoked CA's serving certificate",
            Stored {
                revoked: vec![old.certificate().clone()],
                previous: vec![],
                serving: Ok(old_leaf.clone()),
                injected: Some(vec![bundle::pem(&[new.certificate().clone()]).into_bytes()]),
                ..order()
            },
            0,
            Act::IssueServing(Untrusted),
        ),
        // States of the previous CAs.
        ("previous CA expired", order(), later, Act::StorePrevious(vec![])),
        (
            "the serving certificate's CA forgotten, found again in the configuration",
            Stored { previous: vec![], serving: Ok(old_leaf.clone()), published: vec![], ..order() },
            0,
            Act::StorePrevious(vec![old.certificate().clone()]),
        ),
        // States of the bundle.
        ("nothing injected", Stored { injected: Some(vec![vec![], vec![]]), ..order() }, 0, Act::Inject),
        (
            "one webhook left out",
            Stored { injected: Some(vec![order().published, vec![]]), ..order() },
            0,
            Act::Inject,
        ),
        (
            "a foreign CA in the bundle",
            Stored { injected: Some(vec![foreign.certificate().pem().into_bytes()]), ..order() },
            0,
            Act::Inject,
        ),
        ("not published", Stored { published: vec![], ..order() }, 0, Act::Publish),
        ("an older bundle published", Stored { published: old_only.clone(), ..order() }, 0, Act::Publish),
        // States of the serving certificate.
        (
            "no serving certificate",
            Stored { serving: Err(Absent::Missing), ..order() },
            0,
            Act::IssueServing(Missing),
        ),
        (
            "half a serving certificate",
            Stored { serving: damaged(), ..order() },
            0,
            Act::IssueServing(Damaged),
        ),
        ("another name", Stored { serving: Ok(other_name), ..order() }, 0, Act::IssueServing(OtherName)),
        (
            "a foreign CA's",
            Stored { serving: Ok(serving(&foreign, START, 4 * DAY)), ..order() },
            0,
            Act::IssueServing(Untrusted),
        ),
        ("within the lookahead", order(), (4 * DAY - LOOKAHEAD) as i64 + 1, Act::IssueServing(Expiring)),
        ("just before the lookahead", order(), (4 * DAY - LOOKAHEAD) as i64, Act::Rest),
        ("expired", order(), (4 * DAY) as i64 + 1, Act::IssueServing(Expired)),
        (
            "from a clock far ahead, under a CA that is not",
            Stored { serving: Ok(serving(&new, START + 7_200, 4 * DAY)), ..order() },
            0,
            Act::IssueServing(NotYetValid),
        ),
        // States of a change of CA, which waits only while a good certificate is served.
        (
            "a previous CA's, not injected long enough",
            Stored { serving: Ok(old_leaf.clone()), injected_for: Duration::from_secs(119), ..order() },
            0,
            Act::Wait(Duration::from_secs(1)),
        ),
        (
            "a previous CA's, settled",
            Stored { serving: Ok(old_leaf.clone()), injected_for: Duration::from_secs(120), ..order() },
            0,
            Act::IssueServing(PreviousCa),
        ),
        (
            "a previous CA's, within the lookahead: still in order",
            Stored { serving: Ok(old_leaf.clone()), ..order() },
            (4 * DAY - LOOKAHEAD) as i64 + 1,
            Act::Wait(Duration::from_secs(120)),
        ),
        (
            "a previous CA's, which ends before the bundle has settled",
            Stored { serving: Ok(old_leaf.clone()), ..order() },
            (4 * DAY) as i64 - 119,
            Act::IssueServing(PreviousCa),
        ),
        (
            "a previous CA's, published before the wait",
            Stored { serving: Ok(old_leaf), published: old_only, ..order() },
            0,
            Act::Publish,
        ),
    ];
    for (state, stored, seconds, act) in table {
        assert_eq!(plan(&stored, at(START + seconds), &policy()).act, act, "{state}");
    }
}

#[test]
fn a_new_ca_keeps_what_may_still_be_served_under() {
    let (new, old, foreign) = (ca(START, 8 * DAY), ca(START, 7 * DAY), ca(START, 8 * DAY));
    let leaf = serving(&new, START, 4 * DAY);
    let tampered = |stored: Stored| {
        let mut injected = stored.injected.clone().unwrap();
        injected[1].extend(foreign.certificate().pem().into_bytes());
        Stored { injected: Some(injected), ..stored }
    };
    let bundle = |stored: &Stored, seconds| plan(stored, at(START + seconds), &policy()).bundle;
    let both = bundle::union([new.certificate(), old.certificate()], at(START));
    let expiring = (8 * DAY - LOOKAHEAD) as i64 + 1;
    let order = in_order(&new, &old, &leaf);
    assert_eq!(bundle(&order, expiring), both, "an orderly change");
    assert_eq!(bundle(&tampered(order.clone()), expiring), both, "a foreign CA is not taken over");
    let lost = Stored { ca: Err(Absent::Missing), previous: vec![], ..order };
    assert_eq!(bundle(&lost, 0), both, "found again after a loss");
    let all_lost = Stored { serving: Err(Absent::Missing), published: vec![], ..lost };
    assert_eq!(bundle(&all_lost, 0), both, "even with both Secrets lost");
}

/// An orderly swap waits until each endpoint was seen, but never until the certificate has ended.
#[test]
fn a_swap_waits_until_each_endpoint_serves_what_is_trusted() {
    let (new, old, foreign) = (ca(START, 8 * DAY), ca(START - 3_600, 6 * DAY), ca(START, 8 * DAY));
    let (leaf, old_leaf) = (serving(&new, START, 4 * DAY), serving(&old, START, 4 * DAY));
    let stranger = serving(&foreign, START, 4 * DAY);
    let good = Endpoint { address: "10.0.0.1:8443".to_owned(), leaf: Ok(old_leaf.certificate().clone()) };
    let silent = Endpoint { address: "10.0.0.2:8443".to_owned(), leaf: Err("failed to connect".to_owned()) };
    let odd = Endpoint { leaf: Ok(stranger.certificate().clone()), ..silent.clone() };
    // The latest second for a swap is half of the lookahead before the end of the served
    // certificate.
    let latest = 4 * DAY - LOOKAHEAD / 2;
    let renewal = 4 * DAY - LOOKAHEAD + 1;
    let wait = |from| Act::Look(Duration::from_secs(latest - from));
    let settled = Duration::from_secs(120);
    for (served, waits) in [
        (Ok(vec![]), false),
        (Ok(vec![good.clone()]), false),
        (Ok(vec![good.clone(), silent]), true),
        (Ok(vec![good, odd]), true),
        (Err("no right to list".to_owned()), true),
    ] {
        let order =
            |leaf| Stored { served: served.clone(), injected_for: settled, ..in_order(&new, &old, leaf) };
        let act = |stored: &Stored, seconds: u64| plan(stored, at(START + seconds as i64), &policy()).act;
        for (leaf, reason, from) in [(&old_leaf, Reason::PreviousCa, 0), (&leaf, Reason::Expiring, renewal)] {
            let issue = Act::IssueServing(reason);
            assert_eq!(act(&order(leaf), from), if waits { wait(from) } else { issue.clone() }, "{served:?}");
            assert_eq!(act(&order(leaf), latest), issue, "{served:?}: no longer");
        }
        let lost = Stored { serving: Err(Absent::Missing), ..order(&leaf) };
        assert_eq!(act(&lost, 0), Act::IssueServing(Reason::Missing), "{served:?}: nothing to protect");
    }
}

/// An expired CA stays in the bundle while an endpoint is not known to do without it, but not
/// forever.
#[test]
fn a_ca_is_dropped_once_each_endpoint_does_without_it() {
    let (new, old) = (ca(START, 20 * DAY), ca(START - 3_600, 6 * DAY));
    let (leaf, old_leaf) = (serving(&new, START, 12 * DAY), serving(&old, START, 7 * DAY));
    let ended = (6 * DAY) as i64 + 1 - 3_600;
    let bundle = |leaf: Result<&Pair, &str>, seconds| {
        let leaf = leaf.map(|leaf| leaf.certificate().clone()).map_err(str::to_owned);
        let served = Ok(vec![Endpoint { address: "10.0.0.1:8443".to_owned(), leaf }]);
        let stored = Stored { served, ..in_order(&new, &old, &serving(&new, START, 12 * DAY)) };
        plan(&stored, at(START + seconds), &policy()).bundle.len()
    };
    for (what, served) in [("still under it", Ok(&old_leaf)), ("silent", Err("failed to connect"))] {
        assert_eq!(bundle(served, ended), 2, "{what}");
        assert_eq!(bundle(served, ended + LOOKAHEAD as i64 - 1), 2, "{what}");
        assert_eq!(bundle(served, ended + LOOKAHEAD as i64), 1, "{what}: no longer");
    }
    assert_eq!(bundle(Ok(&leaf), ended - 1), 2);
    assert_eq!(bundle(Ok(&leaf), ended), 1, "seen to serve under the new one");
}
