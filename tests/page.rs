//! The agent's own page after rounds against an API in this process, in virtual time.

use std::time::Duration;

use agent::page::{Standing, page};
use runtime::clock::Clock;
use tests::stage::{NAMESPACE, RECORD, Stage, first_round, pass, play, pod};

fn shown(stage: &Stage) -> String {
    page(&Standing::Leads, &stage.board.snapshot(), stage.clock.wall())
}

fn has(html: &str, words: &str) {
    assert!(html.contains(words), "{words} is missing in {html}");
}

#[test]
fn a_kill_is_pending_until_it_has_recovered() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(Duration::from_secs(1)).await;
        let html = shown(&stage);
        has(&html, "Namespaces that opted in: 1");
        has(&html, "<dd>mara</dd>");
        has(&html, "<dd>every 10m</dd>");
        has(&html, "in 4 min, <time datetime=\"2026-11-23T12:04:44Z\">");
        has(&html, "None since this agent leads.");

        first_round().await;
        let (victim, html) = (stage.victim(), shown(&stage));
        has(&html, "Recoveries that are pending: 1");
        has(&html, "1, 1 of them not recovered from yet");
        has(&html, &format!("<td data-of=\"Workload\">Deployment web</td><td data-of=\"Pod\">{victim}</td>"));
        has(&html, "mode evict");

        stage.api.remove(&pod(&victim));
        pass(Duration::from_secs(2)).await;
        stage.add_pod("p4", true);
        pass(Duration::from_secs(1)).await;
        let html = shown(&stage);
        has(&html, "Recoveries that are pending: 0");
        has(&html, "1 recovered, in ");
        has(&html, "s after the kill");
        let words: Vec<&str> =
            stage.board.snapshot().decisions.iter().map(|decision| decision.what.word()).collect();
        assert_eq!(words, ["recovered", "killed"], "newest first");
    });
}

#[test]
fn refusals_come_with_their_reasons() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.change("/api/v1/namespaces/a/pods/p1", |pod| {
            pod["status"]["conditions"][0]["status"] = "False".into();
        });
        stage.start();
        first_round().await;
        let html = shown(&stage);
        has(&html, "<code>below_desired</code>: the workload has fewer Ready Pods than it wants");
        has(&html, "<td data-of=\"Of what\">Deployment web</td>");

        stage.api.change(NAMESPACE, |namespace| {
            namespace["metadata"]["annotations"]["purechaos.dev/halt"] = "<b>incident</b> 4711".into();
        });
        pass(Duration::from_secs(660)).await;
        let html = shown(&stage);
        has(&html, "<code>halted</code>: ");
        has(&html, "&lt;b&gt;incident&lt;/b&gt; 4711");
        assert!(!html.contains("<b>incident"), "{html}");
    });
}

#[test]
fn a_namespace_that_opted_out_leaves_the_page_and_its_decisions_stay() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        stage.api.remove(RECORD);
        pass(Duration::from_secs(10)).await;
        let html = shown(&stage);
        has(&html, "Namespaces that opted in: 0");
        has(&html, "Recoveries that are pending: 0");
        has(&html, ">opted out</span>");
        has(&html, ">killed</span>");
    });
}
