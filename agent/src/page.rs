//! The agent's own page, `/`: for people without Prometheus at hand. Made on the server, without script; it shows and changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use runtime::clock::Clock;
use tokio::sync::watch;

use crate::board::{Board, Decision, Halt, NamespaceLine, PendingLine, Snapshot};
use crate::lease::{LEASE, Leadership};

mod bars;
mod words;

use words::{ago, within};

/// Namespaces with a card of their own, and pending recoveries with a line: a page of thousands helps nobody.
pub const CARDS: usize = 100;

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

async fn show(State(sources): State<Sources>) -> impl IntoResponse {
    let Sources { board, clock, leadership, synced, other } = sources;
    let standing = match (leadership.holds(clock.monotonic()), synced.load(Ordering::Relaxed)) {
        (true, true) => Standing::Leads,
        (true, false) => Standing::Begins,
        (false, _) => Standing::StandsBy(other.borrow().clone()),
    };
    (headers("text/html; charset=utf-8"), page(&standing, &board.snapshot(), clock.wall()))
}

async fn style() -> impl IntoResponse {
    (headers("text/css; charset=utf-8"), STYLE)
}

fn headers(content_type: &'static str) -> [(HeaderName, &'static str); 5] {
    [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ]
}

/// The page at `now`, as HTML. Every text is escaped by the template.
#[must_use]
pub fn page(standing: &Standing, board: &Snapshot, now: Timestamp) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content="10";
                title { "Pure Chaos" }
                link rel="icon" href="data:,";
                // Relative, so that it is found behind the API server's proxy, too.
                link rel="stylesheet" href="style.css";
            }
            body {
                header {
                    h1 { "Pure Chaos" }
                    p.quiet { "As of " (instant(now)) ", renewed every 10 s" }
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
                Some(other) => p { "It kills nothing, and what it could show here would not be current. " b { (other) } " leads, as Lease " code { (LEASE) } " says: look at its page." },
                None => p { "It kills nothing, and what it could show here would not be current. Who leads is not known." },
            }
        }
    }
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

fn card(name: &str, line: &NamespaceLine, now: Timestamp) -> Markup {
    let NamespaceLine { opted_in_by, schedule, next_slot, state, sentence, kills, pending, recoveries } =
        line;
    html! {
        article {
            h3 { (name) }
            p.state {
                b { @if state.is_empty() { "not known yet" } @else { (state) } }
                @if !sentence.is_empty() { ": " (sentence) }
            }
            dl {
                dt { "Opted in by" }
                dd { @if opted_in_by.is_empty() { "not known: it was not reviewed" } @else { (opted_in_by) } }
                dt { "Schedule" }
                dd { @if schedule.is_empty() { "not understood" } @else { (schedule) } }
                dt { "Next round" }
                dd { @match next_slot { Some(slot) => { (within(*slot, now)) ", " (instant(*slot)) }, None => "none" } }
                dt { "Kills" }
                dd { (kills) @if !pending.is_empty() { ", " (pending.len()) " of them not recovered from yet" } }
                dt { "Last recoveries" }
                dd { @if recoveries.is_empty() { "none since this agent leads" } @else { (bars::bars(recoveries)) } }
            }
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
                table {
                    thead { tr { th { "Namespace" } th { "Workload" } th { "Pod that was killed" } th { "Killed" } } }
                    tbody {
                        @for (name, PendingLine { workload, pod, since }) in lines.into_iter().take(CARDS) {
                            tr {
                                td data-of="Namespace" { (name) }
                                td data-of="Workload" { (workload) }
                                td data-of="Pod" { (pod) }
                                td data-of="Killed" { (ago(*since, now)) }
                            }
                        }
                    }
                }
            }
            @if count > CARDS { p { "And " (count - CARDS) " more." } }
        }
    }
}

fn decisions(board: &Snapshot, now: Timestamp) -> Markup {
    html! {
        h2 { "The last " (crate::board::DECISIONS) " decisions and what came of them, newest first" }
        @if board.decisions.is_empty() {
            p { "None since this agent leads." }
        } @else {
            div.scrolls tabindex="0" role="region" aria-label="Decisions" {
                table {
                    thead { tr { th { "When" } th { "Namespace" } th { "What" } th { "Of what" } th { "Why, or how" } } }
                    tbody { @for line in &board.decisions { (decision(line, now)) } }
                }
            }
        }
    }
}

fn decision(line: &Decision, now: Timestamp) -> Markup {
    let Decision { at, namespace, workload, pod, what, sentence } = line;
    html! {
        tr {
            td data-of="When" { (ago(*at, now)) br; span.quiet { (instant(*at)) } }
            td data-of="Namespace" { (namespace) }
            td data-of="What" { span.what.(what.word()) { (what.word().replace('_', " ")) } }
            td data-of="Of what" {
                @if !workload.is_empty() { (workload) }
                @if !pod.is_empty() { br; span.quiet { "Pod " (pod) } }
            }
            td data-of="Why, or how" {
                @if let Some(reason) = what.reason() { code { (reason) } @if !sentence.is_empty() { ": " } }
                (sentence)
            }
        }
    }
}

fn instant(at: Timestamp) -> Markup {
    html! { time datetime=(at.strftime("%Y-%m-%dT%H:%M:%SZ")) { (at.strftime("%Y-%m-%d %H:%M:%S UTC")) } }
}

#[cfg(test)]
mod tests;
