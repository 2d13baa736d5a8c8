//! `halt` and `resume`. Both print which halt they replace or end, if they can read it in a moment.

use std::io::Write;
use std::time::Duration;

use agent::cluster::access;
use agent::explain::explanation::one_line;
use jiff::{Timestamp, Unit};
use kube::Client;
use policy::well_known::{HALT, SYSTEM_NAMESPACE};
use runtime::clock::{Clock, SystemClock};
use runtime::text::cut;

use crate::apply_change::make;
use crate::args::Target;
use crate::change::Change;
use crate::{apply, suggest};

/// How long the plugin waits for each read. A halt is for an emergency, in which the API server may
/// be slow.
const LOOK: Duration = Duration::from_secs(2);

/// The most bytes of a user's name in the text of a halt.
const LONGEST_USER: usize = 200;

/// Halts a namespace or everything, and prints if it was halted already. Without a reason, the text
/// of the halt says who halted and when, and the plugin prints how to give a reason.
///
/// # Errors
/// Returns an error if the API server refuses the halt, or if the halt cannot be made.
pub async fn halt(
    client: &Client,
    target: &Target,
    namespace: &str,
    given: Option<&str>,
    dry_run: bool,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let given = given.filter(|given| !given.trim().is_empty());
    // Read both at the same time, because the halt must not wait for one after the other.
    let (before, user) = tokio::join!(reason(client, namespace), async {
        match given {
            Some(_) => None,
            None => user(client).await,
        }
    });
    // A reason that is there says more than none.
    let known = before.clone().flatten();
    let text = match given {
        Some(given) => given.to_owned(),
        None => known.unwrap_or_else(|| unstated(user.as_deref(), SystemClock.wall())),
    };
    make(client, target, &Change::halt(namespace, &text).with_dry_run(dry_run), out).await?;
    if let Some(Some(reason)) = before {
        writeln!(out, "{} was halted already: {}", what(namespace), told(&reason))?;
    }
    if given.is_none() {
        let name = (namespace != SYSTEM_NAMESPACE).then_some(namespace);
        let words: Vec<&str> = ["halt"].into_iter().chain(name).chain(["--reason", "TEXT"]).collect();
        writeln!(out, "no reason was given; to give one, run: {}", suggest::chaos(target, &words))?;
    }
    Ok(())
}

/// The text of a halt for which nobody gave a reason.
fn unstated(user: Option<&str>, now: Timestamp) -> String {
    let now = now.round(Unit::Second).unwrap_or(now);
    let by = user.map_or_else(String::new, |user| format!("by {}, ", cut(one_line(user), LONGEST_USER)));
    format!("{by}with kubectl chaos at {now}, no reason given")
}

/// The name of the user who runs the plugin, as the API server knows it. `None` if it cannot be
/// read in time.
async fn user(client: &Client) -> Option<String> {
    tokio::time::timeout(LOOK, access::user(client)).await.ok()?.ok()?.username
}

/// Ends a halt, and prints which halt ended.
///
/// # Errors
/// Returns an error if the API server refuses the change, or if the change cannot be made.
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

/// The text of a namespace's halt, or `Some(None)` if the namespace is not halted. `None` if the
/// namespace cannot be read in time.
async fn reason(client: &Client, name: &str) -> Option<Option<String>> {
    let looked = tokio::time::timeout(LOOK, apply::annotations(client, name)).await;
    Some(looked.ok()?.ok()?.remove(HALT))
}

/// The text of a halt for people. A halt with an empty text is a halt too.
fn told(reason: &str) -> String {
    if reason.is_empty() { "no reason was given".to_owned() } else { one_line(reason) }
}

fn what(namespace: &str) -> String {
    if namespace == SYSTEM_NAMESPACE { "everything".to_owned() } else { format!("namespace {namespace}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halt_without_a_reason_says_who_and_when() {
        let now = "2026-11-23T12:00:05.400Z".parse().unwrap();
        assert_eq!(
            unstated(Some("mara"), now),
            "by mara, with kubectl chaos at 2026-11-23T12:00:05Z, no reason given"
        );
        assert_eq!(unstated(None, now), "with kubectl chaos at 2026-11-23T12:00:05Z, no reason given");
    }
}
