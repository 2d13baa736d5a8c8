//! Runs each command.

use std::io::Write;

use agent::args::Output;
use agent::cluster::list::{ListError, list_all};
use agent::explain::explanation::one_line;
use anyhow::Context;
use clap::CommandFactory;
use kube::api::ListParams;
use kube::{Api, Client};
use policy::record::OptIn;
use policy::settings::Key;
use policy::well_known::{CHAOS, HALT, is_chaos_key};
use runtime::client::CallError;
use runtime::clock::{Clock, SystemClock};
use runtime::output::StandardOutput;

use crate::absence::Absence;
use crate::apply_change::{denied, make};
use crate::args::{Args, ChangeArgs, Command, ExplainArgs, HaltArgs, NowArgs, OnArgs, StatusArgs, Target};
use crate::change::Change;
use crate::flags::SettingFlags;
use crate::{apply, candidates, completion, halt, namespace_arg, now, status, suggest};

/// Runs the command that the arguments name.
///
/// # Errors
/// Returns an error if the API server refuses the command or if the command fails. Returns a
/// [`clap::Error`] if the arguments are wrong.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { target, command } = args;
    // Report what is visibly wrong before sending any request to the cluster.
    let place = namespace_arg::of(&command, &target)?;
    let print = |text: &str| {
        StandardOutput::of_process().write_all(text.as_bytes()).context("failed to write the answer")
    };
    match command {
        Command::Completion { shell } => return print(completion::script(shell)),
        Command::Complete { words } => {
            let asked = completion::asked(Args::command(), &words);
            let known = candidates::known(&asked).await;
            return print(&completion::answer(&asked, known));
        }
        Command::On(OnArgs { ref settings, .. }) => understood(settings)?,
        _ => {}
    }
    let client =
        runtime::client::connect_as_person(target.kubeconfig.as_deref(), target.context.as_deref()).await?;
    let served = serve(&client, &target, &place, command, &mut StandardOutput::of_process()).await;
    served.map_err(|error| unanswered(error, &target))
}

fn understood(settings: &SettingFlags) -> anyhow::Result<()> {
    settings.check().map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", all.join("; "))
    })
}

/// Runs a command for the namespace `place`, with this client.
///
/// # Errors
/// Returns an error if the API server refuses the command or if the command fails.
pub async fn serve(
    client: &Client,
    target: &Target,
    place: &str,
    command: Command,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    match command {
        Command::On(OnArgs { change: ChangeArgs { server_dry_run, .. }, settings }) => {
            let change = Change::on(place, &settings).with_dry_run(server_dry_run);
            on(client, target, &change, out).await
        }
        Command::Off(ChangeArgs { server_dry_run, .. }) => {
            off(client, target, place, server_dry_run, out).await
        }
        Command::Halt(HaltArgs { change: ChangeArgs { server_dry_run, .. }, reason }) => {
            halt::halt(client, target, place, reason.as_deref(), server_dry_run, out).await
        }
        Command::Resume(ChangeArgs { server_dry_run, .. }) => {
            let change = Change::resume(place).with_dry_run(server_dry_run);
            halt::resume(client, target, &change, out).await
        }
        Command::Status(args) => show(client, target, place, args, out).await,
        Command::Explain(ExplainArgs { output, .. }) => {
            agent::explain::tell(client, place, None, output, out).await
        }
        Command::Now(NowArgs { timeout, .. }) => now::now(client, target, place, timeout, out).await,
        Command::Completion { .. } | Command::Complete { .. } => Ok(()),
    }
}

/// Opts a namespace in. Also prints the settings that stay as they were, and a halt that is in
/// force.
async fn on(
    client: &Client,
    target: &Target,
    change: &Change,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let annotations = make(client, target, change, out).await?.annotations;
    let is_kept = |key: &str| is_chaos_key(key) && !change.annotations.contains_key(key);
    let kept = annotations.iter().filter(|(key, _)| is_kept(key));
    let kept: Vec<String> = kept.map(|(key, value)| format!("{key}={value:?}")).collect();
    if !kept.is_empty() {
        writeln!(out, "unchanged: {}", kept.join(", "))?;
    }
    if let Some(reason) = annotations.get(HALT) {
        let name = &change.namespace;
        writeln!(out, "nothing is killed in namespace {name} while it is halted: {}", one_line(reason))?;
    }
    Ok(())
}

async fn off(
    client: &Client,
    target: &Target,
    name: &str,
    dry_run: bool,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let present: Vec<String> = match apply::annotations(client, name).await {
        Ok(annotations) => annotations.into_keys().collect(),
        Err(error) if error.code() == Some(404) => {
            return Err(denied(&Change::off(name, []), target, error));
        }
        // A user who may not read the namespace can still opt out. Then the change removes every
        // key that can be there.
        Err(_) => Key::ALL.iter().map(|key| key.annotation()).chain([CHAOS.to_owned()]).collect(),
    };
    let change = Change::off(name, present.iter().map(String::as_str)).with_dry_run(dry_run);
    if change.annotations.is_empty() {
        writeln!(out, "namespace/{name} has not opted in")?;
        return Ok(());
    }
    make(client, target, &change, out).await?;
    Ok(())
}

/// Turns an error without any answer of the API server into one that names the innermost cause, and
/// the command that shows whether the cluster answers. Returns any other error as it is.
fn unanswered(error: anyhow::Error, target: &Target) -> anyhow::Error {
    let (mut failed, mut call) = (String::new(), None);
    for cause in error.chain() {
        call = cause.downcast_ref::<CallError>();
        if let Some(ListError::Call { what, cause }) = cause.downcast_ref() {
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
    let look = suggest::kubectl(target, &["cluster-info"]);
    anyhow::anyhow!(
        "{failed}the API server gave no usable answer: {cause}; to check the connection, run: {look}"
    )
}

/// The sentence with a capital letter at its beginning.
fn capitalised(sentence: &str) -> String {
    let mut characters = sentence.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

async fn show(
    client: &Client,
    target: &Target,
    place: &str,
    StatusArgs { all_namespaces, output }: StatusArgs,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let place = if place.is_empty() { client.default_namespace() } else { place };
    let records: Api<OptIn> =
        if all_namespaces { Api::all(client.clone()) } else { Api::namespaced(client.clone(), place) };
    let records = list_all(&records, ListParams::default()).await.map_err(|error| {
        let advice = match &error {
            ListError::Call { cause, .. } if cause.code() == Some(404) => {
                "Pure Chaos isn't installed in this cluster".to_owned()
            }
            ListError::Call { cause, .. } if cause.code() == Some(403) && all_namespaces => format!(
                "to see the record of a namespace that you may view, run: {}",
                suggest::chaos(target, &["status", "-n", "NAMESPACE"])
            ),
            _ => return error.into(),
        };
        anyhow::anyhow!("{error}; {advice}")
    })?;
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&status::json(&records))?)?,
        Output::Text if records.is_empty() && all_namespaces => writeln!(out, "No namespace has opted in.")?,
        Output::Text if records.is_empty() => {
            // For a user who may not read the namespace, print the most likely reason.
            let absence = match Absence::of(client, place).await {
                Err(error) if error.code() == Some(403) => Absence::NotOptedIn,
                looked => looked.with_context(|| format!("failed to read namespace {place}"))?,
            };
            writeln!(
                out,
                "{}; to see all namespaces that have opted in, run: {}",
                capitalised(&absence.told(target, place)),
                suggest::chaos(target, &["status", "-A"])
            )?;
        }
        Output::Text => write!(out, "{}", status::table(&records, SystemClock.wall()))?,
    }
    Ok(())
}
