//! The card of one namespace on the status page.

use jiff::Timestamp;
use maud::{Markup, html};

use super::markup::{ago, marked};
use super::{bars, instant};
use crate::explain::explanation::countdown;
use crate::telemetry::activity::NamespaceLine;

/// The card of a namespace at `now`.
pub fn card(name: &str, line: &NamespaceLine, now: Timestamp) -> Markup {
    let NamespaceLine {
        opted_in_by,
        settings,
        last_slot,
        next_slot,
        state,
        sentence,
        kills,
        outcomes,
        hypotheses,
        pending,
        recoveries,
    } = line;
    html! {
        article {
            h3 { (name) }
            p.state {
                b { @if state.is_empty() { "not known yet" } @else { (state) } }
                @if !sentence.is_empty() { ": " (marked(sentence)) }
            }
            dl {
                dt { "Opted in by" }
                dd {
                    @if opted_in_by.is_empty() { "not known: the webhook did not review the opt-in" }
                    @else { (opted_in_by) }
                }
                @if settings.is_empty() { dt { "Settings" } dd { "not understood" } }
                @for (setting, value) in settings { dt { (setting) } dd { (value) } }
                dt { "Last round" }
                dd { @match last_slot { Some(slot) => { (ago(*slot, now)) ", " (instant(*slot)) }, None => "none yet" } }
                dt { "Next round" }
                dd { @match next_slot { Some(slot) => { @if *slot > now { (countdown(*slot, now)) } @else { "due" } ", " (instant(*slot)) }, None => "none" } }
                dt { "Kills" }
                dd { (kills) @if !pending.is_empty() { ", " (pending.len()) " still recovering" } }
                dt { "Recoveries" }
                dd { @if outcomes.is_empty() { "none yet" } @else { (outcomes) } }
                @if !hypotheses.is_empty() { dt { "Hypotheses" } dd { (hypotheses) } }
                dt { "Last recoveries" }
                dd {
                    @if recoveries.is_empty() { "this agent has seen none yet" }
                    @else { (bars::bars(recoveries)) }
                }
            }
        }
    }
}
