//! Watches of the fake API, and the ways to disturb them.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Api, holds, is_selected};

/// A disturbance of the watches whose path ends with `path`.
pub(super) struct Disturbance {
    path: String,
    what: Wrong,
    /// The disturbance concerns only watches that began before this number of others.
    before: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    /// The watches stay open, show nothing and never end.
    Deaf,
    /// The watches end, as when a connection is closed.
    Over,
}

impl Api {
    /// From now on no watch of a path with this ending shows anything or ends, as on a connection
    /// that is dead or stalls. The same holds for watches that begin later. [`Self::heal`] shows
    /// them late what they missed.
    pub fn stall(&self, path: &str) {
        self.disturb(path, Wrong::Deaf, u64::MAX);
    }

    /// Does the same as [`Self::stall`], but only for watches that are open now. Watches that begin
    /// later hear everything.
    pub fn deafen(&self, path: &str) {
        let before = self.world.lock().unwrap().watches;
        self.disturb(path, Wrong::Deaf, before);
    }

    /// Ends all watches that are open now and whose path ends with `path`. `fail("WATCH", …)` sets
    /// how long it takes until the next watch can begin.
    pub fn hang_up(&self, path: &str) {
        let before = self.world.lock().unwrap().watches;
        self.disturb(path, Wrong::Over, before);
    }

    fn disturb(&self, path: &str, what: Wrong, before: u64) {
        let disturbance = Disturbance { path: path.to_owned(), what, before };
        self.world.lock().unwrap().disturbances.push(disturbance);
        self.changed.notify_waiters();
    }

    /// How many watches of paths with this ending were begun.
    pub fn watches(&self, path: &str) -> usize {
        let world = self.world.lock().unwrap();
        world.calls.iter().filter(|call| call.verb == "WATCH" && call.path.ends_with(path)).count()
    }
}

/// Shows what happened since `resourceVersion`, then what happens, until `timeoutSeconds`. Two
/// seconds before the end it sends a bookmark.
pub(super) fn watch(api: Api, path: String, query: BTreeMap<String, String>) -> Response {
    let since: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let seconds = query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(290);
    let wants_bookmarks = query.get("allowWatchBookmarks").is_some_and(|wanted| wanted == "true");
    let sleep = |seconds| Box::pin(tokio::time::sleep(Duration::from_secs(seconds)));
    let number = {
        let mut world = api.world.lock().unwrap();
        world.watches += 1;
        world.watches
    };
    let bookmark = wants_bookmarks.then(|| sleep(u64::saturating_sub(seconds, 2)));
    let stream = futures::stream::unfold((since, bookmark, sleep(seconds)), move |mut state| {
        let (api, path, query) = (api.clone(), path.clone(), query.clone());
        async move {
            let (since, bookmark, end) = &mut state;
            loop {
                let changed = api.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let (wrong, next, newest) = {
                    let world = api.world.lock().unwrap();
                    let is_meant =
                        |wrong: &&Disturbance| number <= wrong.before && path.ends_with(&wrong.path);
                    let is_next = |(_, of, event): &&(u64, String, Value)| {
                        holds(&path, of) && is_selected(&event["object"], &query)
                    };
                    let seen = world.history.partition_point(|(version, ..)| *version <= *since);
                    let wrong = world.disturbances.iter().rev().find(is_meant).map(|wrong| wrong.what);
                    (wrong, world.history[seen..].iter().find(is_next).cloned(), world.version)
                };
                match (wrong, next) {
                    (Some(Wrong::Over), _) => return None,
                    (Some(Wrong::Deaf), _) => {
                        changed.await;
                        continue;
                    }
                    (None, Some((version, _, event))) => {
                        *since = version;
                        return Some((line(&event), state));
                    }
                    // What this watch doesn't show is not looked at again.
                    (None, None) => *since = newest,
                }
                let bookmarked = async {
                    match bookmark {
                        Some(bookmark) => bookmark.await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = changed => {}
                    () = bookmarked => {
                        *bookmark = None;
                        *since = newest;
                        let object = json!({
                            "apiVersion": "v1", "kind": "Bookmark", "metadata": {"resourceVersion": newest.to_string()}
                        });
                        return Some((line(&json!({"type": "BOOKMARK", "object": object})), state));
                    }
                    () = &mut *end => return None,
                }
            }
        }
    });
    Response::new(Body::from_stream(stream))
}

fn line(event: &Value) -> Result<String, std::convert::Infallible> {
    Ok(format!("{event}\n"))
}
