//! A simulated world. Every leaf that may be served must be accepted by every bundle that some API
//! server may have.

use std::collections::VecDeque;

use proptest::prelude::*;
use runtime::clock::{Clock, SystemClock};
use tokio::time::Instant;

use super::tests::policy;
use super::*;
use crate::api::probe::Endpoint;
use crate::rotation::observed::{self, Data};
use crate::rotation::propagation::Settled;
use crate::verify::accepted;
use crate::x509::issue;
use crate::x509::issue::tests::{DAY, NAME, START, at};

/// How long an API server may go without seeing a change of the configuration, in seconds. This is
/// less than the settle time.
const API_LAG: i64 = 110;
/// How long the kubelet may take to update a mounted Secret, in seconds.
const MOUNT_LAG: i64 = 90;

/// Values, each with the second since when it is there. The last one is the present value.
struct History<T>(VecDeque<(i64, T)>);

impl<T: Clone + PartialEq> History<T> {
    fn note(&mut self, now: i64, value: T) {
        if self.0.back().is_none_or(|(_, last)| *last != value) {
            self.0.push_back((now, value));
        }
    }

    /// Returns every value that somebody who lags may still have.
    fn in_use(&mut self, now: i64, lag: i64) -> Vec<T> {
        while self.0.get(1).is_some_and(|(since, _)| now - since > lag) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, value)| value.clone()).collect()
    }
}

/// The Secrets, the configuration, API servers and webhook replicas that lag, and a `certs` whose
/// clock may be an hour off.
struct World {
    now: i64,
    skew: i64,
    origin: Instant,
    ca: Option<Data>,
    serving: Option<Data>,
    injected: Vec<u8>,
    settled: Settled,
    bundles: History<Vec<u8>>,
    leaves: History<Certificate>,
    rotations: usize,
}

impl World {
    fn new() -> Self {
        Self {
            now: START,
            skew: 0,
            origin: SystemClock.monotonic(),
            ca: None,
            serving: None,
            injected: Vec::new(),
            settled: Settled::default(),
            bundles: History(VecDeque::new()),
            leaves: History(VecDeque::new()),
            rotations: 0,
        }
    }

    /// Asserts that every bundle that may be trusted accepts every leaf that may be served, at the
    /// true time.
    fn check(&mut self) {
        if self.injected.is_empty() {
            return;
        }
        self.bundles.note(self.now, self.injected.clone());
        if let Ok(pair) = Stored::read(None, self.serving.as_ref(), None, Duration::ZERO).serving {
            self.leaves.note(self.now, pair.certificate().clone());
        }
        for leaf in self.leaves.in_use(self.now, MOUNT_LAG) {
            for bundle in self.bundles.in_use(self.now, API_LAG) {
                let bundle = Certificate::all(&bundle);
                let trusted: Vec<_> = bundle.iter().collect();
                assert!(
                    accepted(&leaf, &trusted, at(self.now)),
                    "{} s: {leaf:?} by {bundle:?}",
                    self.now - START
                );
            }
        }
    }

    fn advance(&mut self, seconds: i64) {
        self.now += seconds;
        self.check();
    }

    fn restart(&mut self) {
        self.settled = Settled::default();
    }

    /// Runs one pass of the loop, as `rotation` does.
    fn pass(&mut self) -> Act {
        let monotonic = self.origin + Duration::from_secs((self.now - START).unsigned_abs());
        let injected = Some(vec![self.injected.clone()]);
        let mut stored = Stored::read(self.ca.as_ref(), self.serving.as_ref(), injected, Duration::ZERO);
        let ca = stored.ca.as_ref().ok().map(Pair::certificate);
        stored.injected_for = self.settled.observe(ca, stored.injected.as_deref(), monotonic);
        let leaves = self.leaves.in_use(self.now, MOUNT_LAG).into_iter();
        stored.served = Ok(leaves.map(|leaf| Endpoint { address: "a".to_owned(), leaf: Ok(leaf) }).collect());
        let now = at(self.now + self.skew);
        let Plan { bundle, act } = plan(&stored, now, &policy());
        match &act {
            Act::IssueCa(_) => {
                let issued = issue::ca(now, policy().ca_lifetime).unwrap();
                self.ca = Some(observed::ca_data(&issued, &bundle));
                self.rotations += 1;
            }
            Act::StorePrevious(previous) => {
                let data = self.ca.as_mut().unwrap();
                data.insert(observed::PREVIOUS.to_owned(), bundle::pem(previous).into_bytes());
            }
            Act::Inject => self.injected = bundle::pem(&bundle).into_bytes(),
            Act::IssueServing(_) => {
                let issued =
                    issue::serving(stored.ca.as_ref().unwrap(), NAME, now, policy().serving_lifetime)
                        .unwrap();
                self.serving = Some(observed::serving_data(&issued, &bundle));
            }
            Act::Publish => {
                let data = self.serving.as_mut().unwrap();
                data.insert(observed::BUNDLE.to_owned(), bundle::pem(&bundle).into_bytes());
            }
            Act::Wait(_) | Act::Look(_) | Act::Rest => {}
        }
        self.check();
        act
    }

    /// Runs passes until there is nothing to do. The process is killed after as many passes as
    /// `kills` says, and started again.
    fn rest(&mut self, kills: &[usize]) {
        let mut kills = kills.iter();
        let mut until_kill = kills.next().copied();
        for _ in 0..200 {
            match self.pass() {
                Act::Rest => return,
                Act::Wait(_) | Act::Look(_) => self.advance(10),
                _ => {}
            }
            until_kill = match until_kill {
                Some(0) => {
                    self.restart();
                    kills.next().copied()
                }
                Some(passes) => Some(passes - 1),
                None => None,
            };
        }
        panic!("no rest");
    }
}

#[derive(Debug, Clone)]
enum Event {
    /// Time passes without `certs`, or with nothing for `certs` to do.
    Passes(i64),
    /// The clock of `certs` is off by so many seconds from now on.
    Skew(i64),
    /// Something happens to a Secret: it is deleted or emptied, or one of its keys is emptied or
    /// cut in half.
    Ca(usize),
    Serving(usize),
}

fn damage(data: &mut Option<Data>, how: usize) {
    let keys: Vec<String> = data.iter().flat_map(|data| data.keys().cloned()).collect();
    match (how, data.as_mut()) {
        (1, Some(data)) => data.clear(),
        (2.., Some(data)) => {
            let key = &keys[how / 2 % keys.len()];
            let value = data.get_mut(key).unwrap();
            value.truncate(if how.is_multiple_of(2) { 0 } else { value.len() / 2 });
        }
        _ => *data = None,
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1..=DAY as i64).prop_map(Event::Passes),
        1 => (1..=300_i64).prop_map(Event::Passes),
        1 => (-3_600..=3_600_i64).prop_map(Event::Skew),
        1 => (0_usize..8).prop_map(Event::Ca),
        1 => (0_usize..8).prop_map(Event::Serving),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_may_be_served_is_always_accepted(
        story in proptest::collection::vec((event(), proptest::collection::vec(0_usize..12, 0..4)), 1..40)
    ) {
        let mut world = World::new();
        world.rest(&[]);
        for (event, kills) in story {
            match event {
                Event::Passes(seconds) => world.advance(seconds),
                Event::Skew(skew) => world.skew = skew,
                Event::Ca(how) => damage(&mut world.ca, how),
                Event::Serving(how) => damage(&mut world.serving, how),
            }
            world.rest(&kills);
        }
    }
}

/// If nothing ever rotates, the property proves nothing.
#[test]
fn a_month_sees_several_rotations_and_a_bundle_that_does_not_grow() {
    let mut world = World::new();
    for _ in 0..30 * 4 {
        world.rest(&[]);
        world.advance((DAY / 4) as i64);
        assert!(Certificate::all(&world.injected).len() <= 2);
    }
    assert!((4..=6).contains(&world.rotations), "{}", world.rotations);
}
