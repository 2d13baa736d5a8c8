//! The open connections of a server. If there are too many, the server gives up an idle one, so
//! that idle clients do not keep others out.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The open connections. All clones share the same list.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// A counter of what happens, by which connections are ordered.
    moment: u64,
    open: BTreeMap<u64, State>,
}

#[derive(Debug)]
struct State {
    close: CancellationToken,
    answering: u32,
    has_answered: bool,
    last: u64,
}

/// One open connection. The list drops the connection with the last clone of this value.
#[derive(Debug, Clone)]
pub struct Open(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    connections: Connections,
    number: u64,
    close: CancellationToken,
}

impl Connections {
    /// Adds a new connection to the list.
    #[must_use]
    pub fn open(&self) -> Open {
        let mut inner = self.0.lock();
        let (number, last, close) = (inner.next, inner.tick(), CancellationToken::new());
        inner.next += 1;
        let state = State { close: close.clone(), answering: 0, has_answered: false, last };
        inner.open.insert(number, state);
        drop(inner);
        Open(Arc::new(Opened { connections: self.clone(), number, close }))
    }

    /// Gives up one idle connection. Returns `false` if no connection is idle.
    ///
    /// Connections that never had an answer go first, then those that wait for their next request.
    /// Among equals, the one that has been idle for the longest time goes first. A connection that
    /// is being answered is never given up.
    pub fn give_one_up(&self) -> bool {
        let mut inner = self.0.lock();
        let idle = inner.open.iter().filter(|(_, state)| state.answering == 0);
        let least = idle.min_by_key(|(_, state)| (state.has_answered, state.last)).map(|(number, _)| *number);
        let Some(state) = least.and_then(|number| inner.open.remove(&number)) else {
            return false;
        };
        state.close.cancel();
        true
    }
}

impl Inner {
    fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }
}

impl Open {
    /// The token that is cancelled when the server gives up the connection.
    #[must_use]
    pub fn given_up(&self) -> &CancellationToken {
        &self.0.close
    }

    /// Notes that a request has arrived on the connection.
    pub fn answer_begins(&self) {
        let mut inner = self.0.connections.0.lock();
        if let Some(state) = inner.open.get_mut(&self.0.number) {
            state.answering += 1;
        }
    }

    /// Notes that the answer to a request is made, or that the request broke off.
    pub fn answer_ends(&self) {
        let mut inner = self.0.connections.0.lock();
        let last = inner.tick();
        if let Some(state) = inner.open.get_mut(&self.0.number) {
            state.answering = state.answering.saturating_sub(1);
            (state.has_answered, state.last) = (true, last);
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.connections.0.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_had_an_answer_goes_first_then_who_waits_longest() {
        let connections = Connections::default();
        let [api_server, silent, busy, other] = [(); 4].map(|()| connections.open());
        for answered in [&api_server, &other] {
            answered.answer_begins();
            answered.answer_ends();
        }
        busy.answer_begins();
        let given_up = || [&api_server, &silent, &busy, &other].map(|open| open.given_up().is_cancelled());
        assert!(connections.give_one_up());
        assert_eq!(given_up(), [false, true, false, false]);
        assert!(connections.give_one_up());
        assert_eq!(given_up(), [true, true, false, false]);
        assert!(connections.give_one_up());
        assert!(!connections.give_one_up(), "the only one left is being answered");
        assert_eq!(given_up(), [true, true, false, true]);
        busy.answer_ends();
        drop(busy);
        assert!(!connections.give_one_up(), "it is closed");
    }
}
