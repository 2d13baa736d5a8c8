//! Confirms a recovery with a live list before it ends. A watch can lose a change of one Pod, and the
//! Pod then still looks Ready.

use super::{Recovery, TrackedPod};

/// Whether a live list has confirmed what the watch shows of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmation {
    /// No list was made since the watch showed the recovery.
    Missing,
    /// A list showed something else. Either the Pods changed after the recovery, or the watch lost a
    /// change. As soon as the watch has caught up with the list, [`Recovery::compared`] tells which.
    Contradicted,
    /// The workload recovered.
    Confirmed,
}

impl Recovery {
    /// Whether the recovery can end without a list.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmation == Confirmation::Confirmed
    }

    /// Whether a list is needed before the recovery can end.
    #[must_use]
    pub fn needs_list(&self) -> bool {
        self.confirmation == Confirmation::Missing
    }

    /// Takes over what a live list shows of the workload's Pods, after [`Recovery::judge`] returned
    /// that the workload recovered.
    pub fn listed(&mut self, live: &[&TrackedPod]) {
        self.confirmation =
            if self.is_whole(live) { Confirmation::Confirmed } else { Confirmation::Contradicted };
    }

    /// The watch has caught up with the last list. `lost` says whether it lost a change.
    pub fn compared(&mut self, lost: bool) {
        if lost {
            self.whole = None;
        }
        if self.confirmation == Confirmation::Contradicted {
            // If the watch lost nothing, then the Pods changed after the recovery.
            self.confirmation =
                if self.whole.is_some() { Confirmation::Confirmed } else { Confirmation::Missing };
        }
    }
}
