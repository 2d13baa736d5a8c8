//! Ticks against an API server in this process, in virtual time.

use runtime::clock::TokioClock;

use super::*;
use crate::fake::{Crash, Fake};
use crate::x509::issue::tests::{START, at};

const PERIOD: Duration = Duration::from_secs(300);
const WEBHOOKS: [&str; 2] = ["opt-in.purechaos.dev", "kill.purechaos.dev"];

struct Bench {
    fake: Fake,
    clock: Arc<TokioClock>,
    registry: prometheus::Registry,
    metrics: Metrics,
}

impl Bench {
    fn new() -> Self {
        let fake = Fake::default();
        fake.put_configuration(&WEBHOOKS);
        let registry = prometheus::Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        Self { fake, clock: Arc::new(TokioClock::starting_at(at(START))), registry, metrics }
    }

    fn process(&self) -> Paths {
        let client = self.fake.client();
        Paths::new(client, ("pure-chaos", "pure-chaos"), PERIOD, self.clock.clone(), self.metrics.clone())
    }

    /// Returns route and segment of each webhook.
    fn paths(&self) -> Vec<(String, String)> {
        let of = |path: String| {
            let (route, segment) = path.strip_prefix('/').unwrap().split_once('/').unwrap();
            (route.to_owned(), segment.to_owned())
        };
        self.fake.paths().into_iter().map(of).collect()
    }

    fn keys(&self) -> Keys {
        Kept::read(&self.fake.data(PATH_SECRET).unwrap()).unwrap().keys
    }

    /// Asserts that the current key made each path, at most a period ago.
    fn assert_in_order(&self) {
        let paths = self.paths();
        assert_eq!(paths.iter().map(|(route, _)| route.as_str()).collect::<Vec<_>>(), ["opt-in", "kill"]);
        for (route, segment) in paths {
            let made = self.keys().made_by_current(&route, &segment).expect("ours");
            assert!(made.checked_add(PERIOD).unwrap() > self.clock.wall(), "{made}");
        }
    }

    fn restored(&self) -> f64 {
        let families = self.registry.gather();
        let counter = families.iter().find(|family| family.name() == crate::metrics::RESTORED).unwrap();
        counter.get_metric()[0].get_counter().get_value()
    }
}

async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[tokio::test(start_paused = true)]
async fn a_first_start_makes_keys_and_injects_and_then_rests_for_a_period() {
    let bench = Bench::new();
    let mut process = bench.process();
    assert_eq!(process.tick().await.unwrap(), PERIOD);
    bench.assert_in_order();
    assert!(bench.fake.data(PATH_SECRET).unwrap().keys().eq(["path-keys", "since"]));
    assert_eq!(bench.fake.secret(PATH_SECRET).unwrap()["type"], "Opaque");
    let (first, keys) = (bench.paths(), bench.keys().text());
    pass(PERIOD - Duration::from_secs(1)).await;
    bench.fake.new_calls();
    assert_eq!(process.tick().await.unwrap(), Duration::from_secs(1));
    assert_eq!(bench.fake.new_calls(), ["GET pure-chaos", "GET webhook-path"], "at rest it only reads");
    assert_eq!(bench.paths(), first);
    pass(Duration::from_secs(1)).await;
    process.tick().await.unwrap();
    bench.assert_in_order();
    assert!(bench.paths().iter().zip(&first).all(|(now, before)| now.1 != before.1));
    assert_eq!((bench.keys().text(), bench.restored()), (keys, 0.0));
}

#[tokio::test(start_paused = true)]
async fn keys_rotate_daily_and_a_replica_that_missed_one_rotation_knows_every_path() {
    let bench = Bench::new();
    let mut process = bench.process();
    process.tick().await.unwrap();
    for _ in 0..4 {
        let outdated = bench.keys();
        pass(KEYS_LIFETIME).await;
        process.tick().await.unwrap();
        bench.assert_in_order();
        assert_ne!(bench.keys().text(), outdated.text());
        for (route, segment) in bench.paths() {
            assert!(outdated.made(&route, &segment).is_some());
        }
    }
    // After a week without `certs`, there is one rotation and not seven.
    let outdated = bench.keys();
    pass(KEYS_LIFETIME * 7).await;
    bench.process().tick().await.unwrap();
    let (route, segment) = bench.paths().remove(0);
    assert!(outdated.made(&route, &segment).is_some());
    assert_eq!(bench.restored(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_damaged_or_changed_is_put_right() {
    let bench = Bench::new();
    let mut process = bench.process();
    process.tick().await.unwrap();
    bench.fake.delete_secret(PATH_SECRET);
    process.tick().await.unwrap();
    bench.assert_in_order();
    for key in [KEYS, SINCE] {
        let mut data = bench.fake.data(PATH_SECRET).unwrap();
        data.insert(key.to_owned(), b"garbage".to_vec());
        bench.fake.put_data(PATH_SECRET, &data);
        process.tick().await.unwrap();
        bench.assert_in_order();
    }
    assert_eq!(bench.restored(), 0.0, "the configuration was nobody else's");
    let path_of = |object: &mut serde_json::Value, path: &str| {
        object["webhooks"][1]["clientConfig"]["service"]["path"] = path.into();
    };
    bench.fake.edit_configuration(|object| path_of(object, "/kill"));
    process.tick().await.unwrap();
    bench.assert_in_order();
    assert_eq!(bench.restored(), 1.0);
    // Somebody applies the manifest again without a path, and one of its webhooks has no Service.
    bench.fake.put_configuration(&WEBHOOKS);
    bench.fake.edit_configuration(|object| {
        object["webhooks"].as_array_mut().unwrap().push(serde_json::json!({"name": "other.example.com",
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://example.com"}}));
    });
    process.tick().await.unwrap();
    bench.assert_in_order();
    assert_eq!(bench.restored(), 2.0);
    assert_eq!(process.tick().await.unwrap(), PERIOD);
}

#[tokio::test(start_paused = true)]
async fn without_a_configuration_the_keys_are_made_all_the_same() {
    let bench = Bench::new();
    bench.fake.delete_configuration();
    let mut process = bench.process();
    process.tick().await.unwrap();
    assert!(bench.fake.data(PATH_SECRET).is_some());
    bench.fake.put_configuration(&WEBHOOKS);
    process.tick().await.unwrap();
    bench.assert_in_order();
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_and_a_second_process_are_harmless() {
    for write in 0..4 {
        for crash in [Crash::BeforeWrite, Crash::AfterWrite] {
            let bench = Bench::new();
            bench.fake.crash_at(write, crash);
            let (mut one, mut other) = (bench.process(), bench.process());
            for step in [Duration::ZERO, PERIOD, KEYS_LIFETIME, PERIOD] {
                pass(step).await;
                // A tick that lost an answer fails, and the next one goes on.
                drop(one.tick().await);
                drop(other.tick().await);
            }
            bench.assert_in_order();
            assert_eq!(bench.restored(), 0.0, "write {write}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_the_path_anew_and_keeps_the_keys() {
    let bench = Bench::new();
    bench.process().tick().await.unwrap();
    let keys = bench.keys().text();
    let behind: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(at(START - 3_600)));
    let metrics = bench.metrics.clone();
    let mut process =
        Paths::new(bench.fake.client(), ("pure-chaos", "pure-chaos"), PERIOD, Arc::clone(&behind), metrics);
    process.tick().await.unwrap();
    let (route, segment) = bench.paths().remove(0);
    assert_eq!(bench.keys().made(&route, &segment), Some(behind.wall()));
    assert_eq!(bench.keys().text(), keys);
}
