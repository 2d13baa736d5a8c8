//! Reads the bodies of reviews so that all of them together stay within a memory budget.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// The largest body, in bytes. A review contains two objects of at most 3 MiB each, and JSON
/// escapes make them larger.
pub const LARGEST: usize = 8 * 1024 * 1024;
/// The part of each body, in bytes, that does not count against the budget. So reviews of a usual
/// size never wait.
const FREE: usize = 16 * 1024;
/// The budget in bytes that all connections share for the rest of their bodies. One body may take
/// almost 8 MiB of it.
const SHARED: usize = 24 * 1024 * 1024;

/// The memory budget. All clones spend the same budget.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    /// Admits one large body at a time to the parser, because the parsed value may be several times
    /// as large as the body.
    parsing: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: Arc::new(Semaphore::new(SHARED)), parsing: Arc::new(Semaphore::new(1)) }
    }
}

/// A body that was read to its end.
#[derive(Debug)]
pub struct Read {
    /// The whole body.
    pub bytes: Vec<u8>,
    /// The body's share of the budget. Keep the share as long as anything that was made from the
    /// body.
    pub share: Share,
}

/// A part of the budget. Dropping it gives the part back.
#[derive(Debug, Default)]
pub struct Share {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// Reads a body to its end.
    ///
    /// The function first waits until the budget has room for the whole length. If each body took
    /// its share in parts, several bodies could wait for each other forever. The wait has no time
    /// limit of its own, so the caller must set one.
    ///
    /// # Errors
    /// Returns the status and the text of the answer if the body is too large or ends early.
    pub async fn read(&self, body: Body) -> Result<Read, (StatusCode, String)> {
        let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let length = length.map_or(LARGEST, |length| length.min(LARGEST));
        let _permit = match u32::try_from(length.saturating_sub(FREE)) {
            Ok(share @ 1..) => Arc::clone(&self.bytes).acquire_many_owned(share).await.ok(),
            _ => None,
        };
        let mut bytes = Vec::with_capacity(length);
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part = part
                .map_err(|error| (StatusCode::BAD_REQUEST, format!("failed to read the review: {error}")))?;
            if bytes.len() + part.len() > LARGEST {
                let why = format!("the review has more than {LARGEST} bytes, which is the limit");
                return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(Read { bytes, share: Share { _permit } })
    }

    /// Waits until this body may be parsed. Keep the returned permit while you parse. A small body
    /// needs no permit.
    pub async fn turn(&self, bytes: &[u8]) -> Option<SemaphorePermit<'_>> {
        if bytes.len() <= FREE {
            return None;
        }
        // The semaphore is never closed, so this does not fail.
        self.parsing.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, stream};
    use std::time::Duration;

    fn body(parts: usize) -> Body {
        Body::from_stream(stream::iter((0..parts).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]))))
    }

    #[tokio::test(start_paused = true)]
    async fn together_they_stay_within_the_budget_and_small_ones_never_wait() {
        let budget = Budget::default();
        let whole = LARGEST / (64 * 1024);
        let mut held = Vec::new();
        // The first 16 KiB of each body are free, so the budget is enough for three bodies and a
        // little more.
        for _ in 0..3 {
            held.push(budget.read(body(whole)).await.unwrap());
        }
        let waits = tokio::time::timeout(Duration::from_secs(1), budget.read(body(whole))).await;
        assert!(waits.is_err(), "there is nothing left for a fourth");
        let small = Body::from(vec![b' '; FREE]);
        assert_eq!(budget.read(small).await.unwrap().bytes.len(), FREE);
        held.pop();
        assert_eq!(budget.read(body(whole)).await.unwrap().bytes.len(), LARGEST);
        let shares: Vec<Share> = held.into_iter().map(|Read { share, .. }| share).collect();
        assert!(
            budget.bytes.available_permits() < SHARED / 2,
            "the bytes are gone, what was made of them is not"
        );
        drop(shares);
        assert_eq!(budget.bytes.available_permits(), SHARED, "all of it is given back");
    }

    #[tokio::test]
    async fn of_large_ones_one_is_parsed_at_a_time() {
        let budget = Budget::default();
        let large = vec![b' '; FREE + 1];
        let turn = budget.turn(&large).await;
        assert!(budget.turn(&large).now_or_never().is_none());
        assert!(budget.turn(&large[1..]).now_or_never().is_some(), "small ones don't wait");
        drop(turn);
        assert!(budget.turn(&large).now_or_never().is_some());
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
