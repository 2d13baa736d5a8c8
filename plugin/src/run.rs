//! What is done for each command.

use std::io::Write;

use agent::args::Output;
use agent::explanation::one_line;
use agent::observe::{ObserveError, list_all};
use anyhow::Context;
use clap::CommandFactory;
use kube::api::ListParams;
use kube::{Api, Client};
use policy::keys::{CHAOS, HALT, is_chaos_key};
use policy::record::OptIn;
use policy::settings::Key;
use runtime::client::CallError;
use runtime::clock::{Clock, SystemClock};

use crate::args::{Args, ChangeArgs, Command, ExplainArgs, HaltArgs, NowArgs, OnArgs, StatusArgs, Target};
use crate::change::Change;
use crate::flags::SettingFlags;
use crate::make::{denied, make};
use crate::{apply, completion, halt, hint, known, now, place, status};

/// Does what was asked.
///
/// # Errors
/// When it is denied, or can't be done; a [`clap::Error`] where it was asked wrongly.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { target, command } = args;
    // Whatever can be seen to be wrong is said before anything is asked of the cluster.
    let place = place::of(&command, &target)?;
    let print =
        |text: &str| std::io::stdout().write_all(text.as_bytes()).context("failed to write the answer");
    match command {
        Command::Completion { shell } => return print(completion::script(shell)),
        Command::Complete { words } => {
            let asked = completion::asked(Args::command(), &words);
            let known = known::known(&asked).await;
            return print(&completion::answer(&asked, known));
        }
        Command::On(OnArgs { ref settings, .. }) => understood(settings)?,
        _ => {}
    }
    let client =
        runtime::client::connect_as_person(target.kubeconfig.as_deref(), target.context.as_deref()).await?;
    let served = serve(&client, &target, &place, command, &mut std::io::stdout()).await;
    served.map_err(|error| unanswered(error, &target))
}

fn understood(settings: &SettingFlags) -> anyhow::Result<()> {
    settings.check().map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", all.join("; "))
    })
}

/// Does what was asked, in this namespace and with this client.
///
/// # Errors
/// When it is denied, or can't be done.
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
            let change = Change::halt(place, &reason).with_dry_run(server_dry_run);
            halt::halt(client, target, &change, out).await
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

/// Opts in, and says what else holds there.
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
        writeln!(out, "stays as it was: {}", kept.join(", "))?;
    }
    if let Some(reason) = annotations.get(HALT) {
        let name = &change.namespace;
        writeln!(out, "nothing is killed in {name} while it is halted: {}", one_line(reason))?;
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
        // Who may not look can still opt out: then all that there could be.
        Err(_) => Key::ALL.into_iter().map(Key::annotation).chain([CHAOS.to_owned()]).collect(),
    };
    let change = Change::off(name, present.iter().map(String::as_str)).with_dry_run(dry_run);
    if change.annotations.is_empty() {
        writeln!(out, "namespace/{name} has not opted in")?;
        return Ok(());
    }
    make(client, target, &change, out).await?;
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
    let look = hint::kubectl(target, &["cluster-info"]);
    anyhow::anyhow!("{failed}the API server gave no usable answer: {cause}; see {look}")
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
            ObserveError::Call { cause, .. } if cause.code() == Some(404) => {
                "Pure Chaos isn't installed in this cluster".to_owned()
            }
            ObserveError::Call { cause, .. } if cause.code() == Some(403) && all_namespaces => format!(
                "who may view a namespace may see its record: {}",
                hint::chaos(target, &["status", "-n", "NAMESPACE"])
            ),
            _ => return error.into(),
        };
        anyhow::anyhow!("{error}; {advice}")
    })?;
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&status::json(&records))?)?,
        Output::Text if records.is_empty() && all_namespaces => writeln!(out, "No namespace has opted in.")?,
        Output::Text if records.is_empty() => writeln!(
            out,
            "Namespace {place} has not opted in: {}; all that have: {}",
            hint::chaos(target, &["on", place]),
            hint::chaos(target, &["status", "-A"])
        )?,
        Output::Text => write!(out, "{}", status::table(&records, SystemClock.wall()))?,
    }
    Ok(())
}
