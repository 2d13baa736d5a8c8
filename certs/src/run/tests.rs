//! The loop in virtual time: intervals, retries and readiness.

use fake_api::Answer;
use runtime::clock::TokioClock;
use serde_json::Value;

use super::*;
use crate::api::secrets::SERVING_SECRET;
use crate::fake::Fake;
use crate::rotation::plan::Policy;
use crate::x509::issue::tests::{DAY, NAME, START, at};

const INTERVAL: Duration = Duration::from_secs(10);

struct Running {
    fake: Fake,
    health: Arc<Health>,
    clock: Arc<TokioClock>,
    end: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start(fake: Fake) -> Running {
    let clock = Arc::new(TokioClock::starting_at(at(START)));
    let policy = Policy {
        name: NAME.to_owned(),
        ca_lifetime: Duration::from_secs(8 * DAY),
        serving_lifetime: Duration::from_secs(4 * DAY),
        lookahead: Duration::from_secs(DAY),
        settle: Duration::from_secs(3),
    };
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let rotation = Rotation::new(
        fake.client(),
        ("pure-chaos", "pure-chaos"),
        Box::new(fake.clone()),
        policy,
        clock.clone() as Arc<dyn Clock>,
        metrics.clone(),
    );
    let objects = ("pure-chaos", "pure-chaos");
    let paths = Paths::new(fake.client(), objects, Duration::from_secs(300), clock.clone(), metrics);
    let work = Work { paths, rotation: Some(rotation) };
    let health = Arc::new(Health::new(INTERVAL));
    let end = CancellationToken::new();
    let task = tokio::spawn({
        let (health, clock, end) = (Arc::clone(&health), Arc::clone(&clock), end.clone());
        async move { keep_right(work, INTERVAL, &health, clock.as_ref(), end).await }
    });
    Running { fake, health, clock, end, task }
}

impl Running {
    async fn ticks_within(&self, duration: Duration) -> usize {
        self.fake.new_calls();
        tokio::time::sleep(duration).await;
        self.fake.new_calls().iter().filter(|call| *call == "GET webhook-tls").count()
    }

    fn ready(&self) -> bool {
        self.health.check(self.clock.monotonic()).is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn it_ticks_on_the_interval_and_ends_when_told() {
    let fake = Fake::default();
    fake.put_configuration(&["kill.purechaos.dev"]);
    let running = start(fake);
    assert!(!running.ready());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(running.ready());
    assert!(running.fake.secret(SERVING_SECRET).is_some());
    assert_eq!(running.ticks_within(INTERVAL * 6).await, 6);
    running.end.cancel();
    running.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failures_are_repeated_soon_and_then_no_more_often_than_the_interval() {
    let fake = Fake::default();
    fake.fail("GET", "/webhook-tls", 1_000, Answer::Status(503, Value::Null));
    let running = start(fake);
    // The ticks come at 0, 250, 750, 1750, 3750 and 7750 ms, and then every 10 s.
    assert_eq!(running.ticks_within(Duration::from_millis(7_751)).await, 6);
    assert_eq!(running.ticks_within(INTERVAL * 10).await, 10);
    let why = running.health.check(running.clock.monotonic()).unwrap_err();
    assert!(why.starts_with("failed to read Secret pure-chaos/webhook-tls: "), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_comes_a_moment_later_is_met_soon() {
    let running = start(Fake::default());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(running.fake.secret(SERVING_SECRET).is_some(), "the webhook need not wait for it");
    assert!(!running.ready());
    running.fake.put_configuration(&["kill.purechaos.dev"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(running.ready());
    assert!(!running.fake.bundles()[0].is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_swap_comes_when_it_is_due_not_an_interval_later() {
    let fake = Fake::default();
    fake.put_configuration(&["kill.purechaos.dev"]);
    let running = start(fake);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let leaf = || running.fake.data(SERVING_SECRET).unwrap()["tls.crt"].clone();
    let before = leaf();
    running.fake.delete_secret(crate::api::secrets::CA_SECRET);
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(leaf(), before, "a new CA, not yet settled");
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    assert_ne!(leaf(), before);
}

#[tokio::test(start_paused = true)]
async fn readiness_goes_after_three_intervals_without_a_good_tick() {
    let fake = Fake::default();
    fake.put_configuration(&["kill.purechaos.dev"]);
    let running = start(fake);
    tokio::time::sleep(Duration::from_millis(1)).await;
    running.fake.fail("GET", "/certs-ca", 1_000, Answer::Status(500, Value::Null));
    tokio::time::sleep(INTERVAL * 3 - Duration::from_millis(2)).await;
    assert!(running.ready());
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(!running.ready());
}
