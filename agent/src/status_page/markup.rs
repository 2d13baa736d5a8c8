//! Formats times and sentences for the status page.

use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};

/// How long ago `at` was, such as `3 s ago`. A time in the future, after a clock step, counts as
/// just now.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    match span(now.duration_since(at).as_secs()) {
        Some(span) => format!("{span} ago"),
        None => "just now".to_owned(),
    }
}

/// Formats a sentence. Text between backticks is shown as code.
pub fn marked(sentence: &str) -> Markup {
    let parts: Vec<&str> = sentence.split('`').collect();
    // With an odd number of backticks, one has no partner. The sentence is then shown unchanged.
    if parts.len().is_multiple_of(2) {
        return html! { (sentence) };
    }
    html! {
        @for (at, part) in parts.into_iter().enumerate() {
            @if at % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

/// A duration in seconds, to a tenth of a second.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn span(seconds: i64) -> Option<String> {
    match seconds {
        ..1 => None,
        1..120 => Some(format!("{seconds} s")),
        120..7_200 => Some(format!("{} min", seconds / 60)),
        7_200..172_800 => Some(format!("{} h", seconds / 3_600)),
        _ => Some(format!("{} days", seconds / 86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_rounded_down() {
        let now = Timestamp::UNIX_EPOCH;
        let after = |seconds: u64| now.checked_add(Duration::from_secs(seconds)).unwrap();
        for (passed, words) in [
            (0, "just now"),
            (1, "1 s ago"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7_199, "119 min ago"),
            (7_200, "2 h ago"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(ago(now, after(passed)), words);
        }
        assert_eq!(ago(after(9), now), "just now", "a clock that was stepped");
    }

    #[test]
    fn what_is_to_be_typed_is_marked_and_stays_text() {
        for (sentence, html) in [
            ("remove `chaos`, then `a<b`", "remove <code>chaos</code>, then <code>a&lt;b</code>"),
            ("`chaos", "`chaos"),
            ("a ` b", "a ` b"),
            ("", ""),
        ] {
            assert_eq!(marked(sentence).into_string(), html);
        }
    }
}
