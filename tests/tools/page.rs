//! The agent's own page as people see it: in Debian's Chromium, light and dark, on a phone, without
//! script, and with markup in every text that people write. This process serves the page, and no
//! cluster is asked.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use agent::recovery::{Recovery, RecoveryOutcome};
use agent::refusal::Refusal;
use agent::status::StatusWriter;
use agent::status_page::{Sources, router};
use agent::telemetry::activity::{ActivityLog, Decision, DecisionKind, EndedLine};
use jiff::Timestamp;
use policy::record::{OptIn, Pending, WorkloadReference};
use runtime::clock::{Clock, TokioClock};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::cluster::run;
use tests::fake_api::Api;
use tests::repository::root;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::Instant;

/// What people could write into an annotation, a user's name or a halt: markup, and more of it than
/// fits in a line.
const MARKUP: &str = "\"'><script>document.title = 'taken over'</script><img src=x onerror=document.title=1><style>*{display:none}</style>";

/// The width of a phone, in CSS pixels.
const PHONE: u64 = 360;
/// WCAG 2.2, level AA: the contrast of text, and of other parts that carry information.
const TEXT_CONTRAST: f64 = 4.5;
const SHAPE_CONTRAST: f64 = 3.0;

/// A script that returns the lowest contrast of text and of bars, each with its element, and how
/// many of both it looked at.
const CONTRAST: &str = include_str!("contrast.js");

fn record(name: &str, user: &str, schedule: &str, state: &str, sentence: &str, kills: i64) -> OptIn {
    serde_json::from_value(json!({
        "apiVersion": "purechaos.dev/v1alpha1",
        "kind": "OptIn",
        "metadata": {"name": "chaos", "namespace": name},
        "spec": {
            "namespaceUid": "u1",
            "verdict": "Admitted",
            "admission": {"user": user, "time": "2026-11-23T10:00:00Z", "digest": "d", "setBy": "kubectl-annotate"},
            "settings": {"schedule": schedule, "mode": "evict", "limit": 1, "minAge": "1m", "dryRun": false},
        },
        "status": {
            "state": state,
            "kills": kills,
            "conditions": [{
                "type": "Active", "status": "True", "reason": "State", "message": sentence,
                "lastTransitionTime": "2026-11-23T10:00:00Z",
            }],
        },
    }))
    .unwrap()
}

fn workload(kind: &str, name: &str) -> WorkloadReference {
    WorkloadReference { kind: kind.to_owned(), name: name.to_owned(), uid: name.to_owned() }
}

fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// A day of a few namespaces.
fn activity_log(clock: &TokioClock) -> ActivityLog {
    let (activity_log, now, client) = (ActivityLog::default(), clock.wall(), Api::default().client());
    let ago = |seconds| now - Duration::from_secs(seconds);
    activity_log.set_halt(None);
    let owner = format!("{MARKUP}{}", "x".repeat(300));
    let refused = "no Pod could be killed: 2 single_replica, 1 too_young";
    for (name, user, schedule, state, sentence, kills, next) in [
        ("learning-place", "mara@example.com", "every 10m", "active", "", 412, 288),
        (
            "payments-of-the-western-region-staging",
            "system:serviceaccount:flux:deployer",
            "cron 0 9-17 * * Mon-Fri",
            "single_replica, too_young",
            refused,
            7,
            3_300,
        ),
        ("search", &owner, MARKUP, MARKUP, MARKUP, 0, 90_000),
    ] {
        activity_log.begin(name);
        let record = record(name, user, schedule, state, sentence, kills);
        activity_log.show(
            name,
            &record,
            &StatusWriter::new(&client, name, &record),
            Some(now + Duration::from_secs(next)),
        );
    }
    for (outcome, millis) in [
        (RecoveryOutcome::Recovered, Some(2_100)),
        (RecoveryOutcome::Recovered, Some(3_400)),
        (RecoveryOutcome::TimedOut, None),
        (RecoveryOutcome::RolledOut, None),
        (RecoveryOutcome::Recovered, Some(9_800)),
        (RecoveryOutcome::Recovered, Some(2_300)),
    ] {
        activity_log
            .ended("learning-place", EndedLine { outcome, duration: millis.map(Duration::from_millis) });
    }
    let pending = [
        ("web-7d9f8b6c5d-x2k4q", workload("Deployment", "web"), 4),
        ("db-0", workload("StatefulSet", MARKUP), 71),
    ];
    let pending = pending.map(|(pod, workload, seconds)| {
        let left = Pending {
            pod: pod.to_owned(),
            uid: pod.to_owned(),
            workload,
            time: ago(seconds).to_string(),
            steady_state: 3,
            others: Vec::new(),
            node: None,
            deadline: None,
            checks: Vec::new(),
        };
        Recovery::resume(&left, Duration::from_secs(300), now, clock.monotonic()).unwrap()
    });
    activity_log.set_pending("learning-place", pending.iter());
    let rounds = [
        (DecisionKind::Ended(RecoveryOutcome::TimedOut), "Deployment cart", "cart-5c6d8f7b9-zz2tw", ""),
        (DecisionKind::DryRun, "StatefulSet status_writer", "status_writer-1", "mode evict"),
        (
            DecisionKind::Failed(Some("server_error")),
            "Deployment web",
            "web-7d9f8b6c5d-9h8g7",
            "the API server gave no answer within 10 s",
        ),
        (
            DecisionKind::Refused(Refusal::SingleReplica.label()),
            "Deployment front and 3 more",
            "",
            Refusal::SingleReplica.meaning(),
        ),
        (DecisionKind::Refused(Refusal::BlockedByPdb.label()), MARKUP, MARKUP, MARKUP),
        (DecisionKind::Nothing, "", "", "there are no Pods"),
        (
            DecisionKind::Ended(RecoveryOutcome::Recovered),
            "Deployment web",
            "web-7d9f8b6c5d-abcde",
            "2.3 s after the kill",
        ),
        (DecisionKind::Killed, "Deployment web", "web-7d9f8b6c5d-abcde", "mode evict"),
    ];
    // Enough decisions for a full page, although the page counts those that did nothing in one
    // line.
    for (at, (what, workload, pod, sentence)) in (0..).zip(rounds.into_iter().cycle().take(160)) {
        activity_log.decide(Decision {
            at: ago(4 * (160 - at)),
            namespace: "learning-place".to_owned(),
            workload: workload.to_owned(),
            pod: pod.to_owned(),
            what,
            sentence: sentence.to_owned(),
        });
    }
    activity_log
}

/// Serves the page of that activity_log. Returns its address, the time until which this process leads, and
/// the other leader.
fn serve(
    runtime: &Runtime,
    activity_log: ActivityLog,
    clock: TokioClock,
) -> (String, watch::Sender<Option<Instant>>, watch::Sender<Option<String>>) {
    let until = watch::Sender::new(Some(clock.monotonic() + Duration::from_secs(3_600)));
    let other = watch::Sender::new(None);
    let sources = Sources {
        activity_log,
        leadership: until.subscribe().into(),
        synced: Arc::new(true.into()),
        clock: Arc::new(clock),
        other: other.subscribe(),
    };
    let address = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router(sources)).await.unwrap() });
        address
    });
    (address, until, other)
}

fn be(browser: &mut Browser, width: u64, scheme: &str) {
    let size = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == PHONE});
    browser.call("Emulation.setDeviceMetricsOverride", size);
    let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
    browser.call("Emulation.setEmulatedMedia", json!({"features": features}));
}

/// What has to hold of the page in any light and at any width.
fn check(browser: &mut Browser, width: u64, scheme: &str) {
    let what = format!("{scheme}, {width} wide");
    let ground = browser.look("getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, if scheme == "dark" { "rgb(15, 19, 24)" } else { "rgb(255, 255, 255)" }, "{what}");
    let needed = browser.look("document.documentElement.scrollWidth").as_u64().unwrap();
    assert!(needed <= width, "{what}: {needed} is needed");
    let inner = "[...document.querySelectorAll('.scrolls')].filter(part => part.scrollWidth > part.clientWidth).length";
    if width == PHONE {
        assert_eq!(browser.look(inner), 0, "{what}: nor does a table scroll sideways on a phone");
    }
    let contrast = browser.look(CONTRAST);
    let least = |of: &str| contrast[of][0].as_f64().unwrap();
    assert!(least("text") >= TEXT_CONTRAST, "{what}: {contrast}");
    assert!(least("shape") >= SHAPE_CONTRAST, "{what}: {contrast}");
    assert!(contrast["texts"].as_u64() > Some(300) && contrast["shapes"] == 6, "{what}: {contrast}");
    assert_eq!(browser.complaints(), Vec::<&Value>::new(), "{what}");
}

fn text(browser: &mut Browser) -> String {
    browser.look("document.body.innerText").as_str().unwrap().to_owned()
}

#[test]
fn it_can_be_read_light_and_dark_on_a_phone_and_without_script() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let clock = TokioClock::starting_at(noon());
    let activity_log = activity_log(&clock);
    let (address, until, other) = serve(&runtime, activity_log.clone(), clock);
    let mut browser = Browser::start();
    for width in [1_100, 700, PHONE] {
        for scheme in ["light", "dark"] {
            be(&mut browser, width, scheme);
            browser.open(&address);
            check(&mut browser, width, scheme);
        }
    }
    let shown = text(&mut browser);
    for words in [
        "Not halted.",
        "mara@example.com",
        "every 10m",
        "4 recovered within 9.8 s; 1 timed out; 1 ended in another outcome",
        "single_replica: ",
        "Deployment front and 3 more",
        MARKUP,
    ] {
        assert!(shown.contains(words), "{words} is missing in:\n{shown}");
    }
    let foreign = "document.querySelectorAll('script, img, style, [onerror]').length";
    assert_eq!((browser.look("document.title"), browser.look(foreign)), (json!("Pure Chaos"), json!(0)));

    // Without script the page is the same. The test first checks that script is really off.
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": true}));
    browser.open("data:text/html,<title>as sent</title><script>document.title = 'changed'</script>");
    assert_eq!(browser.look("document.title"), "as sent");
    browser.open(&address);
    check(&mut browser, PHONE, "dark");
    assert_eq!(lines_without_times(&text(&mut browser)), lines_without_times(&shown));

    activity_log.set_halt(Some(MARKUP));
    browser.open(&address);
    let shown = text(&mut browser);
    assert!(
        shown.contains("Halted: nothing is killed in any namespace.") && shown.contains(MARKUP),
        "{shown}"
    );

    // A process that has lost the Lease shows nothing of what it knew.
    until.send_replace(None);
    other.send_replace(Some("agent-7".to_owned()));
    browser.open(&address);
    let shown = text(&mut browser);
    assert!(shown.contains("This agent stands by.") && shown.contains("agent-7 leads"), "{shown}");
    assert!(!shown.contains("learning-place"), "{shown}");
    assert_eq!(browser.complaints(), Vec::<&Value>::new());
}

/// How often each line appears. Lines with a time are left out.
fn lines_without_times(shown: &str) -> BTreeMap<&str, usize> {
    let mut lines = BTreeMap::new();
    for line in shown.lines().filter(|line| !line.contains(" ago") && !line.contains("UTC")) {
        *lines.entry(line).or_default() += 1;
    }
    lines
}

/// Width and height from the header of a PNG.
fn size(picture: &[u8]) -> (u32, u32) {
    assert_eq!(&picture[1..4], b"PNG");
    let number = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn pictures_of_it_are_taken_light_and_dark() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let clock = TokioClock::starting_at(noon());
    let (address, _until, _other) = serve(&runtime, activity_log(&clock), clock);
    let [light, dark] = ["light", "dark"].map(|scheme| {
        // The picture stays there for people who want to look at it.
        let file = format!("{}/page-{scheme}.png", env!("CARGO_TARGET_TMPDIR"));
        let script = root().join("tests/screenshot.sh");
        run(Command::new(script).args([&address, &file, "1100x900", scheme])).succeeds();
        std::fs::read(file).unwrap()
    });
    assert_eq!((size(&light), size(&dark)), ((1_100, 900), (1_100, 900)));
    assert_ne!(light, dark, "the page follows the reader's colours");

    let script = root().join("tests/screenshot.sh");
    let file = format!("{}/page-of-nobody.png", env!("CARGO_TARGET_TMPDIR"));
    run(Command::new(script).args(["http://127.0.0.1:1/", &file])).fails_with("Failed to connect");
    assert!(!std::path::Path::new(&file).exists());
}
