//! The agent's own page after rounds, in virtual time against a fake API in this process.

use std::time::Duration;

use agent::controller::halt::observe_halt;
use agent::status_page::{LeaderStatus, page};
use policy::platform::PlatformPolicy;
use prometheus::Registry;
use runtime::clock::Clock;
use serde_json::json;
use tests::fake_api::Answer;
use tests::stage::{NAMESPACE, RECORD, SYSTEM, Stage, first_round, pass, play, pod};

fn shown(stage: &Stage) -> String {
    page(&LeaderStatus::Leads, &stage.activity_log.snapshot(), stage.clock.wall(), true)
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
        has(&html, "in 4 min 43 s, <time datetime=\"2026-11-23T12:04:44Z\">");
        has(&html, "This agent has made no decision since it became the leader.");

        first_round().await;
        let (victim, html) = (stage.victim(), shown(&stage));
        has(&html, "Pending recoveries: 1");
        has(&html, "1, 1 still recovering");
        let row =
            "<td role=\"cell\" data-of=\"Workload\">Deployment web</td><td role=\"cell\" data-of=\"Pod\">";
        has(&html, &format!("{row}{victim}</td>"));
        has(&html, "mode evict");

        stage.api.remove(&pod(&victim));
        pass(Duration::from_secs(2)).await;
        stage.add_pod("p4", true);
        pass(Duration::from_secs(1)).await;
        let html = shown(&stage);
        has(&html, "Pending recoveries: 0");
        has(&html, "1 recovered within ");
        has(&html, "s after the kill");
        let words: Vec<&str> =
            stage.activity_log.snapshot().decisions.iter().map(|line| line.last.what.word()).collect();
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
        has(&html, "<td role=\"cell\" data-of=\"Workload\">Deployment web</td>");

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
        has(&html, "Pending recoveries: 0");
        has(&html, ">opted out</span>");
        has(&html, ">killed</span>");
    });
}

#[test]
fn after_a_restart_what_is_pending_is_there_again() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let victim = stage.victim();
        stage.stop().await;
        stage.start();
        pass(Duration::from_secs(3)).await;
        let html = shown(&stage);
        has(&html, "Pending recoveries: 1");
        has(&html, &victim);
        has(&html, "1, 1 still recovering");
        has(&html, "3 s ago, <time datetime=\"2026-11-23T12:04:44Z\">");
        has(&html, "This agent has made no decision since it became the leader.");

        stage.replace(&victim, "p4");
        pass(Duration::from_secs(6)).await;
        let html = shown(&stage);
        has(&html, "<dd>1 recovered after restart</dd>");
        has(&html, "1 recovered, not measured because the agent or its watch restarted");
        has(&html, "its watch of the Pods restarted before the recovery, so the time is not known");
    });
}

#[test]
fn a_halt_of_everything_stands_above_all_else_until_it_ends() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        tokio::spawn(observe_halt(stage.context(&Registry::new()), stage.end.clone()));
        pass(Duration::from_secs(2)).await;
        has(&shown(&stage), "Not halted.");
        stage.api.change(SYSTEM, |system| {
            system["metadata"]["annotations"]["purechaos.dev/halt"] = "incident 4711".into();
        });
        pass(Duration::from_secs(2)).await;
        let html = shown(&stage);
        has(&html, "Halted: nothing is killed in any namespace.");
        has(&html, "incident 4711");
        stage.api.change(SYSTEM, |system| system["metadata"]["annotations"] = json!({}));
        pass(Duration::from_secs(2)).await;
        has(&shown(&stage), "Not halted.");
    });
}

#[test]
fn changed_settings_are_shown_before_the_next_round() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        has(&shown(&stage), "<b>active</b></p>");
        stage.replace(&stage.victim(), "p4");
        stage.opt_in(&[
            ("chaos", "yes"),
            ("purechaos.dev/dry-run", "true"),
            ("purechaos.dev/active-hours", "Mon-Fri 09:00-17:00 Europe/Berlin"),
        ]);
        pass(Duration::from_secs(1)).await;
        let html = shown(&stage);
        has(&html, "<b>dry run</b>: waiting for the next round");
        has(&html, "<dd>evict, dry run</dd>");
        has(&html, "<dt>Active hours</dt><dd>Mon-Fri 09:00-17:00 Europe/Berlin</dd>");
        pass(Duration::from_secs(660)).await;
        let html = shown(&stage);
        has(&html, "<b>dry run</b>: the round would have killed: p");
        has(&html, "would have been killed, mode evict");
    });
}

#[test]
fn a_slot_without_a_round_is_told_of() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.policy = PlatformPolicy::parse("ceilings: {schedule: every 1m}").unwrap();
        // This instant is half a minute after the first slot.
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/also-at", "2026-11-23T12:05:14Z")]);
        stage.start();
        first_round().await;
        pass(Duration::from_secs(31)).await;
        let html = shown(&stage);
        has(&html, ">skipped</span>");
        has(
            &html,
            "slot 12:05:14 UTC: the round came less than the platform's shortest interval after the last one",
        );
        assert_eq!(stage.api.kills().len(), 1);
    });
}

#[test]
fn who_opts_in_anew_gets_a_card_without_the_past() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let victim = stage.victim();
        // The first opt-in's task takes its time to end.
        stage.api.fail("GET", NAMESPACE, 1, Answer::After(Duration::from_secs(8)));
        stage.api.remove(RECORD);
        pass(Duration::from_secs(1)).await;
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 20m")]);
        stage.api.change(RECORD, |record| {
            record["metadata"]["uid"] = "another".into();
            record["spec"]["admission"]["user"] = "kim".into();
        });
        pass(Duration::from_secs(20)).await;
        let html = shown(&stage);
        has(&html, "<dd>kim</dd>");
        has(&html, "<dd>every 20m</dd>");
        has(&html, "<dt>Kills</dt><dd>0</dd>");
        has(&html, "this agent has seen none yet");
        has(&html, "Pending recoveries: 0");
        has(&html, &format!("Pod {victim}"));
        assert!(!html.contains("mara"), "{html}");
        let next = stage.metric("pure_chaos_next_slot_timestamp_seconds{target_namespace=\"a\"}").unwrap();
        assert!(next > stage.clock.wall().as_second() as f64, "{next}");
    });
}
