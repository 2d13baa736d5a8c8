use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use runtime::clock::TokioClock;
use tower::ServiceExt;

use super::*;
use crate::recovery::RecoveryOutcome;
use crate::refusal::Refusal;
use crate::telemetry::activity::{
    DECISIONS, DecisionKind, DecisionLine, EndedLine, NamespaceLine, PendingLine,
};

fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn decision(what: DecisionKind, sentence: &str) -> Decision {
    Decision {
        at: noon(),
        namespace: "shop".to_owned(),
        workload: "Deployment web".to_owned(),
        pod: "web-1".to_owned(),
        what,
        sentence: sentence.to_owned(),
    }
}

fn leading(activity_log: &Snapshot) -> String {
    page(&LeaderStatus::Leads, activity_log, noon(), true)
}

/// Text with markup, as a user could write it. The function below puts it into every text of a
/// page, and counts them.
const MARKUP: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;]]>--><style>";

fn hostile() -> (Snapshot, usize) {
    let text = || MARKUP.to_owned();
    let line = NamespaceLine {
        opted_in_by: text(),
        settings: vec![("Schedule", text()), ("Expires", text())],
        last_slot: Some(noon()),
        next_slot: Some(noon()),
        state: text(),
        sentence: text(),
        kills: 1,
        outcomes: text(),
        hypotheses: text(),
        pending: vec![PendingLine { workload: text(), pod: text(), since: noon() }],
        recoveries: [EndedLine {
            outcome: RecoveryOutcome::Recovered,
            duration: Some(Duration::from_secs(1)),
        }]
        .into(),
    };
    let decision = |what| {
        DecisionLine::from(Decision {
            at: noon(),
            namespace: text(),
            workload: text(),
            pod: text(),
            what,
            sentence: text(),
        })
    };
    let activity_log = Snapshot {
        halt: Halt::Yes(text()),
        namespaces: [(text(), line.into())].into(),
        decisions: [decision(DecisionKind::Killed), decision(DecisionKind::Refused("too_young"))].into(),
    };
    // The count: the halt; of the namespace its name, user, two settings, state, sentence,
    // outcomes and hypotheses; of the pending recovery the namespace, workload and Pod; four texts of each
    // decision.
    (activity_log, 1 + 8 + 3 + 2 * 4)
}

#[test]
fn markup_in_what_users_control_is_text() {
    let (activity_log, texts) = hostile();
    let html = leading(&activity_log);
    let escaped = html
        .matches("&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;&amp;amp;]]&gt;");
    assert_eq!(escaped.count(), texts, "{html}");
    assert_eq!(html.matches("&quot;'&gt;").count(), texts, "{html}");
    for tag in ["<script", "<img", "alert(1)<"] {
        assert!(!html.contains(tag), "{tag} in {html}");
    }
    assert!(!html.contains("<style"), "{html}");
    let html = page(&LeaderStatus::StandsBy(Some(MARKUP.to_owned())), &Snapshot::default(), noon(), true);
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script"), "{html}");
}

#[test]
fn a_namespace_and_what_was_decided_there() {
    let line = NamespaceLine {
        opted_in_by: "mara".to_owned(),
        settings: vec![("Schedule", "every 10m".to_owned()), ("Mode", "evict, dry run".to_owned())],
        last_slot: Some(noon() - Duration::from_secs(300)),
        next_slot: Some(noon() + Duration::from_secs(300)),
        state: "active".to_owned(),
        sentence: String::new(),
        kills: 4_711,
        outcomes: "4700 recovered, 10 timed out".to_owned(),
        hypotheses: "web-answers held 4709× broke 1×".to_owned(),
        pending: vec![PendingLine {
            workload: "Deployment web".to_owned(),
            pod: "web-2".to_owned(),
            since: noon() - Duration::from_secs(7),
        }],
        recoveries: [EndedLine {
            outcome: RecoveryOutcome::Recovered,
            duration: Some(Duration::from_millis(840)),
        }]
        .into(),
    };
    let young = Refusal::TooYoung;
    let decisions = [
        decision(DecisionKind::Killed, "mode evict"),
        decision(DecisionKind::Refused(young.label()), young.meaning()),
        decision(DecisionKind::Failed(None), "the API server is away"),
    ];
    let mut decisions = decisions.map(DecisionLine::from);
    decisions[2] =
        DecisionLine { times: 3, since: noon() - Duration::from_secs(1_200), ..decisions[2].clone() };
    let activity_log = Snapshot {
        halt: Halt::No,
        namespaces: [("shop".to_owned(), line.into())].into(),
        decisions: decisions.into(),
    };
    let html = leading(&activity_log);
    for words in [
        "Not halted.",
        "<h3>shop</h3>",
        "<dd>mara</dd>",
        "<dt>Schedule</dt><dd>every 10m</dd>",
        "<dt>Mode</dt><dd>evict, dry run</dd>",
        "5 min ago, <time datetime=\"2026-11-23T11:55:00Z\">2026-11-23 11:55:00 UTC</time>",
        "in 5 min 0 s, <time datetime=\"2026-11-23T12:05:00Z\">2026-11-23 12:05:00 UTC</time>",
        "4711, 1 still recovering",
        "<dd>4700 recovered, 10 timed out</dd>",
        "<td role=\"cell\" data-of=\"Pod\">web-2</td><td role=\"cell\" data-of=\"Killed\">7 s ago</td>",
        "<title>0.8 s</title>",
        "<code>too_young</code>: the Pod is younger than <code>min-age</code>",
        "the API server is away<br><span class=\"quiet\">3 times since <time datetime=\"2026-11-23T11:40:00Z\">",
    ] {
        assert!(html.contains(words), "{words} is missing in {html}");
    }
}

#[test]
fn at_the_beginning_it_says_that_there_is_nothing_yet() {
    let html = leading(&Snapshot::default());
    for words in [
        "This agent has not checked yet whether everything is halted.",
        "Namespaces that opted in: 0",
        "kubectl annotate namespace NAME chaos=yes",
        "Pending recoveries: 0",
        "This agent has made no decision since it became the leader.",
    ] {
        assert!(html.contains(words), "{words} is missing in {html}");
    }
    assert!(!html.contains("<table"), "{html}");
}

#[test]
fn a_standby_says_who_leads_and_shows_nothing_of_its_own() {
    let (activity_log, _) = hostile();
    let html =
        page(&LeaderStatus::StandsBy(Some("agent-7_0badcafe".to_owned())), &activity_log, noon(), true);
    assert!(
        html.contains("This agent stands by.") && html.contains("<b>agent-7_0badcafe</b> leads"),
        "{html}"
    );
    assert!(html.contains("kubectl -n pure-chaos port-forward pod/agent-7 9090"), "{html}");
    assert!(html.contains("<title>Pure Chaos</title>"), "what it knows of a halt may be old: {html}");
    assert!(!html.contains("<article") && !html.contains("alert"), "{html}");
    let html = page(&LeaderStatus::StandsBy(None), &activity_log, noon(), true);
    assert!(html.contains("This agent does not know which agent leads."), "{html}");
}

#[test]
fn it_is_bounded_however_much_there_is() {
    let activity_log = ActivityLog::default();
    for n in 0..1_000 {
        activity_log.begin(&format!("namespace-{n}"));
        activity_log.decide(decision(DecisionKind::Killed, &"x".repeat(100_000)));
    }
    let mut activity_log = activity_log.snapshot();
    let line = |n: usize| PendingLine {
        workload: "Deployment db".to_owned(),
        pod: format!("db-{n}"),
        since: noon(),
    };
    Arc::make_mut(activity_log.namespaces.get_mut("namespace-0").unwrap()).pending =
        (0..CARDS + 7).map(line).collect();
    let html = leading(&activity_log);
    assert_eq!(html.matches("<article>").count(), CARDS);
    assert!(html.contains("And 900 more. To see all, run: "), "{html}");
    assert!(html.contains("Pending recoveries: 107"), "{html}");
    assert_eq!(html.matches("Deployment db").count(), CARDS);
    assert!(html.contains("And 7 more."), "{html}");
    assert_eq!(html.matches("Pod web-1").count(), DECISIONS);
    assert!(html.len() < 250_000, "{} bytes", html.len());
}

/// What the page of a process needs. If `leads` is true, the process leads for 15 s.
fn sources(leads: bool) -> Sources {
    let clock = TokioClock::starting_at(noon());
    let until = leads.then(|| clock.monotonic() + Duration::from_secs(15));
    let activity_log = ActivityLog::default();
    activity_log.begin("shop");
    Sources {
        activity_log,
        leadership: watch::channel(until).1.into(),
        synced: Arc::new(AtomicBool::new(true)),
        clock: Arc::new(clock),
        other: watch::channel((!leads).then(|| "agent-7".to_owned())).1,
    }
}

async fn ask(sources: Sources, method: &str, path: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = router(sources).oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn it_may_load_its_stylesheet_and_run_nothing() {
    for (path, content_type, begins) in [
        ("/", "text/html; charset=utf-8", "<!DOCTYPE html>"),
        ("/style.css", "text/css; charset=utf-8", ":root {"),
    ] {
        let (status, headers, body) = ask(sources(true), "GET", path).await;
        assert_eq!(status, StatusCode::OK);
        for (name, value) in [
            ("content-type", content_type),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
            (
                "content-security-policy",
                "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                 frame-ancestors 'none'",
            ),
        ] {
            assert_eq!(headers[name], value, "{name} of {path}");
        }
        assert!(body.starts_with(begins), "{body}");
        for what in ["<script", "style=", "http://", "https://", "<form", "url(", "@import"] {
            assert!(!body.contains(what), "{what} in {body}");
        }
    }
}

#[tokio::test]
async fn it_reloads_itself_unless_it_is_held_still() {
    let refresh = "<meta http-equiv=\"refresh\" content=\"10\">";
    for (path, reloads, link) in [("/", true, "href=\"?still\""), ("/?still", false, "href=\"?\"")] {
        let (status, _, html) = ask(sources(true), "GET", path).await;
        assert_eq!((status, html.contains(refresh)), (StatusCode::OK, reloads), "{path}: {html}");
        assert!(html.contains(link), "{path}: {html}");
    }
}

#[test]
fn a_halt_is_in_the_title() {
    let html = leading(&Snapshot { halt: Halt::Yes("incident".to_owned()), ..Snapshot::default() });
    assert!(html.contains("<title>Pure Chaos: halted</title>"), "{html}");
}

#[tokio::test]
async fn it_is_only_read() {
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in ["/", "/style.css"] {
            let (status, ..) = ask(sources(true), method, path).await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        }
    }
    assert_eq!(ask(sources(true), "HEAD", "/").await.0, StatusCode::OK);
}

#[tokio::test]
async fn before_the_records_have_been_listed_it_does_not_say_that_there_are_none() {
    let sources = Sources { synced: Arc::default(), ..sources(true) };
    let (.., html) = ask(sources, "GET", "/").await;
    assert!(html.contains("just become the leader") && !html.contains("opted in: "), "{html}");
}

#[tokio::test(start_paused = true)]
async fn what_was_known_is_shown_no_longer_once_the_lease_is_lost() {
    let (.., html) = ask(sources(false), "GET", "/").await;
    assert!(html.contains("<b>agent-7</b> leads") && !html.contains("shop"), "{html}");

    let sources = sources(true);
    let (.., html) = ask(sources.clone(), "GET", "/").await;
    assert!(html.contains("<h3>shop</h3>") && !html.contains("stands by"), "{html}");
    tokio::time::advance(Duration::from_secs(16)).await;
    let (.., html) = ask(sources, "GET", "/").await;
    assert!(html.contains("This agent stands by.") && !html.contains("shop"), "{html}");
}
