//! The platform's `killsPerMinute` holds for all namespaces together, whichever process kills.

use std::time::Duration;

use super::cluster::Cluster;
use super::oracle::Oracle;
use super::verdict::{Killed, Victim};

const MINUTE: Duration = Duration::from_secs(60);

impl Oracle {
    /// Notes that a process has listed all records. It knows of earlier kills from this list.
    pub fn listed_records(&mut self, cluster: &Cluster, process: usize) {
        self.listed.entry(process).or_insert_with(|| cluster.now());
    }

    /// Checks the kills of the last minute when the API accepts another kill.
    pub fn rate(&mut self, cluster: &Cluster, process: usize, most: u32) {
        let now = cluster.now();
        let counts = |(kill, victim): &(&Killed, &Victim)| {
            if kill.process == process {
                return now - victim.at < MINUTE;
            }
            // An earlier process wrote its kill by the time of its own clock, when it decided. A
            // record that is gone tells nothing.
            let is_known = self.listed.get(&process).is_some_and(|listed| {
                kill.decided <= *listed && self.gone.get(&kill.record).is_none_or(|gone| gone > listed)
            });
            is_known && now - kill.decided + self.clocks < MINUTE
        };
        let victims =
            self.kills.iter().flat_map(|kill| kill.victims.iter().map(move |victim| (kill, victim)));
        let of_minute = victims.filter(counts).count();
        if of_minute >= most as usize {
            let text = format!(
                "process {process} makes kill number {} of a minute that may have {most}",
                of_minute + 1
            );
            self.violate("rate", text);
        }
    }
}
