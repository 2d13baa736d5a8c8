//! The result of `agent explain`, as a value, as text for people and as JSON.

use std::fmt::{self, Display, Formatter};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use policy::record::RecordedSettings;
use serde::Serialize;

use super::outages::OutageFinding;
use super::settings_line::settings_line;
use crate::refusal::Refusal;

/// The explanation of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The name of the namespace.
    pub namespace: String,
    /// Who opted in. `None` if no admission is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opted_in_by: Option<String>,
    /// Whether a round could kill a Pod here now, and if not why.
    pub verdict: Verdict,
    /// The settings that apply, including defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<RecordedSettings>,
    /// When the next round is due, according to the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_round: Option<Timestamp>,
    /// The state in the record: `active`, or in a few words why nothing is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// A sentence that explains the state. `None` if rounds kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_sentence: Option<String>,
    /// The number of kills since the record was created.
    pub kills: i64,
    /// The number of kills whose recovery has not ended.
    pub pending: i64,
    /// The Pods, in the order of their workloads.
    pub pods: Vec<PodVerdict>,
    /// The workloads that the namespace's outages leave alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outages: Vec<OutageFinding>,
    /// What you may not see, each with the missing right.
    pub unseen: Vec<Unseen>,
}

/// Whether the agent may kill something now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Whether a kill is possible.
    pub may_kill: bool,
    /// The label of the refusal. `None` if every Pod is refused for its own reason, or if rounds
    /// are dry runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// A sentence that says why, and what to do.
    pub sentence: String,
}

impl Verdict {
    /// A verdict that a kill is possible.
    #[must_use]
    pub fn yes(sentence: &str) -> Self {
        Self { may_kill: true, reason: None, sentence: sentence.to_owned() }
    }

    /// The verdict of a guard that refuses.
    #[must_use]
    pub fn no(refusal: Refusal, sentence: String) -> Self {
        Self { may_kill: false, reason: Some(refusal.label()), sentence }
    }

    /// The verdict on a namespace after its Pods have been judged. `pods` is `None` if you may not
    /// see the Pods.
    #[must_use]
    pub fn of_round(self, is_dry_run: bool, pods: Option<&[PodVerdict]>) -> Self {
        let nothing = |sentence: String| Self { may_kill: false, reason: None, sentence };
        if !self.may_kill {
            return self;
        }
        match (pods.map(refused_altogether), is_dry_run) {
            (Some(Some(why)), false) => nothing(format!("Nothing can be killed here now, because {why}")),
            (Some(Some(why)), true) => nothing(format!(
                "A round is only a dry run here, and it would name no Pod now, because {why}"
            )),
            (_, true) => nothing(
                "A round is only a dry run here: it kills nothing, and says what it would kill".to_owned(),
            ),
            (None, false) => {
                Self { sentence: format!("{}, but its Pods could not be listed", self.sentence), ..self }
            }
            (Some(None), false) => self,
        }
    }
}

/// The explanation of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodVerdict {
    /// The name of the Pod.
    pub pod: String,
    /// The workload, such as `Deployment/web`. `None` if the Pod has no controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Whether a round could kill the Pod now.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Why no Pod can be killed. `None` if one can.
fn refused_altogether(pods: &[PodVerdict]) -> Option<String> {
    if pods.iter().any(|pod| pod.verdict.may_kill) {
        return None;
    }
    let of = |refusal: &Refusal| {
        let pods = pods.iter().filter(|pod| pod.verdict.reason == Some(refusal.label())).count();
        (pods > 0).then(|| format!("{pods} {}", refusal.label()))
    };
    let counted: Vec<String> = Refusal::ALL.iter().filter_map(of).collect();
    Some(if counted.is_empty() {
        "there are no Pods".to_owned()
    } else {
        format!("every Pod is refused: {}", counted.join(", "))
    })
}

/// Something that you may not see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unseen {
    /// What stays unknown because the right is missing.
    pub what: String,
    /// The missing right, such as `list pods in namespace a`.
    pub right: String,
}

/// Formats an explanation as text.
pub struct Text<'a> {
    /// The explanation to format.
    pub explanation: &'a Explanation,
    /// The current time, for the countdown to the next round.
    pub now: Timestamp,
    /// The time zone for the local time of the next round.
    pub zone: TimeZone,
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Explanation {
            namespace,
            opted_in_by,
            verdict,
            settings,
            next_round,
            state,
            state_sentence,
            kills,
            pending,
            pods,
            outages,
            unseen,
        } = self.explanation;
        match opted_in_by {
            Some(user) => writeln!(f, "Namespace {namespace}, opted in by {}", one_line(user))?,
            None => writeln!(f, "Namespace {namespace}")?,
        }
        match verdict.reason {
            Some(reason) => writeln!(f, "Nothing is killed: {reason}: {}", one_line(&verdict.sentence))?,
            None => writeln!(f, "{}", verdict.sentence)?,
        }
        if let Some(settings) = settings {
            writeln!(f, "Settings: {}", settings_line(settings))?;
        }
        if let Some(next) = next_round {
            let local = next.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
            writeln!(f, "Next round: {local}, {}", countdown(*next, self.now))?;
        }
        match (state, state_sentence) {
            (Some(state), Some(why)) => writeln!(f, "State in the record: {state}: {}", one_line(why))?,
            (Some(state), None) => writeln!(f, "State in the record: {state}")?,
            (None, _) => {}
        }
        writeln!(f, "Kills so far: {kills}, recoveries pending: {pending}")?;
        if !pods.is_empty() {
            let width = |cell: fn(&PodVerdict) -> &str, heading: &str| {
                pods.iter().map(|pod| cell(pod).len()).max().unwrap_or(0).max(heading.len())
            };
            let workload = |pod: &PodVerdict| pod.workload.as_deref().unwrap_or("-").to_owned();
            let first = width(|pod| &pod.pod, "POD");
            let second = width(|pod| pod.workload.as_deref().unwrap_or("-"), "WORKLOAD");
            writeln!(f, "\n{:first$}   {:second$}   VERDICT", "POD", "WORKLOAD")?;
            for pod in pods {
                write!(f, "{:first$}   {:second$}   ", pod.pod, workload(pod))?;
                match pod.verdict.reason {
                    Some(reason) => writeln!(f, "{reason}: {}", one_line(&pod.verdict.sentence))?,
                    None => writeln!(f, "{}", pod.verdict.sentence)?,
                }
            }
        }
        if !outages.is_empty() {
            writeln!(f, "\nWhat an outage would find:")?;
            for OutageFinding { fault, workload, reason, sentence } in outages {
                writeln!(f, "  {fault}: {workload}: {reason}: {}", one_line(sentence))?;
            }
        }
        if !unseen.is_empty() {
            writeln!(f, "\nCould not check (missing permission):")?;
            for Unseen { what, right } in unseen {
                writeln!(f, "  {right}: {what}")?;
            }
        }
        Ok(())
    }
}

/// Makes text from others safe for a terminal. The result is a single line, and control characters
/// are escaped.
#[must_use]
pub fn one_line(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' => " ".to_owned(),
        // The second group of characters changes the direction of the text that follows.
        other if other.is_control() || matches!(other, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
            other.escape_default().to_string()
        }
        other => other.to_string(),
    };
    text.chars().map(shown).collect()
}

/// How long it is until `next`, in two units, such as `in 2 h 45 min`.
#[must_use]
pub fn countdown(next: Timestamp, now: Timestamp) -> String {
    let seconds = next.duration_since(now).as_secs();
    if seconds <= 0 {
        return "due now".to_owned();
    }
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2).map(|(count, unit)| format!("{count} {unit}"));
    format!("in {}", shown.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::settings::Settings;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_countdown_has_two_units() {
        let now = at("2026-11-23T12:00:00Z");
        for (next, expected) in [
            ("2026-11-23T12:00:04.400Z", "in 4 s"),
            ("2026-11-23T12:04:44Z", "in 4 min 44 s"),
            ("2026-11-23T15:00:00Z", "in 3 h 0 min"),
            ("2026-11-25T13:30:00Z", "in 2 d 1 h"),
            ("2026-11-23T11:59:59Z", "due now"),
        ] {
            assert_eq!(countdown(at(next), now), expected, "{next}");
        }
    }

    #[test]
    fn the_first_line_says_what_holds_for_the_pods_too() {
        let pod = |verdict: Verdict| PodVerdict { pod: "web-1".to_owned(), workload: None, verdict };
        let refused = |refusal| pod(Verdict::no(refusal, String::new()));
        let dies = || pod(Verdict::yes("could die"));
        let young =
            || vec![refused(Refusal::TooYoung), refused(Refusal::NoController), refused(Refusal::TooYoung)];
        for (pods, is_dry_run, may_kill, expected) in [
            (Some(vec![refused(Refusal::TooYoung), dies()]), false, true, "A round may kill"),
            (None, false, true, "A round may kill, but its Pods could not be listed"),
            (Some(vec![]), false, false, "Nothing can be killed here now, because there are no Pods"),
            (
                Some(young()),
                false,
                false,
                "Nothing can be killed here now, because every Pod is refused: 1 no_controller, 2 too_young",
            ),
            (
                Some(vec![dies()]),
                true,
                false,
                "A round is only a dry run here: it kills nothing, and says what it would kill",
            ),
            (
                None,
                true,
                false,
                "A round is only a dry run here: it kills nothing, and says what it would kill",
            ),
            (
                Some(young()),
                true,
                false,
                "A round is only a dry run here, and it would name no Pod now, because every Pod is refused: 1 no_controller, 2 too_young",
            ),
        ] {
            let verdict = Verdict::yes("A round may kill").of_round(is_dry_run, pods.as_deref());
            let told = (verdict.may_kill, verdict.reason, verdict.sentence.as_str());
            assert_eq!(told, (may_kill, None, expected));
        }
        let halted = Verdict::no(Refusal::Halted, "4711".to_owned());
        assert_eq!(halted.clone().of_round(true, Some(&[])), halted);
    }

    #[test]
    fn it_reads_well() {
        let explanation = Explanation {
            namespace: "a".to_owned(),
            opted_in_by: Some("mara".to_owned()),
            verdict: Verdict::yes("A round may kill"),
            settings: Some(RecordedSettings::from(&Settings::built_in())),
            next_round: Some(at("2026-11-23T12:04:44Z")),
            state: Some("forbidden".to_owned()),
            state_sentence: Some("denied by policy p".to_owned()),
            kills: 3,
            pending: 1,
            pods: vec![
                PodVerdict {
                    pod: "web-1".to_owned(),
                    workload: Some("Deployment/web".to_owned()),
                    verdict: Verdict::yes("could die"),
                },
                PodVerdict {
                    pod: "bare".to_owned(),
                    workload: None,
                    verdict: Verdict::no(Refusal::NoController, Refusal::NoController.meaning().to_owned()),
                },
            ],
            outages: vec![OutageFinding {
                fault: "zone-outage",
                workload: "Deployment/web".to_owned(),
                reason: Refusal::AllInOnePlace.label(),
                sentence: "all 3 Ready Pods of Deployment web are in zone a".to_owned(),
            }],
            unseen: vec![Unseen {
                what: "whether everything is halted".to_owned(),
                right: "get namespaces pure-chaos".to_owned(),
            }],
        };
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let text = Text { explanation: &explanation, now: at("2026-11-23T12:00:00Z"), zone }.to_string();
        let expected = "Namespace a, opted in by mara
A round may kill
Settings: schedule every 10m, mode evict, faults pod-kill, limit 1, per-workload 1, kinds Deployment,StatefulSet,ReplicaSet, single-replica refuse, below-desired refuse, min-age 1m, recovery-deadline 5m, dry-run false
Next round: 2026-11-23 13:04:44 CET, in 4 min 44 s
State in the record: forbidden: denied by policy p
Kills so far: 3, recoveries pending: 1

POD     WORKLOAD         VERDICT
web-1   Deployment/web   could die
bare    -                no_controller: no controller would replace the Pod

What an outage would find:
  zone-outage: Deployment/web: all_in_one_place: all 3 Ready Pods of Deployment web are in zone a

Could not check (missing permission):
  get namespaces pure-chaos: whether everything is halted
";
        assert_eq!(text, expected);
    }
}
