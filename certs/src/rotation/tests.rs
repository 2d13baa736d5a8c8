//! Ticks against an API server in this process, in virtual time.

use std::cell::RefCell;
use std::collections::BTreeSet;

use runtime::clock::TokioClock;

use super::*;
use crate::api::probe::Endpoint;
use crate::fake::{Crash, Fake};
use crate::verify::accepted;
use crate::x509::certificate::Certificate;
use crate::x509::issue::tests::{DAY, NAME, START, at, ca};

mod hands;

const HOUR: u64 = 3_600;
const WEBHOOKS: [&str; 2] = ["opt-in.purechaos.dev", "kill.purechaos.dev"];

fn policy() -> Policy {
    Policy {
        name: NAME.to_owned(),
        ca_lifetime: Duration::from_secs(8 * DAY),
        serving_lifetime: Duration::from_secs(4 * DAY),
        lookahead: Duration::from_secs(DAY),
        settle: Duration::from_secs(120),
    }
}

struct Bench {
    fake: Fake,
    clock: Arc<TokioClock>,
    /// One registry for each process.
    registries: RefCell<Vec<prometheus::Registry>>,
}

impl Bench {
    fn new() -> Self {
        let fake = Fake::default();
        fake.put_configuration(&WEBHOOKS);
        Self { fake, clock: Arc::new(TokioClock::starting_at(at(START))), registries: RefCell::default() }
    }

    /// Starts a process.
    fn process(&self) -> Rotation {
        self.process_with(self.clock.clone())
    }

    /// Starts a process with a clock of its own.
    fn process_with(&self, clock: Arc<dyn Clock>) -> Rotation {
        let registry = prometheus::Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        self.registries.borrow_mut().push(registry);
        let endpoints = Box::new(self.fake.clone());
        Rotation::new(self.fake.client(), ("pure-chaos", "pure-chaos"), endpoints, policy(), clock, metrics)
    }

    /// Returns the sum of a counter over all processes.
    fn counted(&self, name: &str) -> f64 {
        let families =
            self.registries.borrow().iter().flat_map(prometheus::Registry::gather).collect::<Vec<_>>();
        let counters = families.iter().filter(|family| family.name() == name);
        counters.map(|family| family.get_metric()[0].get_counter().get_value()).sum()
    }

    /// Returns how often the processes say that they put a bundle back.
    fn restored(&self) -> f64 {
        self.counted(crate::metrics::RESTORED)
    }

    /// Returns how often the processes say that something else was changed.
    fn changes(&self) -> f64 {
        self.counted(crate::metrics::CHANGES)
    }

    fn stored(&self) -> Stored {
        let (ca, serving) = (self.fake.data(CA_SECRET), self.fake.data(SERVING_SECRET));
        Stored::read(ca.as_ref(), serving.as_ref(), Some(self.fake.bundles()), Duration::ZERO)
    }

    fn ca(&self) -> Certificate {
        self.stored().ca.unwrap().certificate().clone()
    }

    fn leaf(&self) -> Certificate {
        self.stored().serving.unwrap().certificate().clone()
    }

    /// Returns whether every webhook's bundle accepts `leaf` now.
    fn accepts(&self, leaf: &Certificate) -> bool {
        self.fake.bundles().iter().all(|bundle| {
            let bundle = Certificate::all(bundle);
            accepted(leaf, &bundle.iter().collect::<Vec<_>>(), self.clock.wall())
        })
    }

    /// Asserts that everything is in order: the CA signed the leaf, and every webhook has one
    /// bundle that accepts it.
    fn assert_in_order(&self) {
        let (stored, leaf) = (self.stored(), self.leaf());
        assert!(leaf.is_signed_by(&self.ca()), "{stored:?}");
        assert!(self.accepts(&leaf), "{stored:?}");
        assert!(self.fake.bundles().iter().all(|bundle| *bundle == stored.published), "{stored:?}");
    }
}

async fn pass(duration: u64) {
    tokio::time::sleep(Duration::from_secs(duration)).await;
}

#[tokio::test(start_paused = true)]
async fn a_first_start_needs_one_tick_and_no_wait() {
    let bench = Bench::new();
    assert_eq!(bench.process().tick().await.unwrap(), None);
    bench.assert_in_order();
    assert_eq!(bench.clock.wall(), at(START), "not a second has passed");
    assert_eq!(bench.fake.secret(SERVING_SECRET).unwrap()["type"], "kubernetes.io/tls");
    assert_eq!(bench.fake.secret(CA_SECRET).unwrap()["type"], "Opaque");
    let serving = bench.fake.data(SERVING_SECRET).unwrap();
    assert!(serving.keys().eq(["ca.crt", "tls.crt", "tls.key"]), "the CA's key is not there");
    let writes: Vec<_> = bench.fake.new_calls().into_iter().filter(|call| !call.starts_with("GET")).collect();
    assert_eq!(writes, ["POST certs-ca", "PATCH pure-chaos", "POST webhook-tls"]);
}

#[tokio::test(start_paused = true)]
async fn at_rest_a_tick_only_reads() {
    let bench = Bench::new();
    let mut process = bench.process();
    process.tick().await.unwrap();
    bench.fake.new_calls();
    process.tick().await.unwrap();
    assert_eq!(bench.fake.new_calls(), ["GET webhook-tls", "GET pure-chaos", "GET certs-ca"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_configuration_all_else_is_done_and_said() {
    let bench = Bench::new();
    bench.fake.delete_configuration();
    let mut process = bench.process();
    let error = process.tick().await.unwrap_err();
    assert!(error.to_string().contains("ValidatingWebhookConfiguration pure-chaos"), "{error}");
    assert!(bench.fake.data(SERVING_SECRET).is_some());
    bench.fake.put_configuration(&WEBHOOKS);
    process.tick().await.unwrap();
    bench.assert_in_order();
}

#[tokio::test(start_paused = true)]
async fn a_rotation_publishes_waits_swaps_and_drops() {
    let bench = Bench::new();
    let mut process = bench.process();
    process.tick().await.unwrap();
    let first = bench.ca();
    for _ in 0..7 {
        pass(DAY).await;
        assert!(process.tick().await.unwrap().is_none());
        assert_eq!(bench.ca(), first);
    }
    let old_leaf = bench.leaf();
    assert_eq!(old_leaf.not_after(), first.not_after(), "renewed, but never longer than its CA");
    pass(1).await;
    assert_eq!(process.tick().await.unwrap(), Some(Duration::from_secs(120)), "published, and waiting");
    let second = bench.ca();
    assert_ne!(second, first);
    assert_eq!(bench.leaf(), old_leaf);
    assert_eq!(Certificate::all(&bench.fake.bundles()[0]), [second.clone(), first.clone()]);
    pass(119).await;
    assert_eq!(process.tick().await.unwrap(), Some(Duration::from_secs(1)));
    assert_eq!(bench.leaf(), old_leaf);
    pass(1).await;
    assert_eq!(process.tick().await.unwrap(), None, "swapped");
    bench.assert_in_order();
    assert!(bench.accepts(&old_leaf), "replicas that have not reloaded yet");
    pass(DAY).await;
    process.tick().await.unwrap();
    assert_eq!(bench.stored().previous, [], "dropped after its end");
    assert_eq!(Certificate::all(&bench.fake.bundles()[1]), [second]);
    bench.assert_in_order();
}

/// A whole rotation, in which the process is killed at each single write: before the write, or
/// after it with the answer lost.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_is_repaired_by_the_next_process() {
    let mut crashes = 0;
    for crash in [Crash::BeforeWrite, Crash::AfterWrite] {
        for write in 0..100 {
            let bench = Bench::new();
            bench.fake.crash_at(write, crash);
            let mut process = bench.process();
            let mut served: Option<Certificate> = None;
            // A renewal, the change of CA, the time past the swap even after a restart, and the
            // time past the end of the first CA.
            for step in [0, 84 * HOUR, 48 * HOUR, 36 * HOUR + 1, 60, 60, 60, 60, DAY, DAY] {
                pass(step).await;
                if process.tick().await.is_err() {
                    assert!(served.as_ref().is_none_or(|leaf| bench.accepts(leaf)), "{crash:?} {write}");
                    process = bench.process();
                    process.tick().await.unwrap();
                }
                assert!(served.as_ref().is_none_or(|leaf| bench.accepts(leaf)), "{crash:?} {write}");
                served = Some(bench.leaf());
            }
            bench.assert_in_order();
            assert_eq!(bench.stored().previous, [], "{crash:?} {write}");
            if !bench.fake.has_crashed() {
                break;
            }
            crashes += 1;
        }
    }
    assert!(crashes >= 2 * 9, "{crashes}");
}

#[tokio::test(start_paused = true)]
async fn two_processes_agree() {
    let bench = Bench::new();
    let (mut one, mut other) = (bench.process(), bench.process());
    let mut leaves = BTreeSet::new();
    for step in [0, 7 * DAY + 1, 60, 61, 60, DAY] {
        pass(step).await;
        let (first, second) = tokio::join!(one.tick(), other.tick());
        first.unwrap();
        second.unwrap();
        assert!(bench.accepts(&bench.leaf()));
        leaves.insert(bench.leaf().der().to_vec());
    }
    bench.assert_in_order();
    assert_eq!(bench.stored().previous, []);
    assert!(leaves.len() <= 4, "they do not undo each other: {}", leaves.len());
}

/// At each moment of a tick, another process stores a CA and injects it. The first process must
/// never inject a bundle without that CA.
#[tokio::test(start_paused = true)]
async fn a_slow_process_does_not_overwrite_what_it_has_not_seen() {
    let mut moments = 0;
    for moment in 0..20 {
        let bench = Bench::new();
        bench.process().tick().await.unwrap();
        let (first, second) = (bench.ca(), ca(START, 8 * DAY));
        let new = observed::ca_data(&second, std::slice::from_ref(&first));
        let both = bundle::pem(&bundle::union([second.certificate(), &first], at(START))).into_bytes();
        // The process has to put this bundle right.
        bench.fake.overwrite_bundle(b"foreign");
        let (came_after, mut calls) = (Arc::new(std::sync::Mutex::new(None)), 0..);
        let (fake, seen, injected) = (bench.fake.clone(), Arc::clone(&came_after), both.clone());
        bench.fake.intercept(move |_| {
            if calls.next() == Some(moment) {
                *seen.lock().unwrap() = Some(fake.injected().len());
                fake.put_data(CA_SECRET, &new);
                fake.overwrite_bundle(&injected);
            }
            None
        });
        bench.process().tick().await.unwrap();
        let Some(since) = *came_after.lock().unwrap() else { break };
        moments += 1;
        let injected = bench.fake.injected();
        assert!(injected[since..].iter().all(|bundle| *bundle == both), "before call {moment}");
        // Another tick handles what came after the last read of the first process.
        bench.process().tick().await.unwrap();
        assert_eq!(bench.ca(), *second.certificate());
        assert_eq!(bench.fake.bundles(), [both.clone(), both], "before call {moment}");
    }
    // The moments are three reads, a patch and three reads.
    assert_eq!(moments, 7);
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_emptied_or_half_written_heals() {
    type Damage = fn(&Fake, &str);
    let damages: [(&str, Damage); 4] = [
        ("deleted", |fake, name| fake.delete_secret(name)),
        ("emptied", |fake, name| fake.put_data(name, &Data::new())),
        ("without its key", |fake, name| {
            let mut data = fake.data(name).unwrap();
            data.retain(|key, _| !key.ends_with(".key"));
            fake.put_data(name, &data);
        }),
        ("half written", |fake, name| {
            let mut data = fake.data(name).unwrap();
            data.values_mut().for_each(|value| value.truncate(value.len() / 2));
            fake.put_data(name, &data);
        }),
    ];
    for (what, damage) in damages {
        for names in [&[CA_SECRET][..], &[SERVING_SECRET], &[CA_SECRET, SERVING_SECRET]] {
            let bench = Bench::new();
            let mut process = bench.process();
            process.tick().await.unwrap();
            let served = bench.leaf();
            names.iter().for_each(|name| damage(&bench.fake, name));
            process.tick().await.unwrap();
            assert!(bench.accepts(&served), "{what} {names:?}: replicas still serve it");
            assert!(bench.accepts(&bench.leaf()), "{what} {names:?}");
            pass(120).await;
            process.tick().await.unwrap();
            bench.assert_in_order();
            assert!(bench.accepts(&served), "{what} {names:?}: replicas still serve it");
        }
    }
}
