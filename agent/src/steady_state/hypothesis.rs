//! Whether a check of the steady state held from a kill until the workload's recovery ended. The
//! rule has no I/O: [`super::sampler`] asks the check once a second and tells the answers.

use std::time::Duration;

use jiff::Timestamp;
use policy::record::{BrokenSample, SampledCheck};
use strum::{IntoStaticStr, VariantArray};
use tokio::time::Instant;

use super::{Answer, Finding};

/// The longest pause between two samples. It is longer than a check may take
/// (`policy::steady_state`), so a longer pause means that this process did not run.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What became of the hypothesis that a check holds during a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum HypothesisOutcome {
    /// Each sample held.
    Held,
    /// A sample did not hold.
    Broken,
    /// No sample is known to have broken it, but the check was not answered all the time.
    Unknown,
}

impl HypothesisOutcome {
    /// All outcomes.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The label in metrics, logs and the record.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// The hypothesis that a check holds from a kill until the workload's recovery ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hypothesis {
    /// The name of the check.
    pub check: String,
    /// When the kill happened, or when this process took over.
    since: Instant,
    /// The last sample.
    last: Option<Instant>,
    broken: Option<BrokenSample>,
    /// Why nobody knows whether the check held all the time.
    unknown: Option<String>,
    /// Whether the last sample held.
    holds: bool,
    /// Whether the check did not hold before the kill, so that a break is not the kill's work.
    was_broken: bool,
}

/// A hypothesis at the end of the recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedHypothesis {
    /// The name of the check.
    pub check: String,
    /// What became of the hypothesis.
    pub outcome: HypothesisOutcome,
    /// The first sample that did not hold.
    pub broken: Option<BrokenSample>,
    /// Why the outcome is unknown.
    pub unknown: Option<String>,
}

impl Hypothesis {
    /// The hypothesis for a check after a kill at `since`.
    #[must_use]
    pub fn begin(check: &str, since: Instant) -> Self {
        Self {
            check: check.to_owned(),
            since,
            last: None,
            broken: None,
            unknown: None,
            holds: true,
            was_broken: false,
        }
    }

    /// The hypothesis for a check that did not hold just before a kill at `since`. Nobody can say what
    /// this kill did to it.
    #[must_use]
    pub fn begin_broken(check: &str, since: Instant) -> Self {
        let unknown = Some("it did not hold before the kill, because another kill broke it".to_owned());
        Self { unknown, was_broken: true, ..Self::begin(check, since) }
    }

    /// Whether the last sample held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// Continues a hypothesis from the record. Nobody sampled the check in the meantime.
    #[must_use]
    pub fn resume(recorded: &SampledCheck, now: Instant) -> Self {
        Self {
            broken: recorded.broken.clone(),
            unknown: Some("the agent did not sample it all the time".to_owned()),
            ..Self::begin(&recorded.check, now)
        }
    }

    /// The hypothesis in the form in which the record stores it.
    #[must_use]
    pub fn recorded(&self) -> SampledCheck {
        SampledCheck { check: self.check.clone(), broken: self.broken.clone() }
    }

    /// The instant before which the next sample may not be asked.
    #[must_use]
    pub fn next_not_before(&self) -> Instant {
        self.last.map_or(self.since, |last| last + Duration::from_nanos(1))
    }

    /// The instant up to which the check has been sampled.
    fn sampled_until(&self) -> Instant {
        self.last.unwrap_or(self.since)
    }

    /// Takes over a sample that was answered at `at`. Returns what broke the hypothesis, if this is
    /// the first sample that did. A question from before the kill says nothing.
    pub fn sample(&mut self, finding: &Finding, at: Timestamp) -> Option<&BrokenSample> {
        if finding.asked < self.since {
            return None;
        }
        self.note_pause(finding.asked);
        self.last = Some(self.sampled_until().max(finding.asked));
        self.holds = !matches!(finding.answer, Answer::Broken(_));
        match &finding.answer {
            Answer::Holds => None,
            Answer::Unknown(why) | Answer::Forbidden(why) => {
                self.unknown.get_or_insert_with(|| format!("a sample has no answer: {why}"));
                None
            }
            Answer::Broken(_) if self.broken.is_some() || self.was_broken => None,
            Answer::Broken(saw) => {
                Some(self.broken.insert(BrokenSample { time: at.to_string(), saw: saw.clone() }))
            }
        }
    }

    /// Notes that a question was still open when the recovery ended.
    pub fn is_unanswered(&mut self) {
        self.unknown.get_or_insert_with(|| "a sample had no answer when the recovery ended".to_owned());
    }

    /// What became of the hypothesis by `until`, the end of the recovery.
    #[must_use]
    pub fn end(mut self, until: Instant) -> EndedHypothesis {
        if self.last.is_none() {
            self.unknown.get_or_insert_with(|| "the recovery ended before the first answer".to_owned());
        }
        self.note_pause(until);
        let Self { check, broken, unknown, .. } = self;
        let outcome = match (&broken, &unknown) {
            (Some(_), _) => HypothesisOutcome::Broken,
            (None, Some(_)) => HypothesisOutcome::Unknown,
            (None, None) => HypothesisOutcome::Held,
        };
        let unknown = unknown.filter(|_| outcome == HypothesisOutcome::Unknown);
        EndedHypothesis { check, outcome, broken, unknown }
    }

    fn note_pause(&mut self, now: Instant) {
        let pause = now.saturating_duration_since(self.sampled_until());
        if pause > LONGEST_PAUSE {
            let seconds = pause.as_secs();
            self.unknown.get_or_insert_with(|| format!("the agent took no sample for {seconds} s"));
        }
    }
}

impl EndedHypothesis {
    /// The outcome in a few words, such as "check `web-answers` held". `killed` is when the Pod was
    /// killed.
    #[must_use]
    pub fn sentence(&self, killed: Timestamp) -> String {
        let Self { check, outcome, broken, unknown } = self;
        match (outcome, broken) {
            (HypothesisOutcome::Held, _) => format!("check `{check}` held"),
            (HypothesisOutcome::Broken, Some(broken)) => {
                format!("check `{check}` broke{}: {}", after(broken, killed), broken.saw)
            }
            _ => {
                let why = unknown.as_deref().unwrap_or("no sample was taken");
                format!("nobody knows whether check `{check}` held: {why}")
            }
        }
    }
}

/// How long after the kill a sample broke the hypothesis, as ` 1.2 s after the kill`. Empty if the
/// record's time can't be parsed.
#[must_use]
pub fn after(broken: &BrokenSample, killed: Timestamp) -> String {
    let Ok(at) = broken.time.parse::<Timestamp>() else { return String::new() };
    let after = Duration::try_from(at.duration_since(killed)).unwrap_or_default();
    format!(" {:.1} s after the kill", after.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::snapshot::examples::noon;
    use proptest::prelude::*;
    use runtime::clock::{Clock, SystemClock};

    fn finding(answer: Answer, asked: Instant) -> Finding {
        Finding { check: "web".to_owned(), answer, asked }
    }

    /// What becomes of samples at these milliseconds after the kill, if the recovery ends at `end`.
    fn of(samples: &[(u64, Answer)], end: u64) -> EndedHypothesis {
        let killed = SystemClock.monotonic() + Duration::from_secs(3_600);
        let after = |millis| killed + Duration::from_millis(millis);
        let mut hypothesis = Hypothesis::begin("web", killed);
        for (millis, answer) in samples {
            let at = noon().checked_add(Duration::from_millis(*millis)).unwrap();
            hypothesis.sample(&finding(answer.clone(), after(*millis)), at);
        }
        hypothesis.end(after(end))
    }

    fn broken(saw: &str) -> Answer {
        Answer::Broken(saw.to_owned())
    }

    #[test]
    fn the_first_sample_that_does_not_hold_breaks_it() {
        let ended = of(&[(0, Answer::Holds), (1_200, broken("503")), (2_000, broken("500"))], 3_000);
        assert_eq!(ended.outcome, HypothesisOutcome::Broken);
        assert_eq!(ended.sentence(noon()), "check `web` broke 1.2 s after the kill: 503");
        let healed = of(
            &[(0, broken("503")), (1_000, Answer::Unknown("late".to_owned())), (2_000, Answer::Holds)],
            3_000,
        );
        assert_eq!(healed.outcome, HypothesisOutcome::Broken, "it stays broken");
        assert_eq!(healed.unknown, None);
    }

    #[test]
    fn it_held_only_if_somebody_looked_all_the_time() {
        let held = of(&[(0, Answer::Holds), (1_000, Answer::Holds)], 1_500);
        assert_eq!(
            (held.outcome, held.sentence(noon())),
            (HypothesisOutcome::Held, "check `web` held".to_owned())
        );
        for (samples, end, why) in [
            (vec![], 300, "the recovery ended before the first answer"),
            (
                vec![(0, Answer::Holds), (1_000, Answer::Unknown("no answer within 2 s".to_owned()))],
                4_000,
                "a sample has no answer: no answer within 2 s",
            ),
            (
                vec![(0, Answer::Holds), (1_000, Answer::Forbidden("may not".to_owned()))],
                4_000,
                "a sample has no answer: may not",
            ),
            (vec![(0, Answer::Holds), (16_000, Answer::Holds)], 17_000, "the agent took no sample for 16 s"),
            (vec![(0, Answer::Holds)], 20_000, "the agent took no sample for 20 s"),
        ] {
            let ended = of(&samples, end);
            assert_eq!((ended.outcome, ended.unknown.as_deref()), (HypothesisOutcome::Unknown, Some(why)));
            assert_eq!(ended.sentence(noon()), format!("nobody knows whether check `web` held: {why}"));
        }
    }

    #[test]
    fn a_question_from_before_the_kill_says_nothing() {
        let killed = SystemClock.monotonic() + Duration::from_secs(3_600);
        let mut hypothesis = Hypothesis::begin("web", killed);
        let before = killed - Duration::from_millis(1);
        assert_eq!(hypothesis.sample(&finding(broken("503"), before), noon()), None);
        assert_eq!(hypothesis.end(killed).outcome, HypothesisOutcome::Unknown);
    }

    #[test]
    fn a_kill_is_not_blamed_for_what_was_broken_before() {
        let killed = SystemClock.monotonic();
        let mut first = Hypothesis::begin("web", killed);
        assert!(first.holds());
        first.sample(&finding(broken("503"), killed), noon());
        assert!(!first.holds());
        let mut second = Hypothesis::begin_broken("web", killed);
        assert_eq!(second.sample(&finding(broken("503"), killed), noon()), None);
        assert_eq!(second.end(killed).outcome, HypothesisOutcome::Unknown);
    }

    #[test]
    fn a_restart_forgets_no_break_and_makes_none_up() {
        let now = SystemClock.monotonic();
        let sample = BrokenSample { time: noon().to_string(), saw: "503".to_owned() };
        for (broken, outcome) in
            [(Some(sample), HypothesisOutcome::Broken), (None, HypothesisOutcome::Unknown)]
        {
            let recorded = SampledCheck { check: "web".to_owned(), broken };
            let mut resumed = Hypothesis::resume(&recorded, now);
            assert_eq!(resumed.recorded(), recorded);
            resumed.sample(&finding(Answer::Holds, now), noon());
            assert_eq!(resumed.end(now).outcome, outcome);
        }
    }

    proptest! {
        #[test]
        fn it_held_exactly_if_each_sample_held(
            samples in prop::collection::vec((0..20_u64, 0..3_u8), 0..20), rest in 0..20_u64
        ) {
            let (mut at, mut told, mut longest) = (0, Vec::new(), 0);
            for (pause, answer) in &samples {
                at += pause;
                longest = longest.max(*pause);
                let answer = match answer {
                    0 => Answer::Holds,
                    1 => broken("503"),
                    _ => Answer::Unknown("late".to_owned()),
                };
                told.push((at * 1_000, answer));
            }
            longest = longest.max(rest);
            let ended = of(&told, (at + rest) * 1_000);
            let any = |kind| samples.iter().any(|(_, answer)| *answer == kind);
            let expected = if any(1) {
                HypothesisOutcome::Broken
            } else if any(2) || samples.is_empty() || longest > 15 {
                HypothesisOutcome::Unknown
            } else {
                HypothesisOutcome::Held
            };
            prop_assert_eq!(ended.outcome, expected);
            prop_assert_eq!(ended.broken.is_some(), expected == HypothesisOutcome::Broken);
            prop_assert_eq!(ended.unknown.is_some(), expected == HypothesisOutcome::Unknown);
        }
    }
}
