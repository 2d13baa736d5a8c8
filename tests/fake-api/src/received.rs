//! What a test asks about the calls that the API received, and about the Events among them.

use serde_json::Value;

use crate::{Api, Call};

impl Api {
    /// All calls so far in order, without watches and Events.
    pub fn calls(&self) -> Vec<Call> {
        let world = self.world.lock().unwrap();
        let is_told = |call: &&Call| call.verb != "WATCH" && !call.path.contains("events.k8s.io");
        world.calls.iter().filter(is_told).cloned().collect()
    }

    /// All calls in order, with watches and Events, and forgets them.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.world.lock().unwrap().calls)
    }

    /// The calls that would kill.
    pub fn kills(&self) -> Vec<Call> {
        let is_kill = |call: &Call| call.verb == "DELETE" || call.path.ends_with("/eviction");
        self.world.lock().unwrap().calls.iter().filter(|call| is_kill(call)).cloned().collect()
    }

    /// The reasons of the Events written so far.
    pub fn events(&self) -> Vec<String> {
        self.field_of_events("reason")
    }

    /// The notes of the Events written so far.
    pub fn notes(&self) -> Vec<String> {
        self.field_of_events("note")
    }

    fn field_of_events(&self, field: &str) -> Vec<String> {
        self.stored_events().iter().filter_map(|event| event[field].as_str().map(str::to_owned)).collect()
    }

    /// The stored Events, in the order in which they were written.
    pub fn stored_events(&self) -> Vec<Value> {
        self.versions("/events")
    }

    /// Every version of the objects in collections with this ending, in the order in which they
    /// were written.
    pub fn versions(&self, collection: &str) -> Vec<Value> {
        let world = self.world.lock().unwrap();
        let versions = world.history.iter().filter(|(_, of, _)| of.ends_with(collection));
        versions.map(|(_, _, change)| change["object"].clone()).collect()
    }

    /// How often a process tried to write an Event so far.
    pub fn tries_of_events(&self) -> usize {
        let world = self.world.lock().unwrap();
        world.calls.iter().filter(|call| call.path.contains("events.k8s.io")).count()
    }
}
