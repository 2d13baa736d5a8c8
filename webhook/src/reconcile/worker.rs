//! Takes namespaces from the queue and reconciles a few of them at a time, forever.

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::reconcile::queue::Queue;
use crate::reconcile::reconciler::Records;

/// The most namespaces that are reconciled at the same time. With this number, hundreds of
/// namespaces take about a second, and the load on the API server stays small.
const AT_ONCE: usize = 16;

/// Reconciles each namespace that is due, until the future is dropped.
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
                "failed to reconcile the record, retrying"
            );
        }
    }
}
