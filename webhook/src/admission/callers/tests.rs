use super::*;
use certs::path::segment::Keys;
use prometheus::{Registry, TextEncoder};
use runtime::clock::TokioClock;
use serde_json::json;

struct App {
    clock: Arc<TokioClock>,
    keys: Keys,
    registry: Registry,
    callers: Callers,
}

fn app() -> App {
    let clock = Arc::new(TokioClock::starting_at("2026-11-23T12:00:00Z".parse().unwrap()));
    let (keys, ring) = (Keys::of([1; 32], [2; 32]), Arc::new(Keyring::default()));
    ring.set(keys.clone());
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    App { clock: clock.clone(), keys, registry, callers: Callers::new(ring, clock, metrics) }
}

impl App {
    /// Returns the path that `certs` would inject now.
    fn path(&self) -> String {
        self.keys.path("opt-in", self.clock.wall())
    }

    fn stands(&self, path: &str) {
        let webhook = json!({"name": "opt-in.purechaos.dev", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "webhook", "namespace": "pure-chaos", "path": path}}});
        let configuration = json!({"metadata": {"name": "pure-chaos"}, "webhooks": [webhook]});
        self.callers.configuration(Some(&serde_json::from_value(configuration).unwrap()));
    }

    fn accepts(&self, path: &str) -> bool {
        self.callers.rule_of(path).is_some()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn only_a_path_of_the_keys_is_known_and_only_for_its_rule() {
    let app = app();
    let path = app.path();
    assert_eq!(app.callers.rule_of(&path), Some(Rule::OptIn));
    assert_eq!(app.callers.rule_of(&app.keys.path("kill", app.clock.wall())), Some(Rule::Kill));
    let segment = path.strip_prefix("/opt-in/").unwrap();
    let foreign = Keys::of([3; 32], [4; 32]).path("opt-in", app.clock.wall());
    let others = [
        format!("/kill/{segment}"),
        format!("/other/{segment}"),
        format!("{path}/"),
        format!("/{path}"),
        foreign,
    ];
    for other in others.iter().map(String::as_str).chain(["", "/", "/opt-in", "/opt-in/", "/kill/0-0"]) {
        assert_eq!(app.callers.rule_of(other), None, "{other}");
    }
    let keyless = Callers::new(Arc::default(), app.clock.clone(), Metrics::new(&Registry::new()).unwrap());
    assert_eq!(keyless.rule_of(&path), None, "before the keys are there");
}

#[tokio::test(start_paused = true)]
async fn a_path_that_was_replaced_is_worth_nothing_a_minute_later() {
    let app = app();
    let old = app.path();
    app.stands(&old);
    pass(300).await;
    assert!(app.accepts(&old), "it stands");
    let new = app.path();
    assert!(app.accepts(&new), "an API server may see it first");
    app.stands(&new);
    pass(GRACE.as_secs()).await;
    assert!(app.accepts(&old) && app.accepts(&new));
    pass(1).await;
    assert!(!app.accepts(&old) && app.accepts(&new));
    // If the configuration is gone, or is back in an old state, the same rules apply.
    app.callers.configuration(None);
    assert!(app.accepts(&new));
    pass(GRACE.as_secs() + 1).await;
    assert!(!app.accepts(&new));
    app.stands(&old);
    assert!(app.accepts(&old) && !app.accepts(&new));
}

#[tokio::test(start_paused = true)]
async fn one_that_never_stood_and_is_older_than_what_stands_is_refused() {
    let app = app();
    let seen_by_a_user = app.path();
    pass(300).await;
    app.stands(&app.path());
    assert!(!app.accepts(&seen_by_a_user));
}

#[tokio::test(start_paused = true)]
async fn while_certs_is_away_the_path_that_stands_lasts_for_an_hour() {
    let app = app();
    let path = app.path();
    app.stands(&path);
    pass(LONGEST.as_secs()).await;
    assert!(app.accepts(&path));
    pass(1).await;
    assert!(!app.accepts(&path));
    let ahead = app.keys.path("opt-in", app.clock.wall().checked_add(LONGEST * 2).unwrap());
    assert!(!app.accepts(&ahead));
}

#[tokio::test(start_paused = true)]
async fn those_turned_away_are_counted() {
    let app = app();
    for _ in 0..3 {
        app.callers.turned_away();
    }
    let text = TextEncoder::new().encode_to_string(&app.registry.gather()).unwrap();
    assert!(text.contains("\npure_chaos_unauthenticated_requests_total 3"), "{text}");
}
