//! Bodies of reviews, read so that all of them together stay within a budget of memory.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A review holds two objects of at most 3 MiB each, and escapes.
pub const LARGEST: usize = 8 * 1024 * 1024;
/// Of each body this much is free, so that reviews of a usual size never wait for anybody.
const FREE: usize = 64 * 1024;
/// What is above it is shared by all connections, 8 MiB at a time if need be.
const SHARED: usize = 32 * 1024 * 1024;

/// The budget; a clone spends the same.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SHARED)))
    }
}

/// A body, and its share of the budget until it is dropped.
#[derive(Debug)]
pub struct Read {
    /// The whole of it.
    pub bytes: Bytes,
    _shares: Vec<OwnedSemaphorePermit>,
}

impl Budget {
    /// Reads a body to its end. It takes from the budget as it comes, and waits where there is nothing left; so only who sends can hold
    /// any of it. Without an end of its own: the caller sets a time limit.
    ///
    /// # Errors
    /// The status and the words of the answer, when it is too large or ends early.
    pub async fn read(&self, body: Body) -> Result<Read, (StatusCode, String)> {
        let mut bytes = Vec::new();
        let mut shares = Vec::new();
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part = part
                .map_err(|error| (StatusCode::BAD_REQUEST, format!("failed to read the review: {error}")))?;
            let length = bytes.len() + part.len();
            if length > LARGEST {
                let why = format!("the review has more than {LARGEST} bytes, the most that one can have");
                return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
            }
            let over = length.saturating_sub(FREE.max(bytes.len()));
            if let Ok(share @ 1..) = u32::try_from(over) {
                let permit = Arc::clone(&self.0).acquire_many_owned(share).await;
                shares
                    .push(permit.map_err(|_| {
                        (StatusCode::SERVICE_UNAVAILABLE, "the webhook is ending".to_owned())
                    })?);
            }
            bytes.extend_from_slice(&part);
        }
        Ok(Read { bytes: bytes.into(), _shares: shares })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::time::Duration;

    fn body(parts: usize) -> Body {
        Body::from_stream(stream::iter((0..parts).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]))))
    }

    #[tokio::test(start_paused = true)]
    async fn together_they_stay_within_the_budget_and_small_ones_never_wait() {
        let budget = Budget::default();
        let whole = LARGEST / (64 * 1024);
        let mut held = Vec::new();
        // The first 64 KiB of each are free, so the budget is enough for four and a little.
        for _ in 0..4 {
            held.push(budget.read(body(whole)).await.unwrap());
        }
        let waits = tokio::time::timeout(Duration::from_secs(1), budget.read(body(whole))).await;
        assert!(waits.is_err(), "there is nothing left for a fifth");
        assert_eq!(budget.read(body(1)).await.unwrap().bytes.len(), 64 * 1024);
        held.pop();
        assert_eq!(budget.read(body(whole)).await.unwrap().bytes.len(), LARGEST);
        drop(held);
        assert_eq!(budget.0.available_permits(), SHARED, "all of it is given back");
    }

    #[tokio::test]
    async fn one_byte_too_many_is_refused() {
        let parts = [vec![b' '; LARGEST], vec![b' ']];
        let body = Body::from_stream(stream::iter(parts.map(Ok::<_, std::io::Error>)));
        let (status, why) = Budget::default().read(body).await.unwrap_err();
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(why.contains("more than 8388608 bytes"), "{why}");
    }
}
