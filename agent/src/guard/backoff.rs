//! The rests of workloads whose recovery timed out. A check of the steady state that breaks during a
//! recovery counts as a time-out. The first rest is ten minutes, and each further time-out in a row
//! doubles it. From the fifth time-out on, a workload rests until it has been
//! healthy for as long as the longest rest (160 minutes). A recovery in time ends the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use policy::record::{BackOff, OptInStatus, WorkloadReference};

/// The first rest. It is twice the default `recovery-deadline`, so that a slow recovery can end
/// before the next kill.
pub const FIRST: Duration = Duration::from_secs(600);
/// From this number of time-outs in a row on, time alone no longer ends the rest. The rests before
/// it last 10, 20, 40 and 80 minutes.
pub const STOP: u32 = 5;

/// How long a workload rests after this number of time-outs in a row. From [`STOP`] on, this is how
/// long the workload must have been healthy.
fn rest(timed_out: u32) -> Duration {
    FIRST * 2_u32.pow(timed_out.clamp(1, STOP) - 1)
}

/// The rest of a workload whose recovery timed out at `now`. `before` is its rest so far.
#[must_use]
pub fn timed_out(
    before: Option<&BackOff>,
    workload: &WorkloadReference,
    because: &str,
    now: Timestamp,
) -> BackOff {
    let timed_out = before.map_or(0, |before| before.timed_out).saturating_add(1);
    let until =
        (timed_out < STOP).then(|| now.checked_add(rest(timed_out)).unwrap_or(Timestamp::MAX).to_string());
    let because = Some(because.to_owned());
    BackOff { workload: workload.clone(), timed_out, because, until, healthy_since: None }
}

/// A sentence that says until when a workload rests, and why.
#[must_use]
pub fn sentence(back_off: &BackOff) -> String {
    let because = back_off.because.as_deref().unwrap_or("its recovery timed out");
    let until = back_off.until.as_deref().and_then(|until| until.parse().ok());
    match until {
        Some(until) => {
            let until: Timestamp = until;
            let until = until.strftime("%Y-%m-%d %H:%M:%S UTC");
            format!("the workload rests until {until}, because {because}")
        }
        None => format!(
            "the workload rests until it has been healthy for {} minutes, because {because}",
            rest(STOP).as_secs() / 60
        ),
    }
}

/// Whether a kill in the workload is refused at `now`. A rest whose end can't be parsed refuses.
#[must_use]
pub fn refuses(back_off: &BackOff, now: Timestamp) -> bool {
    match &back_off.until {
        Some(until) => until.parse().map_or(true, |until: Timestamp| until > now),
        None => true,
    }
}

/// The workloads that rest at `now`, by their UIDs, each with a sentence.
#[must_use]
pub fn resting(status: &OptInStatus, now: Timestamp) -> BTreeMap<String, String> {
    let resting = status.backing_off.iter().filter(|known| refuses(known, now));
    resting.map(|known| (known.workload.uid.clone(), sentence(known))).collect()
}

/// The rest after a look at `now` found the workload healthy or not. `None` if the rest is over.
#[must_use]
pub fn looked_at(back_off: &BackOff, is_healthy: bool, now: Timestamp) -> Option<BackOff> {
    if back_off.until.is_some() {
        return Some(back_off.clone());
    }
    let since = back_off.healthy_since.as_deref().and_then(|since| since.parse().ok()).unwrap_or(now);
    let for_long =
        now.duration_since(since) >= jiff::SignedDuration::try_from(rest(STOP)).unwrap_or_default();
    if is_healthy && for_long {
        return None;
    }
    Some(BackOff { healthy_since: is_healthy.then(|| since.to_string()), ..back_off.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::snapshot::examples::{controller, noon};
    use proptest::prelude::*;

    fn after(minutes: u64) -> Timestamp {
        noon().checked_add(Duration::from_secs(minutes * 60)).unwrap()
    }

    #[test]
    fn each_rest_is_twice_as_long_and_then_time_is_not_enough() {
        let web: WorkloadReference = controller("Deployment", "web").into();
        let mut back_off = None;
        for minutes in [10, 20, 40, 80] {
            let next = timed_out(back_off.as_ref(), &web, "it was late", noon());
            assert!(refuses(&next, after(minutes - 1)) && !refuses(&next, after(minutes)), "{next:?}");
            assert_eq!(looked_at(&next, true, after(1_000)).as_ref(), Some(&next), "it counts on");
            back_off = Some(next);
        }
        let stopped = timed_out(back_off.as_ref(), &web, "it was late", noon());
        assert!(refuses(&stopped, after(100_000)));
    }

    #[test]
    fn what_is_stopped_is_released_after_a_long_health() {
        let web: WorkloadReference = controller("Deployment", "web").into();
        let stopped =
            BackOff { workload: web, timed_out: STOP, because: None, until: None, healthy_since: None };
        let healthy = looked_at(&stopped, true, after(0)).unwrap();
        let still = looked_at(&healthy, true, after(159)).unwrap();
        assert_eq!(looked_at(&still, true, after(160)), None);
        // One unhealthy look, and the time begins anew.
        let ill = looked_at(&still, false, after(159)).unwrap();
        let again = looked_at(&ill, true, after(160)).unwrap();
        assert!(looked_at(&again, true, after(319)).is_some());
        assert_eq!(looked_at(&again, true, after(320)), None);
    }

    #[test]
    fn a_rest_says_until_when_and_why() {
        let web: WorkloadReference = controller("Deployment", "web").into();
        let first = timed_out(None, &web, "check `a` broke: 503", noon());
        assert_eq!(
            sentence(&first),
            "the workload rests until 2026-11-23 12:10:00 UTC, because check `a` broke: 503"
        );
        let stopped = BackOff { timed_out: STOP, because: None, until: None, ..first };
        assert_eq!(
            sentence(&stopped),
            "the workload rests until it has been healthy for 160 minutes, because its recovery timed out"
        );
    }

    #[test]
    fn a_time_that_cannot_be_read_refuses() {
        let web: WorkloadReference = controller("Deployment", "web").into();
        let odd = BackOff {
            workload: web,
            timed_out: 1,
            because: None,
            until: Some("soon".to_owned()),
            healthy_since: None,
        };
        assert!(refuses(&odd, after(1_000)));
    }

    proptest! {
        #[test]
        fn so_many_in_a_row_rest_so_long(
            // How many minutes after the previous rest each time-out comes, and at which looks the
            // workload is healthy.
            pauses in prop::collection::vec(0..10_000_u64, 1..12),
            looks in prop::collection::vec((0..120_u64, prop::bool::weighted(0.8)), 1..20),
        ) {
            let web: WorkloadReference = controller("Deployment", "web").into();
            let (mut back_off, mut minute) = (None, 0);
            for (index, pause) in pauses.iter().enumerate() {
                let count = u32::try_from(index).unwrap() + 1;
                minute += pause;
                let next = timed_out(back_off.as_ref(), &web, "it was late", after(minute));
                prop_assert_eq!(next.timed_out, count);
                let rest = [10, 20, 40, 80].get(index);
                if let Some(rest) = rest {
                    prop_assert!(refuses(&next, after(minute)));
                    prop_assert!(refuses(&next, after(minute + rest - 1)));
                    prop_assert!(!refuses(&next, after(minute + rest)));
                    prop_assert_eq!(looked_at(&next, true, after(minute + 10_000)), Some(next.clone()));
                    minute += rest;
                } else {
                    prop_assert!(refuses(&next, after(minute + 1_000_000)), "time alone is not enough");
                }
                back_off = Some(next);
            }
            // From the fifth time-out on, the rest ends after 160 minutes of healthy looks, and not
            // earlier.
            let (mut back_off, mut healthy_since) = (back_off.unwrap(), None);
            for (pause, is_healthy) in looks {
                minute += pause;
                healthy_since = is_healthy.then(|| healthy_since.unwrap_or(minute));
                let is_long = back_off.timed_out >= STOP && healthy_since.is_some_and(|since| minute - since >= 160);
                match looked_at(&back_off, is_healthy, after(minute)) {
                    Some(next) => {
                        prop_assert!(!is_long, "healthy from {:?} to {}", healthy_since, minute);
                        back_off = next;
                    }
                    None => {
                        prop_assert!(is_long, "released at {}, healthy since {:?}", minute, healthy_since);
                        break;
                    }
                }
            }
        }
    }
}
