//! The rest of a workload after a Pod changed during its kill, or after a kill without a clear
//! answer.

use std::collections::BTreeSet;

use jiff::Timestamp;
use policy::record::{OptInStatus, Rest};

/// UIDs of the workloads that rest at `now` because a Pod changed during its kill or the kill had
/// no clear answer, from the status of a record.
#[must_use]
pub fn resting(status: &OptInStatus, now: Timestamp) -> BTreeSet<String> {
    status.resting.iter().filter(|known| goes_on(known, now)).map(|known| known.workload.clone()).collect()
}

/// Whether a rest goes on at `now`. A rest whose end can't be parsed goes on.
#[must_use]
pub fn goes_on(rest: &Rest, now: Timestamp) -> bool {
    rest.until.parse().map_or(true, |until: Timestamp| until > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_ends_by_the_clock_and_one_that_cannot_be_read_does_not() {
        let rest =
            |workload: &str, until: &str| Rest { workload: workload.to_owned(), until: until.to_owned() };
        let status = OptInStatus {
            resting: vec![
                rest("a", "2026-11-23T12:00:00Z"),
                rest("b", "soon"),
                rest("c", "2026-11-23T12:00:01Z"),
            ],
            ..OptInStatus::default()
        };
        let noon = "2026-11-23T12:00:00Z".parse().unwrap();
        assert_eq!(resting(&status, noon), BTreeSet::from(["b".to_owned(), "c".to_owned()]));
    }
}
