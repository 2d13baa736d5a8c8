//! Ticks against an API server in this process, in virtual time.

use std::cell::RefCell;
use std::collections::BTreeSet;

use runtime::clock::TokioClock;

use super::*;
use crate::certificate::Certificate;
use crate::fake::{Crash, Fake};
use crate::issue::tests::{DAY, NAME, START, at, ca};
use crate::served::Endpoint;
use crate::verify::accepted;

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
    /// One of each process.
    registries: RefCell<Vec<prometheus::Registry>>,
}

impl Bench {
    fn new() -> Self {
        let fake = Fake::default();
        fake.put_configuration(&WEBHOOKS);
        Self { fake, clock: Arc::new(TokioClock::starting_at(at(START))), registries: RefCell::default() }
    }

    /// A process that has just started.
    fn process(&self) -> Rotation {
        self.process_with(self.clock.clone())
    }

    /// The same with a clock of its own.
    fn process_with(&self, clock: Arc<dyn Clock>) -> Rotation {
        let registry = prometheus::Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        self.registries.borrow_mut().push(registry);
        let endpoints = Box::new(self.fake.clone());
        Rotation::new(self.fake.client(), ("pure-chaos", "pure-chaos"), endpoints, policy(), clock, metrics)
    }

    /// What the counter of all processes together says.
    fn counted(&self, name: &str) -> f64 {
        let families =
            self.registries.borrow().iter().flat_map(prometheus::Registry::gather).collect::<Vec<_>>();
        let counters = families.iter().filter(|family| family.name() == name);
        counters.map(|family| family.get_metric()[0].get_counter().get_value()).sum()
    }

    /// How often they say that they put a bundle back.
    fn restored(&self) -> f64 {
        self.counted(crate::metrics::RESTORED)
    }

    /// How often they say that something else was changed.
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

    /// Whether every webhook's bundle accepts `leaf` now.
    fn accepts(&self, leaf: &Certificate) -> bool {
        self.fake.bundles().iter().all(|bundle| {
            let bundle = Certificate::all(bundle);
            accepted(leaf, &bundle.iter().collect::<Vec<_>>(), self.clock.wall())
        })
    }

    /// In order: the CA's leaf, one bundle everywhere that accepts it.
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
    let writes: Vec<_> = bench.fake.calls().into_iter().filter(|call| !call.starts_with("GET")).collect();
    assert_eq!(writes, ["POST certs-ca", "PATCH pure-chaos", "POST webhook-tls"]);
}

#[tokio::test(start_paused = true)]
async fn at_rest_a_tick_only_reads() {
    let bench = Bench::new();
    let mut process = bench.process();
    process.tick().await.unwrap();
    bench.fake.calls();
    process.tick().await.unwrap();
    assert_eq!(bench.fake.calls(), ["GET webhook-tls", "GET pure-chaos", "GET certs-ca"]);
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

/// The whole story with the process killed at each single write, before it or after it with the answer lost.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_is_repaired_by_the_next_process() {
    let mut crashes = 0;
    for crash in [Crash::BeforeWrite, Crash::AfterWrite] {
        for write in 0..100 {
            let bench = Bench::new();
            bench.fake.crash_at(write, crash);
            let mut process = bench.process();
            let mut served: Option<Certificate> = None;
            // A renewal, the change of CA, past the swap even after a restart, past the end of the first CA.
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

/// Whenever in a tick another process stores a CA and injects it: this one never injects a bundle without it.
#[tokio::test(start_paused = true)]
async fn a_slow_process_does_not_overwrite_what_it_has_not_seen() {
    let mut moments = 0;
    for moment in 0..20 {
        let bench = Bench::new();
        bench.process().tick().await.unwrap();
        let (first, second) = (bench.ca(), ca(START, 8 * DAY));
        let new = stored::ca_data(&second, std::slice::from_ref(&first));
        let both = bundle::pem(&bundle::union([second.certificate(), &first], at(START))).into_bytes();
        // What this process comes to put right.
        bench.fake.overwrite_bundle(b"foreign");
        let count = bench.fake.injected().len();
        let (patched, injected) = (Arc::new(std::sync::Mutex::new(count)), both.clone());
        let seen = Arc::clone(&patched);
        bench.fake.before_nth(moment, move |fake| {
            *seen.lock().unwrap() = fake.injected().len();
            fake.put_data(CA_SECRET, &new);
            fake.overwrite_bundle(&injected);
        });
        bench.process().tick().await.unwrap();
        if bench.fake.is_waiting() {
            break;
        }
        moments += 1;
        let since = *patched.lock().unwrap();
        let injected = bench.fake.injected();
        assert!(injected[since..].iter().all(|bundle| *bundle == both), "before call {moment}");
        // Another tick for what came after this one's last look.
        bench.process().tick().await.unwrap();
        assert_eq!(bench.ca(), *second.certificate());
        assert_eq!(bench.fake.bundles(), [both.clone(), both], "before call {moment}");
    }
    // Three reads, a patch, three reads.
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

#[tokio::test(start_paused = true)]
async fn a_bundle_that_somebody_else_wrote_is_put_right_at_the_next_tick() {
    let bench = Bench::new();
    let mut process = bench.process();
    process.tick().await.unwrap();
    assert_eq!(bench.restored(), 0.0, "the first time there was nothing to put back");
    for (times, foreign) in
        [b"".to_vec(), b"garbage".to_vec(), ca(START, DAY).certificate().pem().into_bytes()]
            .iter()
            .enumerate()
    {
        bench.fake.overwrite_bundle(foreign);
        process.tick().await.unwrap();
        bench.assert_in_order();
        assert_eq!(Certificate::all(&bench.fake.bundles()[0]), [bench.ca()]);
        assert_eq!(bench.restored(), times as f64 + 1.0);
    }
    // Refused because it changed once more: it is put back once.
    bench.fake.overwrite_bundle(b"foreign");
    bench.fake.before("PATCH pure-chaos", |fake| fake.overwrite_bundle(b"other"));
    process.tick().await.unwrap();
    assert_eq!(bench.restored(), 4.0);
    // Deleted and made again.
    bench.fake.delete_configuration();
    process.tick().await.unwrap_err();
    bench.fake.put_configuration(&WEBHOOKS);
    process.tick().await.unwrap();
    bench.assert_in_order();
    assert_eq!(bench.restored(), 5.0);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_changed_beside_the_bundle_is_told_once() {
    type Edit = fn(&mut serde_json::Value);
    let edits: [(&str, Edit); 4] = [
        ("failurePolicy", |object| object["webhooks"][1]["failurePolicy"] = "Ignore".into()),
        ("a selector", |object| {
            object["webhooks"][0]["namespaceSelector"] = serde_json::json!({"matchLabels": {"a": "b"}});
        }),
        ("one webhook less", |object| drop(object["webhooks"].as_array_mut().unwrap().pop())),
        ("a rule", |object| object["webhooks"][0]["rules"] = serde_json::json!([{"operations": ["CREATE"]}])),
    ];
    let bench = Bench::new();
    bench.fake.delete_configuration();
    let mut process = bench.process();
    process.tick().await.unwrap_err();
    bench.fake.put_configuration(&WEBHOOKS);
    process.tick().await.unwrap();
    bench.fake.edit_configuration(|object| object["metadata"]["labels"] = serde_json::json!({"a": "b"}));
    process.tick().await.unwrap();
    assert_eq!(bench.changes(), 0.0, "it came, and its own writing");
    for (times, (what, edit)) in edits.into_iter().enumerate() {
        bench.fake.edit_configuration(edit);
        process.tick().await.unwrap();
        process.tick().await.unwrap();
        assert_eq!(bench.changes(), times as f64 + 1.0, "{what}");
    }
    assert_eq!(bench.restored(), 0.0);
    bench.fake.overwrite_bundle(b"foreign");
    process.tick().await.unwrap();
    assert_eq!((bench.changes(), bench.restored()), (4.0, 1.0), "that is the other counter's");
    bench.fake.delete_configuration();
    process.tick().await.unwrap_err();
    process.tick().await.unwrap_err();
    assert_eq!(bench.changes(), 5.0, "deleted");
}

/// Two processes, and the answer to any write of one of them lost: what they write themselves is nobody else's change.
#[tokio::test(start_paused = true)]
async fn a_rotation_is_not_taken_for_another_hand() {
    let mut lost = 0;
    for write in 0..100 {
        let bench = Bench::new();
        bench.fake.crash_at(write, Crash::AfterWrite);
        let (mut one, mut other) = (bench.process(), bench.process());
        for step in [0, 1, 7 * DAY + 1, 1, 120, 1, DAY, 1] {
            pass(step).await;
            // Whoever lost an answer fails, and goes on at the next step.
            drop(one.tick().await);
            drop(other.tick().await);
        }
        bench.assert_in_order();
        assert_eq!((bench.restored(), bench.changes()), (0.0, 0.0), "write {write}");
        if !bench.fake.has_crashed() {
            break;
        }
        lost += 1;
    }
    assert!(lost > 5, "{lost}");

    // The answer to an injection is lost, and at the next tick the bundle has to change again.
    let bench = Bench::new();
    let mut process = bench.process();
    process.tick().await.unwrap();
    pass(7 * DAY + 1).await;
    bench.fake.crash_at(1, Crash::AfterWrite);
    process.tick().await.unwrap_err();
    assert_eq!(Certificate::all(&bench.fake.bundles()[0]).len(), 2);
    pass(2 * DAY).await;
    process.tick().await.unwrap();
    assert_eq!(bench.restored(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_an_object_ends_the_tick() {
    let bench = Bench::new();
    bench.process().tick().await.unwrap();
    bench.fake.overwrite_bundle(b"foreign");
    for _ in 0..MOST_ACTS {
        bench.fake.before("PATCH pure-chaos", |fake| fake.overwrite_bundle(b"foreign"));
    }
    let error = bench.process().tick().await.unwrap_err();
    assert!(matches!(error, TickError::Restless), "{error}");
}

/// An endpoint that does not answer holds up a change of CA, and can't stop it.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_silent_delays_a_swap_and_no_more() {
    let bench = Bench::new();
    let mut process = bench.process();
    process.tick().await.unwrap();
    let old_leaf = bench.leaf();
    let endpoint = |leaf| Ok(vec![Endpoint { address: "10.0.0.1:8443".to_owned(), leaf }]);
    bench.fake.serve(endpoint(Err("failed to connect".to_owned())));
    bench.fake.delete_secret(CA_SECRET);
    process.tick().await.unwrap();
    pass(120).await;
    let left = process.tick().await.unwrap().unwrap();
    assert_eq!(
        left,
        Duration::from_secs(4 * DAY - DAY / 2 - 120),
        "at most until half of the lookahead is left"
    );
    assert_eq!(bench.leaf(), old_leaf);
    bench.fake.serve(endpoint(Ok(old_leaf.clone())));
    assert_eq!(process.tick().await.unwrap(), None);
    bench.assert_in_order();
    assert_ne!(bench.leaf(), old_leaf);

    // And the renewal of what is now served, with the endpoint silent for good.
    let second = bench.leaf();
    bench.fake.serve(endpoint(Err("failed to connect".to_owned())));
    for _ in 0..8 {
        pass(DAY / 4).await;
        process.tick().await.unwrap();
        assert_eq!(bench.leaf(), second);
    }
    while bench.clock.wall() < second.not_after() {
        pass(HOUR).await;
        process.tick().await.unwrap();
        assert!(bench.accepts(&bench.leaf()));
    }
    assert_ne!(bench.leaf(), second);
}

/// A clock that is an hour off, either way, at any point of a rotation, also put right again: nothing is refused by a right one.
#[tokio::test(start_paused = true)]
async fn an_hour_of_clock_skew_heals() {
    for skew in [-3_600, 3_600] {
        for skewed in 0..6 {
            let bench = Bench::new();
            let off = Arc::new(TokioClock::starting_at(at(START + skew)));
            for (step, passing) in [0, 84 * HOUR, 84 * HOUR + 1, 120, DAY, DAY].into_iter().enumerate() {
                pass(passing).await;
                let clock: Arc<dyn Clock> = if step == skewed { off.clone() } else { bench.clock.clone() };
                let mut process = bench.process_with(clock);
                if let Some(due) = process.tick().await.unwrap() {
                    assert!(bench.accepts(&bench.leaf()), "{skew} {skewed} {step}");
                    tokio::time::sleep(due).await;
                    process.tick().await.unwrap();
                }
                assert!(bench.accepts(&bench.leaf()), "{skew} {skewed} {step}");
            }
            bench.process().tick().await.unwrap();
            bench.assert_in_order();
        }
    }
}
