//! What is done for each command.

use std::io::Write;

use agent::args::Output;
use agent::observe::{ObserveError, list_all};
use anyhow::Context;
use clap::CommandFactory;
use clap::error::ErrorKind;
use kube::api::ListParams;
use kube::{Api, Client};
use policy::keys::{CHAOS, HALT, SYSTEM_NAMESPACE, is_chaos_key};
use policy::record::OptIn;
use policy::settings::Key;
use runtime::client::CallError;
use runtime::clock::{Clock, SystemClock};

use crate::args::{Args, ChangeArgs, Command, ExplainArgs, HaltArgs, NowArgs, OnArgs, StatusArgs, Target};
use crate::change::{Change, kubectl};
use crate::{apply, completion, now, shell, status};

/// Does what was asked.
///
/// # Errors
/// When it is denied, or can't be done.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { target, command } = args;
    match command {
        Command::Completion { shell } => std::io::stdout()
            .write_all(completion::script(shell).as_bytes())
            .context("failed to write the script"),
        Command::Complete { words } => {
            print!("{}", completion::answer(Args::command(), &words));
            Ok(())
        }
        command => {
            check(&command, &target)?;
            let client =
                runtime::client::connect_as_person(target.kubeconfig.as_deref(), target.context.as_deref());
            let client = client.await?;
            let served = serve(&client, &target, command, &mut std::io::stdout()).await;
            served.map_err(|error| unanswered(error, &target))
        }
    }
}

/// What can be seen to be wrong before anything is asked of the cluster.
fn check(command: &Command, target: &Target) -> anyhow::Result<()> {
    match command {
        Command::On(OnArgs { change, settings }) => {
            named(change.name.clone(), target)?;
            settings.check().map_err(|problems| {
                let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
                anyhow::anyhow!("{}", all.join("; "))
            })?;
        }
        Command::Off(ChangeArgs { name, .. })
        | Command::Explain(ExplainArgs { name, .. })
        | Command::Now(NowArgs { name, .. }) => {
            named(name.clone(), target)?;
        }
        Command::Halt(HaltArgs { change: ChangeArgs { name, .. }, .. })
        | Command::Resume(ChangeArgs { name, .. }) => {
            given(name.clone(), target)?;
        }
        Command::Status(_) | Command::Completion { .. } | Command::Complete { .. } => {}
    }
    Ok(())
}

/// Does what was asked, with this client.
///
/// # Errors
/// When it is denied, or can't be done; a [`clap::Error`] where it was asked wrongly.
pub async fn serve(
    client: &Client,
    target: &Target,
    command: Command,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    match command {
        Command::On(OnArgs { change: ChangeArgs { name, server_dry_run }, settings }) => {
            let change = Change::on(&named(name, target)?, &settings).with_dry_run(server_dry_run);
            make(client, target, &change, out).await
        }
        Command::Off(ChangeArgs { name, server_dry_run }) => {
            let name = named(name, target)?;
            let present = present(client, &name).await?;
            let change = Change::off(&name, present.iter().map(String::as_str)).with_dry_run(server_dry_run);
            if change.annotations.is_empty() {
                writeln!(out, "namespace/{name} has not opted in")?;
                return Ok(());
            }
            make(client, target, &change, out).await
        }
        Command::Halt(HaltArgs { change: ChangeArgs { name, server_dry_run }, reason }) => {
            let change = Change::halt(&named_or_all(name, target)?, &reason).with_dry_run(server_dry_run);
            make(client, target, &change, out).await
        }
        Command::Resume(ChangeArgs { name, server_dry_run }) => {
            let change = Change::resume(&named_or_all(name, target)?).with_dry_run(server_dry_run);
            make(client, target, &change, out).await
        }
        Command::Status(args) => show(client, target, args, out).await,
        Command::Explain(ExplainArgs { name, output }) => {
            agent::explain::tell(client, &named(name, target)?, None, output).await
        }
        Command::Now(NowArgs { name, timeout }) => {
            let name = named(name, target)?;
            let before = now::record(client, &name).await?;
            let slot = now::slot(SystemClock.wall());
            make(client, target, &Change::now(&name, slot), out).await?;
            writeln!(out, "{}", now::outcome(client, &name, &before, slot, timeout).await?)?;
            Ok(())
        }
        Command::Completion { .. } | Command::Complete { .. } => Ok(()),
    }
}

/// Prints the command, carries it out, and prints what came of it.
async fn make(
    client: &Client,
    target: &Target,
    change: &Change,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    writeln!(out, "{}", change.command(target))?;
    let applied = apply::apply(client, change).await.map_err(|error| denied(&change.namespace, error))?;
    for warning in &applied.warnings {
        eprintln!("Warning: {warning}");
    }
    let name = &change.namespace;
    let asked = if change.dry_run { " (server dry run)" } else { "" };
    writeln!(out, "namespace/{name} annotated{asked}")?;
    let opts_in = change.annotations.get(CHAOS).is_some_and(Option::is_some);
    if !opts_in {
        return Ok(());
    }
    let is_kept = |key: &str| is_chaos_key(key) && !change.annotations.contains_key(key);
    let kept = applied.annotations.iter().filter(|(key, _)| is_kept(key));
    let kept: Vec<String> = kept.map(|(key, value)| format!("{key}={value:?}")).collect();
    if !kept.is_empty() {
        writeln!(out, "stays as it was: {}", kept.join(", "))?;
    }
    if let Some(reason) = applied.annotations.get(HALT) {
        writeln!(out, "nothing is killed in {name} while it is halted: {reason}")?;
    }
    Ok(())
}

/// Where there was no answer at all: that, with its innermost cause, and how to see whether the cluster is there.
fn unanswered(error: anyhow::Error, target: &Target) -> anyhow::Error {
    let (mut failed, mut call) = (String::new(), None);
    for cause in error.chain() {
        call = cause.downcast_ref::<CallError>();
        if let Some(ObserveError::Call { what, cause }) = cause.downcast_ref() {
            failed.push_str(&format!("failed to list {what}: "));
            call = Some(cause);
        }
        if call.is_some() {
            break;
        }
        failed.push_str(&format!("{cause}: "));
    }
    let Some(call) = call.filter(|call| call.code().is_none()) else {
        return error;
    };
    let mut cause: &dyn std::error::Error = call;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let look = shell::command(&[kubectl(target), vec!["cluster-info".to_owned()]].concat());
    anyhow::anyhow!("{failed}the API server gave no usable answer: {cause}; see {look}")
}

/// What failed, on which namespace, with the API server's refusal as it wrote it.
fn denied(namespace: &str, error: CallError) -> anyhow::Error {
    let failed = format!("failed to annotate namespace {namespace}");
    let Some(status) = error.status() else {
        return anyhow::Error::new(error).context(failed);
    };
    // Webhooks and policies say themselves what to do; RBAC doesn't.
    let is_rbac = status.message.contains("cannot patch resource");
    let advice = match status.code {
        403 if is_rbac => format!(
            "; see kubectl auth can-i patch namespaces/{namespace}, and ask whoever runs the cluster for the right to annotate it (component opt-in-role)"
        ),
        409 => "; somebody else changed it at the same time, so try again".to_owned(),
        _ => String::new(),
    };
    anyhow::anyhow!("{failed}: {}{advice}", status.message)
}

/// The annotations to remove. Who may not look can still opt out: then all that there could be.
async fn present(client: &Client, name: &str) -> anyhow::Result<Vec<String>> {
    match apply::annotations(client, name).await {
        Ok(annotations) => Ok(annotations.into_keys().collect()),
        Err(error) if error.code() == Some(404) => Err(denied(name, error)),
        Err(_) => Ok(Key::ALL.into_iter().map(Key::annotation).chain([CHAOS.to_owned()]).collect()),
    }
}

async fn show(
    client: &Client,
    target: &Target,
    StatusArgs { all_namespaces, output }: StatusArgs,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let place = target.namespace.as_deref().unwrap_or(client.default_namespace());
    let records: Api<OptIn> =
        if all_namespaces { Api::all(client.clone()) } else { Api::namespaced(client.clone(), place) };
    let records = list_all(&records, ListParams::default()).await.map_err(|error| {
        let advice = match &error {
            ObserveError::Call { cause, .. } if cause.code() == Some(404) => {
                "; Pure Chaos isn't installed in this cluster"
            }
            ObserveError::Call { cause, .. } if cause.code() == Some(403) && all_namespaces => {
                "; who may view a namespace may see its record: kubectl chaos status -n NAMESPACE"
            }
            _ => return error.into(),
        };
        anyhow::anyhow!("{error}{advice}")
    })?;
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&status::json(&records))?)?,
        Output::Text if records.is_empty() && all_namespaces => writeln!(out, "No namespace has opted in.")?,
        Output::Text if records.is_empty() => writeln!(
            out,
            "Namespace {place} has not opted in: kubectl chaos on {place}; all that have: kubectl chaos status -A"
        )?,
        Output::Text => write!(out, "{}", status::table(&records, SystemClock.wall()))?,
    }
    Ok(())
}

/// The namespace that a command is about. It has to be named: the context's own is a poor guess for what kills Pods.
fn named(name: Option<String>, target: &Target) -> Result<String, clap::Error> {
    let missing = || Args::command().error(ErrorKind::MissingRequiredArgument, "name the namespace");
    given(name, target)?.ok_or_else(missing)
}

fn named_or_all(name: Option<String>, target: &Target) -> Result<String, clap::Error> {
    Ok(given(name, target)?.unwrap_or_else(|| SYSTEM_NAMESPACE.to_owned()))
}

fn given(name: Option<String>, target: &Target) -> Result<Option<String>, clap::Error> {
    match (name, &target.namespace) {
        (Some(name), Some(other)) if name != *other => {
            let wrong = format!("two namespaces are named, {name} and {other}");
            Err(Args::command().error(ErrorKind::ArgumentConflict, wrong))
        }
        (name, other) => Ok(name.or_else(|| other.clone())),
    }
}
