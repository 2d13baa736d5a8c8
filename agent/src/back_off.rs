//! Workloads that did not recover in time rest: ten minutes, then twice as long after each further time-out in a row, then until they have
//! been healthy for as long as the longest rest. A recovery in time ends it.

use std::time::Duration;

use jiff::Timestamp;
use policy::record::{BackOff, WorkloadReference};

/// The first rest: twice the default deadline, so that a second kill never meets the end of the first.
pub const FIRST: Duration = Duration::from_secs(600);
/// With so many time-outs in a row it is no longer time that ends the rest. Rests of 10, 20, 40 and 80 minutes come before.
pub const STOP: u32 = 5;

/// How long a workload rests after so many time-outs in a row; at the stop, how long it must have been healthy.
fn rest(timed_out: u32) -> Duration {
    FIRST * 2_u32.pow(timed_out.clamp(1, STOP) - 1)
}

/// After a recovery timed out at `now`.
#[must_use]
pub fn timed_out(before: Option<&BackOff>, workload: &WorkloadReference, now: Timestamp) -> BackOff {
    let timed_out = before.map_or(0, |before| before.timed_out).saturating_add(1);
    let until =
        (timed_out < STOP).then(|| now.checked_add(rest(timed_out)).unwrap_or(Timestamp::MAX).to_string());
    BackOff { workload: workload.clone(), timed_out, until, healthy_since: None }
}

/// Whether a kill in the workload is refused at `now`. A time that can't be read refuses.
#[must_use]
pub fn refuses(back_off: &BackOff, now: Timestamp) -> bool {
    match &back_off.until {
        Some(until) => until.parse().map_or(true, |until: Timestamp| until > now),
        None => true,
    }
}

/// After a look found the workload healthy or not at `now`; `None` when it is released.
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
    use crate::views::examples::{controller, noon};

    fn after(minutes: u64) -> Timestamp {
        noon().checked_add(Duration::from_secs(minutes * 60)).unwrap()
    }

    #[test]
    fn each_rest_is_twice_as_long_and_then_time_is_not_enough() {
        let web: WorkloadReference = controller("Deployment", "web").into();
        let mut back_off = None;
        for minutes in [10, 20, 40, 80] {
            let next = timed_out(back_off.as_ref(), &web, noon());
            assert!(refuses(&next, after(minutes - 1)) && !refuses(&next, after(minutes)), "{next:?}");
            assert_eq!(looked_at(&next, true, after(1_000)).as_ref(), Some(&next), "it counts on");
            back_off = Some(next);
        }
        let stopped = timed_out(back_off.as_ref(), &web, noon());
        assert!(refuses(&stopped, after(100_000)));
    }

    #[test]
    fn what_is_stopped_is_released_after_a_long_health() {
        let web: WorkloadReference = controller("Deployment", "web").into();
        let stopped = BackOff { workload: web, timed_out: STOP, until: None, healthy_since: None };
        let healthy = looked_at(&stopped, true, after(0)).unwrap();
        let still = looked_at(&healthy, true, after(159)).unwrap();
        assert_eq!(looked_at(&still, true, after(160)), None);
        // Once ill, and the time begins anew.
        let ill = looked_at(&still, false, after(159)).unwrap();
        let again = looked_at(&ill, true, after(160)).unwrap();
        assert!(looked_at(&again, true, after(319)).is_some());
        assert_eq!(looked_at(&again, true, after(320)), None);
    }

    #[test]
    fn a_time_that_cannot_be_read_refuses() {
        let web: WorkloadReference = controller("Deployment", "web").into();
        let odd =
            BackOff { workload: web, timed_out: 1, until: Some("soon".to_owned()), healthy_since: None };
        assert!(refuses(&odd, after(1_000)));
    }
}
