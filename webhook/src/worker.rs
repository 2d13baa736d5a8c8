//! Empties the queue: a few looks at a time, for ever.

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::queue::Queue;
use crate::records::Records;

/// Looks at the same time: enough to be done with a thousand namespaces in seconds, few enough to be no load.
const AT_ONCE: usize = 4;

/// Looks at each namespace that is due, until dropped.
pub async fn work(records: &Records, queue: &Queue) {
    let mut looks = FuturesUnordered::new();
    loop {
        tokio::select! {
            name = queue.next(), if looks.len() < AT_ONCE => looks.push(look(records, queue, name)),
            Some(()) = looks.next(), if !looks.is_empty() => {}
        }
    }
}

async fn look(records: &Records, queue: &Queue, name: String) {
    match records.look(&name).await {
        Ok(again) => queue.done(&name, again),
        Err(error) => {
            let again = queue.failed(&name);
            tracing::warn!(
                namespace = name,
                error = error.to_string(),
                again_in_ms = u64::try_from(again.as_millis()).unwrap_or(u64::MAX),
                "failed to keep the record, it is tried again"
            );
        }
    }
}
