//! Whether the serving certificate may be replaced now. Pure.

use jiff::Timestamp;

use crate::certificate::Certificate;
use crate::endpoints::Endpoint;
use crate::plan::Policy;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// Now.
    Now,
    /// Not yet, for this reason.
    Wait(String),
}

/// A swap waits until each ready endpoint serves the certificate that is stored: so no two swaps are under way at once, and nobody is left
/// two behind, with a certificate whose CA leaves the bundle. It waits until half of the lookahead is gone and no longer: an
/// endpoint that can't be asked, or that never reloads, must not let the others' certificate run out.
#[must_use]
pub fn swap(
    serving: &Certificate,
    endpoints: &Result<Vec<Endpoint>, String>,
    now: Timestamp,
    policy: &Policy,
) -> Swap {
    let is_urgent =
        now.checked_add(policy.lookahead / 2).map_or(true, |horizon| horizon >= serving.not_after());
    if is_urgent {
        return Swap::Now;
    }
    let endpoints = match endpoints {
        Ok(endpoints) => endpoints,
        Err(why) => return Swap::Wait(why.clone()),
    };
    let behind = endpoints.iter().find_map(|Endpoint { address, leaf }| match leaf {
        Ok(leaf) if leaf == serving => None,
        Ok(_) => Some(format!("endpoint {address} does not serve the stored certificate yet")),
        Err(why) => Some(format!("endpoint {address} can't be asked what it serves: {why}")),
    });
    behind.map_or(Swap::Now, Swap::Wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue;
    use crate::issue::tests::{DAY, NAME, START, at, ca};
    use std::time::Duration;

    #[test]
    fn it_waits_for_every_endpoint_but_not_too_long() {
        let day = Duration::from_secs(DAY);
        let policy = Policy {
            name: NAME.to_owned(),
            ca_lifetime: 8 * day,
            serving_lifetime: 4 * day,
            lookahead: day,
            settle: Duration::from_secs(120),
        };
        let ca = ca(START, 8 * DAY);
        let issued = |time| issue::serving(&ca, NAME, at(time), 4 * day).unwrap().certificate().clone();
        let [stored, older] = [issued(START), issued(START)];
        let end = stored.not_after();
        let early = end.checked_sub(Duration::from_secs(20 * 3_600)).unwrap();
        let late = end.checked_sub(Duration::from_secs(12 * 3_600)).unwrap();
        let endpoint = |leaf: Result<&Certificate, &str>| Endpoint {
            address: "10.0.0.1:8443".parse().unwrap(),
            leaf: leaf.cloned().map_err(str::to_owned),
        };
        let cases = [
            (Ok(vec![]), None),
            (Ok(vec![endpoint(Ok(&stored)), endpoint(Ok(&stored))]), None),
            (
                Ok(vec![endpoint(Ok(&stored)), endpoint(Ok(&older))]),
                Some("does not serve the stored certificate yet"),
            ),
            (
                Ok(vec![endpoint(Err("refused")), endpoint(Ok(&stored))]),
                Some("can't be asked what it serves: refused"),
            ),
            (Err("failed to list".to_owned()), Some("failed to list")),
        ];
        for (endpoints, why) in cases {
            match (swap(&stored, &endpoints, early, &policy), why) {
                (Swap::Now, None) => {}
                (Swap::Wait(sentence), Some(why)) => assert!(sentence.contains(why), "{sentence}"),
                (other, _) => panic!("{endpoints:?}: {other:?}"),
            }
            assert_eq!(swap(&stored, &endpoints, late, &policy), Swap::Now, "{endpoints:?}");
        }
    }
}
