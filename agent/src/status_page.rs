//! The agent's status page at `/`, for people who don't have Prometheus at hand. The server renders
//! it without scripts. The page only shows data and changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use policy::well_known::{LEASE, SYSTEM_NAMESPACE};
use runtime::clock::Clock;
use tokio::sync::watch;

use crate::leader_election::lease::Leadership;
use crate::telemetry::activity::{ActivityLog, Decision, DecisionLine, Halt, PendingLine, Snapshot};

mod bars;
mod card;
mod markup;

use card::card;
use markup::{ago, marked};

/// How many namespaces get a card, and how many pending recoveries get a line. A page with
/// thousands of them would not help.
pub const CARDS: usize = 100;

/// The query for a page that does not reload. It helps people who read slowly or use a screen
/// reader.
const STILL: &str = "still";

const STYLE: &str = include_str!("status_page/style.css");

/// Allows only the stylesheet. Whatever the page contains, the browser loads, runs, frames and
/// sends nothing else. `data:` allows the empty icon; without an icon, browsers would request a
/// file that does not exist.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// What the page needs.
#[derive(Clone)]
pub struct Sources {
    /// The data that the tasks write.
    pub activity_log: ActivityLog,
    /// The clock, to say how long ago something happened.
    pub clock: Arc<dyn Clock>,
    /// Tells whether this process leads. A process that lost the Lease must not show its old data
    /// as current.
    pub leadership: Leadership,
    /// Whether this process has listed the records since it began to lead.
    pub synced: Arc<AtomicBool>,
    /// The other process that leads, as far as it is known.
    pub other: watch::Receiver<Option<String>>,
}

/// Whether this process leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderStatus {
    /// This process leads.
    Leads,
    /// This process leads, but has not listed the records yet.
    Begins,
    /// This process stands by. The value is the process that leads, if it is known.
    StandsBy(Option<String>),
}

/// The routes of the page and its stylesheet.
pub fn router(sources: Sources) -> Router {
    Router::new().route("/", get(show)).route("/style.css", get(style)).with_state(sources)
}

async fn show(State(sources): State<Sources>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let Sources { activity_log, clock, leadership, synced, other } = sources;
    let standing = match (leadership.holds(clock.monotonic()), synced.load(Ordering::Relaxed)) {
        (true, true) => LeaderStatus::Leads,
        (true, false) => LeaderStatus::Begins,
        (false, _) => LeaderStatus::StandsBy(other.borrow().clone()),
    };
    let reloads = query.as_deref() != Some(STILL);
    (headers("text/html; charset=utf-8"), page(&standing, &activity_log.snapshot(), clock.wall(), reloads))
}

async fn style() -> impl IntoResponse {
    (headers("text/css; charset=utf-8"), STYLE)
}

fn headers(content_type: &'static str) -> [(HeaderName, &'static str); 6] {
    [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ]
}

/// The page at `now` as HTML. `reloads` says whether the page reloads itself. The template escapes
/// every text.
#[must_use]
pub fn page(standing: &LeaderStatus, activity_log: &Snapshot, now: Timestamp, reloads: bool) -> String {
    let is_halted = *standing == LeaderStatus::Leads && matches!(activity_log.halt, Halt::Yes(_));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if reloads { meta http-equiv="refresh" content="10"; }
                title { "Pure Chaos" @if is_halted { ": halted" } }
                link rel="icon" href="data:,";
                // The path is relative, so that the page also finds the stylesheet behind the proxy
                // of the API server.
                link rel="stylesheet" href="style.css";
            }
            body {
                header {
                    h1 { "Pure Chaos" }
                    p.quiet {
                        "As of " (instant(now)) ". "
                        @if reloads {
                            "This page reloads every 10 s: " a href={ "?" (STILL) } { "stop reloading" }
                        }
                        @else { "This page does not reload: " a href="?" { "reload every 10 s" } }
                    }
                }
                main {
                    @match standing {
                        LeaderStatus::Leads => {
                            (halt(&activity_log.halt))
                            (namespaces(activity_log, now))
                            (pending(activity_log, now))
                            (decisions(activity_log, now))
                        }
                        LeaderStatus::Begins => div.banner {
                            strong { "This agent has just become the leader." }
                            p { "This agent does not know yet which namespaces opted in." }
                        },
                        LeaderStatus::StandsBy(other) => (stands_by(other.as_deref())),
                    }
                }
            }
        }
    }
    .into_string()
}

/// What a standby does, for people.
const STANDBY: &str = "A standby kills nothing and shows no data, because its data would be out of date.";

fn stands_by(other: Option<&str>) -> Markup {
    html! {
        div.banner {
            strong { "This agent stands by." }
            @match other {
                Some(other) => {
                    p {
                        (STANDBY) " " b { (other) } " leads, according to Lease " code { (LEASE) }
                        ". To see its page, run:"
                    }
                    p { code { "kubectl -n " (SYSTEM_NAMESPACE) " port-forward pod/" (pod_of(other)) " 9090" } }
                }
                None => p { (STANDBY) " This agent does not know which agent leads." },
            }
        }
    }
}

/// The name of the Pod of a process, from the process's identity in the Lease.
fn pod_of(identity: &str) -> &str {
    identity.rsplit_once('_').map_or(identity, |(pod, _)| pod)
}

fn halt(halt: &Halt) -> Markup {
    html! {
        @match halt {
            Halt::Unknown => div.banner {
                strong { "This agent has not checked yet whether everything is halted." }
            },
            Halt::No => div.banner.going { strong { "Not halted." } p { "Rounds happen as scheduled." } },
            Halt::Yes(text) => div.banner.halted {
                strong { "Halted: nothing is killed in any namespace." }
                @if !text.is_empty() { p { (text) } }
            },
        }
    }
}

fn namespaces(activity_log: &Snapshot, now: Timestamp) -> Markup {
    let count = activity_log.namespaces.len();
    html! {
        h2 { "Namespaces that opted in: " (count) }
        @if count == 0 {
            p {
                "No namespace has opted in. To opt one in, run: "
                code { "kubectl annotate namespace NAME chaos=yes" }
            }
        }
        div.cards { @for (name, line) in activity_log.namespaces.iter().take(CARDS) { (card(name, line, now)) } }
        @if count > CARDS {
            p { "And " (count - CARDS) " more. To see all, run: " code { "kubectl get chaos -A" } }
        }
    }
}

fn pending(activity_log: &Snapshot, now: Timestamp) -> Markup {
    let mut lines: Vec<(&String, &PendingLine)> = activity_log
        .namespaces
        .iter()
        .flat_map(|(name, line)| line.pending.iter().map(move |pending| (name, pending)))
        .collect();
    // The oldest recoveries come first, because they need attention most.
    lines.sort_by_key(|(_, line)| line.since);
    let count = lines.len();
    html! {
        h2 { "Pending recoveries: " (count) }
        @if count > 0 {
            div.scrolls tabindex="0" role="region" aria-label="Pending recoveries" {
                table role="table" {
                    (headings(["Namespace", "Workload", "Pod that was killed", "Killed"]))
                    tbody {
                        @for (name, PendingLine { workload, pod, since }) in lines.into_iter().take(CARDS) {
                            tr role="row" {
                                td role="cell" data-of="Namespace" { (name) }
                                td role="cell" data-of="Workload" { (workload) }
                                td role="cell" data-of="Pod" { (pod) }
                                td role="cell" data-of="Killed" { (ago(*since, now)) }
                            }
                        }
                    }
                }
            }
            @if count > CARDS { p { "And " (count - CARDS) " more." } }
        }
    }
}

/// The head of a table. It names the roles, because on a phone the rows are displayed as blocks,
/// and browsers then forget the roles of a table.
fn headings<const N: usize>(names: [&str; N]) -> Markup {
    html! { thead { tr role="row" { @for name in names { th role="columnheader" scope="col" { (name) } } } } }
}

fn decisions(activity_log: &Snapshot, now: Timestamp) -> Markup {
    html! {
        h2 { "The last " (crate::telemetry::activity::DECISIONS) " decisions and results, newest first" }
        @if activity_log.decisions.is_empty() {
            p { "This agent has made no decision since it became the leader." }
        } @else {
            div.scrolls tabindex="0" role="region" aria-label="Decisions" {
                table role="table" {
                    (headings(["When", "Namespace", "What", "Workload", "Details"]))
                    tbody { @for line in &activity_log.decisions { (decision(line, now)) } }
                }
            }
        }
    }
}

fn decision(line: &DecisionLine, now: Timestamp) -> Markup {
    let DecisionLine { last, times, since } = line;
    let Decision { at, namespace, workload, pod, what, sentence } = last;
    html! {
        tr role="row" {
            td role="cell" data-of="When" { (ago(*at, now)) br; span.quiet { (instant(*at)) } }
            td role="cell" data-of="Namespace" { (namespace) }
            td role="cell" data-of="What" { span.what.(what.word()) { (what.word().replace('_', " ")) } }
            td role="cell" data-of="Workload" {
                @if !workload.is_empty() { (workload) }
                @if !pod.is_empty() { br; span.quiet { "Pod " (pod) } }
            }
            td role="cell" data-of="Details" {
                @if let Some(reason) = what.reason() { code { (reason) } @if !sentence.is_empty() { ": " } }
                (marked(sentence))
                @if *times > 1 { br; span.quiet { (times) " times since " (instant(*since)) } }
            }
        }
    }
}

fn instant(at: Timestamp) -> Markup {
    html! { time datetime=(at.strftime("%Y-%m-%dT%H:%M:%SZ")) { (at.strftime("%Y-%m-%d %H:%M:%S UTC")) } }
}

#[cfg(test)]
mod tests;
