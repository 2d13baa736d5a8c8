//! What `agent explain` says, as a value, as text for people and as JSON.

use std::fmt::{self, Display, Formatter};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use policy::record::RecordedSettings;
use serde::Serialize;

use crate::refusal::Refusal;

/// A namespace, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Its name.
    pub namespace: String,
    /// Who opted it in; nobody where there is no admission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opted_in_by: Option<String>,
    /// Whether a round would kill here now, and if not why.
    pub verdict: Verdict,
    /// The settings as understood, defaults included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<RecordedSettings>,
    /// When the next round is due, by the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_round: Option<Timestamp>,
    /// In the agent's words, what came of its last round: `active`, or why nothing was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Kills since the record was made.
    pub kills: i64,
    /// Kills whose recovery has not ended.
    pub pending: i64,
    /// Each Pod, in the order of their workloads.
    pub pods: Vec<PodVerdict>,
    /// What could not be seen, each with the right that is missing.
    pub unseen: Vec<Unseen>,
}

/// Whether something may be killed now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Whether it may.
    pub may_kill: bool,
    /// The label of what refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// In words, and what to do.
    pub sentence: String,
}

impl Verdict {
    /// It may be killed.
    #[must_use]
    pub fn yes(sentence: &str) -> Self {
        Self { may_kill: true, reason: None, sentence: sentence.to_owned() }
    }

    /// A guard refuses.
    #[must_use]
    pub fn no(refusal: Refusal, sentence: String) -> Self {
        Self { may_kill: false, reason: Some(refusal.label()), sentence }
    }
}

/// A Pod, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodVerdict {
    /// Its name.
    pub pod: String,
    /// Such as `Deployment/web`; none where nothing controls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Whether it could die in a round now.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Something that the asking person may not see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unseen {
    /// What isn't known for it.
    pub what: String,
    /// The right that is missing: `list pods in namespace a`.
    pub right: String,
}

/// As text, at an instant and in a time zone.
pub struct Text<'a> {
    /// What is told.
    pub explanation: &'a Explanation,
    /// From when the countdown runs.
    pub now: Timestamp,
    /// Of the next round's local time.
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
            kills,
            pending,
            pods,
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
            writeln!(f, "Settings: {}", words(settings))?;
        }
        if let Some(next) = next_round {
            let local = next.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
            writeln!(f, "Next round: {local}, {}", countdown(*next, self.now))?;
        }
        if let Some(state) = state {
            writeln!(f, "State by the agent: {state}")?;
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
                    Some(reason) => writeln!(f, "{reason}: {}", pod.verdict.sentence)?,
                    None => writeln!(f, "{}", pod.verdict.sentence)?,
                }
            }
        }
        if !unseen.is_empty() {
            writeln!(f, "\nNot seen, for want of a right:")?;
            for Unseen { what, right } in unseen {
                writeln!(f, "  {right}: {what}")?;
            }
        }
        Ok(())
    }
}

/// Text that others wrote, as a terminal may show it: in one line, and with nothing that the terminal would obey.
#[must_use]
pub fn one_line(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' => " ".to_owned(),
        // The latter turn the direction of what follows.
        other if other.is_control() || matches!(other, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
            other.escape_default().to_string()
        }
        other => other.to_string(),
    };
    text.chars().map(shown).collect()
}

/// In the words of the annotations.
fn words(settings: &RecordedSettings) -> String {
    let RecordedSettings {
        schedule,
        mode,
        limit,
        min_age,
        dry_run,
        active_hours,
        except,
        kinds,
        targets,
        single_replica,
        grace_period,
        recovery_deadline,
        also_at,
        expires,
    } = settings;
    let always = [
        ("schedule", Some(schedule.clone())),
        ("also-at", also_at.clone()),
        ("active-hours", active_hours.clone()),
        ("except", except.clone()),
        ("mode", Some(mode.clone())),
        ("limit", Some(limit.to_string())),
        ("kinds", kinds.clone()),
        ("targets", targets.clone()),
        ("single-replica", single_replica.clone()),
        ("grace-period", grace_period.clone()),
        ("min-age", Some(min_age.clone())),
        ("recovery-deadline", recovery_deadline.clone()),
        ("expires", expires.clone()),
        ("dry-run", Some(dry_run.to_string())),
    ];
    let pairs = always.into_iter().filter_map(|(key, value)| Some(format!("{key} {}", value?)));
    pairs.collect::<Vec<_>>().join(", ")
}

/// How long it is until then, in two units: `in 2 h 45 min`.
#[must_use]
pub fn countdown(next: Timestamp, now: Timestamp) -> String {
    let seconds = next.duration_since(now).as_secs();
    if seconds <= 0 {
        return "which is due".to_owned();
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
            ("2026-11-23T11:59:59Z", "which is due"),
        ] {
            assert_eq!(countdown(at(next), now), expected, "{next}");
        }
    }

    #[test]
    fn it_reads_well() {
        let explanation = Explanation {
            namespace: "a".to_owned(),
            opted_in_by: Some("mara".to_owned()),
            verdict: Verdict::yes("A round may kill"),
            settings: Some(RecordedSettings::from(&Settings::built_in())),
            next_round: Some(at("2026-11-23T12:04:44Z")),
            state: Some("active".to_owned()),
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
            unseen: vec![Unseen {
                what: "whether everything is halted".to_owned(),
                right: "get namespaces pure-chaos".to_owned(),
            }],
        };
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let text = Text { explanation: &explanation, now: at("2026-11-23T12:00:00Z"), zone }.to_string();
        let expected = "Namespace a, opted in by mara
A round may kill
Settings: schedule every 10m, mode evict, limit 1, kinds Deployment,StatefulSet,ReplicaSet, single-replica refuse, min-age 1m, recovery-deadline 5m, dry-run false
Next round: 2026-11-23 13:04:44 CET, in 4 min 44 s
State by the agent: active
Kills so far: 3, recoveries pending: 1

POD     WORKLOAD         VERDICT
web-1   Deployment/web   could die
bare    -                no_controller: nothing would bring the Pod back

Not seen, for want of a right:
  get namespaces pure-chaos: whether everything is halted
";
        assert_eq!(text, expected);
    }
}
