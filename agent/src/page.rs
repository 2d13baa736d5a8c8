//! The agent's own page, `/`: for people without Prometheus at hand. Made on the server, without script; it shows and changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use policy::keys::SYSTEM_NAMESPACE;
use runtime::clock::Clock;
use tokio::sync::watch;

use crate::board::{Board, Decision, DecisionLine, Halt, PendingLine, Snapshot};
use crate::lease::{LEASE, Leadership};

mod bars;
mod card;
mod words;

use card::card;
use words::{ago, marked};

/// Namespaces with a card of their own, and pending recoveries with a line: a page of thousands helps nobody.
pub const CARDS: usize = 100;

/// The query that asks for a page that doesn't reload itself, for who reads slowly, or listens.
const STILL: &str = "still";

const STYLE: &str = include_str!("page/style.css");

/// Nothing but the stylesheet may be loaded, and nothing run, framed or sent, whatever stands in the page. `data:` is for its empty icon:
/// without one, browsers ask for a file that isn't there.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// What the page is made of.
#[derive(Clone)]
pub struct Sources {
    /// What the tasks write.
    pub board: Board,
    /// Tells how long ago something was.
    pub clock: Arc<dyn Clock>,
    /// Whether this process leads: what it knew before it lost the Lease is not shown as what is.
    pub leadership: Leadership,
    /// Whether it has listed the records since.
    pub synced: Arc<AtomicBool>,
    /// Who else does, as far as it is known.
    pub other: watch::Receiver<Option<String>>,
}

/// Whether this process is the one that kills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Leads,
    /// It is, but has not listed the records yet.
    Begins,
    /// It stands by; who leads, where that is known.
    StandsBy(Option<String>),
}

/// The page, and its stylesheet.
pub fn router(sources: Sources) -> Router {
    Router::new().route("/", get(show)).route("/style.css", get(style)).with_state(sources)
}

async fn show(State(sources): State<Sources>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let Sources { board, clock, leadership, synced, other } = sources;
    let standing = match (leadership.holds(clock.monotonic()), synced.load(Ordering::Relaxed)) {
        (true, true) => Standing::Leads,
        (true, false) => Standing::Begins,
        (false, _) => Standing::StandsBy(other.borrow().clone()),
    };
    let reloads = query.as_deref() != Some(STILL);
    (headers("text/html; charset=utf-8"), page(&standing, &board.snapshot(), clock.wall(), reloads))
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

/// The page at `now`, as HTML, which reloads itself or doesn't. Every text is escaped by the template.
#[must_use]
pub fn page(standing: &Standing, board: &Snapshot, now: Timestamp, reloads: bool) -> String {
    let is_halted = *standing == Standing::Leads && matches!(board.halt, Halt::Yes(_));
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
                // Relative, so that it is found behind the API server's proxy, too.
                link rel="stylesheet" href="style.css";
            }
            body {
                header {
                    h1 { "Pure Chaos" }
                    p.quiet {
                        "As of " (instant(now)) ". "
                        @if reloads { "Reloads every 10 s: " a href={ "?" (STILL) } { "hold it still" } }
                        @else { "It stays as it is: " a href="?" { "reload every 10 s" } }
                    }
                }
                main {
                    @match standing {
                        Standing::Leads => {
                            (halt(&board.halt))
                            (namespaces(board, now))
                            (pending(board, now))
                            (decisions(board, now))
                        }
                        Standing::Begins => div.banner {
                            strong { "This agent has only just begun to lead." }
                            p { "It does not know yet which namespaces opted in." }
                        },
                        Standing::StandsBy(other) => (stands_by(other.as_deref())),
                    }
                }
            }
        }
    }
    .into_string()
}

fn stands_by(other: Option<&str>) -> Markup {
    html! {
        div.banner {
            strong { "This agent stands by." }
            @match other {
                Some(other) => {
                    p { "It kills nothing, and what it could show here would not be current. " b { (other) } " leads, as Lease " code { (LEASE) } " says. Its page:" }
                    p { code { "kubectl -n " (SYSTEM_NAMESPACE) " port-forward pod/" (pod_of(other)) " 9090" } }
                }
                None => p { "It kills nothing, and what it could show here would not be current. Who leads is not known." },
            }
        }
    }
}

/// The Pod of a process, by its name in the Lease.
fn pod_of(identity: &str) -> &str {
    identity.rsplit_once('_').map_or(identity, |(pod, _)| pod)
}

fn halt(halt: &Halt) -> Markup {
    html! {
        @match halt {
            Halt::Unknown => div.banner { strong { "Whether everything is halted has not been looked at yet." } },
            Halt::No => div.banner.going { strong { "Not halted." } p { "Rounds happen as scheduled." } },
            Halt::Yes(text) => div.banner.halted {
                strong { "Halted: nothing is killed in any namespace." }
                @if !text.is_empty() { p { (text) } }
            },
        }
    }
}

fn namespaces(board: &Snapshot, now: Timestamp) -> Markup {
    let count = board.namespaces.len();
    html! {
        h2 { "Namespaces that opted in: " (count) }
        @if count == 0 {
            p { "None has. A namespace opts in with: " code { "kubectl annotate namespace NAME chaos=yes" } }
        }
        div.cards { @for (name, line) in board.namespaces.iter().take(CARDS) { (card(name, line, now)) } }
        @if count > CARDS {
            p { "And " (count - CARDS) " more; all of them: " code { "kubectl get chaos -A" } }
        }
    }
}

fn pending(board: &Snapshot, now: Timestamp) -> Markup {
    let mut lines: Vec<(&String, &PendingLine)> = board
        .namespaces
        .iter()
        .flat_map(|(name, line)| line.pending.iter().map(move |pending| (name, pending)))
        .collect();
    // The oldest first: they are the ones that worry.
    lines.sort_by_key(|(_, line)| line.since);
    let count = lines.len();
    html! {
        h2 { "Recoveries that are pending: " (count) }
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

/// The roles are named because on a phone, where rows are blocks, browsers would forget them.
fn headings<const N: usize>(names: [&str; N]) -> Markup {
    html! { thead { tr role="row" { @for name in names { th role="columnheader" scope="col" { (name) } } } } }
}

fn decisions(board: &Snapshot, now: Timestamp) -> Markup {
    html! {
        h2 { "The last " (crate::board::DECISIONS) " decisions and what came of them, newest first" }
        @if board.decisions.is_empty() {
            p { "None since this agent began to lead." }
        } @else {
            div.scrolls tabindex="0" role="region" aria-label="Decisions" {
                table role="table" {
                    (headings(["When", "Namespace", "What", "Of what", "Why, or how"]))
                    tbody { @for line in &board.decisions { (decision(line, now)) } }
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
            td role="cell" data-of="Of what" {
                @if !workload.is_empty() { (workload) }
                @if !pod.is_empty() { br; span.quiet { "Pod " (pod) } }
            }
            td role="cell" data-of="Why, or how" {
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
