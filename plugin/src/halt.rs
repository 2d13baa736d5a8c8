//! `halt` and `resume`: what they end or replace is said, as far as it can be seen in a moment.

use std::io::Write;
use std::time::Duration;

use agent::explanation::one_line;
use kube::Client;
use policy::keys::{HALT, SYSTEM_NAMESPACE};

use crate::apply;
use crate::args::Target;
use crate::change::Change;
use crate::make::make;

/// A halt is for an emergency, in which the API server may be slow to read from.
const LOOK: Duration = Duration::from_secs(2);

/// Halts, and says if it was halted already.
///
/// # Errors
/// When it is denied, or can't be done.
pub async fn halt(
    client: &Client,
    target: &Target,
    change: &Change,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let before = reason(client, &change.namespace).await;
    make(client, target, change, out).await?;
    if let Some(Some(reason)) = before {
        writeln!(out, "{} was halted already: {}", what(&change.namespace), told(&reason))?;
    }
    Ok(())
}

/// Ends the halt, and says which.
///
/// # Errors
/// When it is denied, or can't be done.
pub async fn resume(
    client: &Client,
    target: &Target,
    change: &Change,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let before = reason(client, &change.namespace).await;
    make(client, target, change, out).await?;
    let (what, would) = (what(&change.namespace), if change.dry_run { "would have " } else { "" });
    match before {
        Some(Some(reason)) => writeln!(out, "{would}ended the halt of {what}: {}", told(&reason))?,
        Some(None) => writeln!(out, "{what} was not halted")?,
        None => {}
    }
    Ok(())
}

/// Why a namespace is halted, or that it is not; none where that can't be seen in time.
async fn reason(client: &Client, name: &str) -> Option<Option<String>> {
    let looked = tokio::time::timeout(LOOK, apply::annotations(client, name)).await;
    Some(looked.ok()?.ok()?.remove(HALT))
}

/// Its presence halts, whatever it says.
fn told(reason: &str) -> String {
    if reason.is_empty() { "no reason was given".to_owned() } else { one_line(reason) }
}

fn what(namespace: &str) -> String {
    if namespace == SYSTEM_NAMESPACE { "everything".to_owned() } else { format!("namespace {namespace}") }
}
