//! Makes one change: prints the command, sends the change, and says what to do if it failed.

use std::io::Write;

use agent::explain::explanation::one_line;
use anyhow::Context;
use kube::Client;
use policy::settings::Key;
use runtime::client::CallError;

use crate::apply::{self, Applied};
use crate::args::Target;
use crate::change::Change;
use crate::suggest;

/// Prints the `kubectl` command for a change, makes the change, and prints that it was made.
///
/// # Errors
/// Returns an error if the API server refuses the change or gives no usable answer, or if printing
/// fails. A change that only narrows consent is made even if printing fails.
pub async fn make(
    client: &Client,
    target: &Target,
    change: &Change,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Applied> {
    let printed = writeln!(out, "{}", change.command(target));
    if !change.only_narrows() {
        // This is a failure even if only the reader of the output has left, because the change was
        // not made.
        printed.map_err(|error| {
            let namespace = &change.namespace;
            anyhow::anyhow!(
                "failed to print the command, so namespace {namespace} was not annotated: {error}"
            )
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

/// The error for a change that failed. It names the namespace and quotes the API server's refusal.
pub fn denied(change: &Change, target: &Target, error: CallError) -> anyhow::Error {
    let namespace = &change.namespace;
    let failed = format!("failed to annotate namespace {namespace}");
    let Some(status) = error.status() else {
        return anyhow::Error::new(error).context(format!("{failed} ({})", unsettled(change, target)));
    };
    // Webhooks and admission policies say themselves what to do. RBAC does not.
    let is_rbac = status.message.contains("cannot patch resource");
    let advice = match status.code {
        403 if is_rbac => format!(
            "; to check your right, run: {}. To get the right, ask the people who run the cluster \
             (component opt-in-role)",
            suggest::kubectl(
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

/// Advice for a change that may have been made, because no answer says that it was not.
fn unsettled(change: &Change, target: &Target) -> String {
    let look = suggest::kubectl(target, &["get", "namespace", &change.namespace, "-o", "yaml"]);
    let round = match change.annotations.get(&Key::AlsoAt.annotation()) {
        Some(Some(slot)) => format!(
            "; a round may then come at {slot}; to withdraw it, run: {}",
            Change::not_now(&change.namespace).command(target)
        ),
        _ => String::new(),
    };
    format!("the change may have been made; to check, run: {look}{round}")
}
