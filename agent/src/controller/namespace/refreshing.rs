//! Updates the state that the record shows between rounds. The state follows the record, the halt
//! and the clock. A state that the last round found by looking at the namespace stays.

use super::{NamespaceTask, WAITING, waiting};
use policy::record::{STATE_ACTIVE, STATE_DRY_RUN};

use crate::guard::namespace::Forbidden;
use crate::refusal::Refusal;
use crate::status::Activity;
use crate::status::foreseen::{foreseen, has_ended};
use crate::telemetry::activity::Halt;

impl NamespaceTask {
    /// Updates the state. `is_new` says that the record has changed or that the task begins.
    pub(super) fn refresh(&mut self, is_new: bool) {
        let now = self.context.clock.wall();
        let halt = self.context.halt.borrow().clone();
        let foreseen = foreseen(&self.name, &self.record.spec, &halt, &self.context.policy, now);
        match foreseen {
            // A round has looked at the namespace since the record said so, and its result is
            // newer.
            Some(Forbidden { refusal: Refusal::NoRights, .. })
                if !is_new && self.status_writer.state() != Some(Refusal::NoRights.label()) => {}
            Some(Forbidden { refusal, sentence }) => {
                self.status_writer.set_state(refusal.label(), Activity::Nothing, sentence, now);
                self.foreseen = Some(refusal);
            }
            None if self.is_stale(&halt) => {
                let (state, activity) = waiting(&self.record);
                self.status_writer.set_state(state, activity, WAITING.to_owned(), now);
                self.foreseen = None;
            }
            // The state shows a halt from an earlier process. Nobody has read the halt since, so it
            // may still hold.
            None if halt == Halt::Unknown && self.foreseen == Some(Refusal::Halted) => {}
            None => self.foreseen = None,
        }
    }

    /// Whether the state is empty, belongs to another dry-run setting, or shows a refusal that has
    /// ended.
    fn is_stale(&self, halt: &Halt) -> bool {
        let Some(state) = self.status_writer.state() else { return true };
        let is_dry_run = self.record.spec.settings.as_ref().is_some_and(|settings| settings.dry_run);
        let contrary = if is_dry_run { STATE_ACTIVE } else { STATE_DRY_RUN };
        state == contrary || has_ended(state, self.foreseen, halt)
    }
}
