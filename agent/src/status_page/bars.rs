//! The last recoveries of a namespace as bars. The same data is there as text for people who can't
//! see the bars.

use std::collections::VecDeque;
use std::time::Duration;

use maud::{Markup, html};

use super::markup::seconds;
use crate::recovery::RecoveryOutcome;
use crate::telemetry::activity::{EndedLine, RECOVERIES};

/// The distance from one bar to the next, in pixels.
const STEP: usize = 9;
/// The width of a bar, in pixels.
const WIDTH: usize = 7;
/// The height of the highest bar, in pixels.
const HEIGHT: f64 = 36.0;
/// The height of the lowest bar, in pixels. A lower bar would be invisible.
const LOWEST: f64 = 2.0;

/// Draws the recoveries as bars, oldest first. The height of a bar shows how long its recovery
/// took. A recovery without a measured time has a full-height, hollow bar. The outline of that bar
/// is solid if the recovery timed out, and dashed otherwise.
pub fn bars(recoveries: &VecDeque<EndedLine>) -> Markup {
    let longest = recoveries.iter().filter_map(|line| line.duration).max().unwrap_or_default();
    let all = recoveries.iter().map(words).collect::<Vec<_>>().join(", ");
    let label = format!("The last {} recoveries, oldest first: {all}", recoveries.len());
    html! {
        svg viewBox={ "0 0 " (RECOVERIES * STEP) " " (HEIGHT) } width=(RECOVERIES * STEP) height=(HEIGHT) role="img" aria-label=(label) {
            @for (at, line) in recoveries.iter().enumerate() {
                @let height = line.duration.map_or(HEIGHT, |duration| height(duration, longest));
                rect class=(class(line)) x=(at * STEP + 1) y=(format!("{:.1}", HEIGHT - height)) width=(WIDTH) height=(format!("{height:.1}")) {
                    title { (words(line)) }
                }
            }
        }
        p.quiet { (summary(recoveries, longest)) }
    }
}

fn height(duration: Duration, longest: Duration) -> f64 {
    if longest.is_zero() {
        return LOWEST;
    }
    (duration.as_secs_f64() / longest.as_secs_f64() * HEIGHT).max(LOWEST)
}

fn class(line: &EndedLine) -> &'static str {
    match (line.outcome, line.duration) {
        (RecoveryOutcome::TimedOut, _) => "missed",
        (_, Some(_)) => "measured",
        _ => "unmeasured",
    }
}

fn words(line: &EndedLine) -> String {
    line.duration.map_or_else(|| line.outcome.label().replace('_', " "), seconds)
}

fn summary(recoveries: &VecDeque<EndedLine>, longest: Duration) -> String {
    let measured = recoveries.iter().filter(|line| line.duration.is_some()).count();
    let missed = recoveries.iter().filter(|line| line.outcome == RecoveryOutcome::TimedOut).count();
    let restarted =
        recoveries.iter().filter(|line| line.outcome == RecoveryOutcome::RecoveredAfterRestart).count();
    let other = recoveries.len() - measured - missed - restarted;
    let mut parts = Vec::new();
    if measured > 0 {
        parts.push(format!("{measured} recovered within {}", seconds(longest)));
    }
    if restarted > 0 {
        parts.push(format!("{restarted} recovered, not measured because the agent or its watch restarted"));
    }
    if missed > 0 {
        parts.push(format!("{missed} timed out"));
    }
    if other > 0 {
        parts.push(format!("{other} ended in another outcome"));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(outcome: RecoveryOutcome, millis: Option<u64>) -> EndedLine {
        EndedLine { outcome, duration: millis.map(Duration::from_millis) }
    }

    #[test]
    fn bars_are_as_high_as_recoveries_took_and_say_so() {
        let recoveries = VecDeque::from([
            line(RecoveryOutcome::Recovered, Some(500)),
            line(RecoveryOutcome::Recovered, Some(2_000)),
            line(RecoveryOutcome::TimedOut, None),
            line(RecoveryOutcome::RolledOut, None),
            line(RecoveryOutcome::RecoveredAfterRestart, None),
        ]);
        let svg = bars(&recoveries).into_string();
        assert!(
            svg.contains(
                "aria-label=\"The last 5 recoveries, oldest first: 0.5 s, 2.0 s, timed out, rolled out, recovered after restart\""
            ),
            "{svg}"
        );
        assert!(
            svg.contains(
                "<rect class=\"measured\" x=\"1\" y=\"27.0\" width=\"7\" height=\"9.0\"><title>0.5 s</title>"
            ),
            "{svg}"
        );
        assert!(svg.contains("<rect class=\"measured\" x=\"10\" y=\"0.0\""), "{svg}");
        assert!(svg.contains("<rect class=\"missed\" x=\"19\" y=\"0.0\""), "{svg}");
        let summary = "2 recovered within 2.0 s; \
                       1 recovered, not measured because the agent or its watch restarted; \
                       1 timed out; 1 ended in another outcome";
        assert!(svg.contains(summary), "{svg}");
    }

    #[test]
    fn a_recovery_that_took_no_time_can_be_seen() {
        let svg = bars(&VecDeque::from([line(RecoveryOutcome::Recovered, Some(0))])).into_string();
        assert!(svg.contains("height=\"2.0\""), "{svg}");
    }
}
