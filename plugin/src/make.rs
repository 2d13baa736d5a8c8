//! A change: the command, what came of it, and what to do where it failed.

use std::io::Write;

use agent::explanation::one_line;
use anyhow::Context;
use kube::Client;
use policy::settings::Key;
use runtime::client::CallError;

use crate::apply::{self, Applied};
use crate::args::Target;
use crate::change::Change;
use crate::hint;

/// Prints the command, carries it out, and says so.
///
/// # Errors
/// When it is denied, or there was no usable answer, or nothing could be printed; the latter never stops a change that only narrows.
pub async fn make(
    client: &Client,
    target: &Target,
    change: &Change,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Applied> {
    let printed = writeln!(out, "{}", change.command(target));
    if !change.only_narrows() {
        printed.with_context(|| {
            format!("failed to print the command, so namespace {} was not annotated", change.namespace)
        })?;
    }
    let applied = apply::apply(client, change).await.map_err(|error| denied(change, target, error))?;
    for warning in &applied.warnings {
        eprintln!("Warning: {}", one_line(warning));
    }
    let asked = if change.dry_run { " (server dry run)" } else { "" };
    writeln!(out, "namespace/{} annotated{asked}", change.namespace)
        .with_context(|| format!("failed to print that namespace {} was annotated", change.namespace))?;
    Ok(applied)
}

/// What failed, on which namespace, with the API server's refusal as it wrote it.
pub fn denied(change: &Change, target: &Target, error: CallError) -> anyhow::Error {
    let namespace = &change.namespace;
    let failed = format!("failed to annotate namespace {namespace}");
    let Some(status) = error.status() else {
        return anyhow::Error::new(error).context(format!("{failed} ({})", unsettled(change, target)));
    };
    // Webhooks and policies say themselves what to do; RBAC doesn't.
    let is_rbac = status.message.contains("cannot patch resource");
    let advice = match status.code {
        403 if is_rbac => format!(
            "; see {}, and ask whoever runs the cluster for the right to annotate it (component opt-in-role)",
            hint::kubectl(
                target,
                &["auth", "can-i", "patch", &format!("namespaces/{namespace}"), "-n", namespace]
            )
        ),
        409 => "; somebody else changed it at the same time, so try again".to_owned(),
        500.. => format!("; {}", unsettled(change, target)),
        _ => String::new(),
    };
    anyhow::anyhow!("{failed}: {}{advice}", one_line(&status.message))
}

/// Where nobody said that it wasn't done.
fn unsettled(change: &Change, target: &Target) -> String {
    let look = hint::kubectl(target, &["get", "namespace", &change.namespace, "-o", "yaml"]);
    let round = match change.annotations.get(&Key::AlsoAt.annotation()) {
        Some(Some(slot)) => format!(
            ", and a round may come at {slot}; {} withdraws it",
            Change::not_now(&change.namespace).command(target)
        ),
        _ => String::new(),
    };
    format!("it may have been done: {look} shows whether{round}")
}
