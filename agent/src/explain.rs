//! `agent explain`: what the agent would decide in a namespace now, as far as whoever asks may see it. It changes nothing.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use kube::{Api, Client};
use policy::consent::Consent;
use policy::eligibility::NamespaceView;
use policy::keys::{RECORD, SYSTEM_NAMESPACE};
use policy::platform::PlatformPolicy;
use policy::record::{OptIn, OptInStatus, RecordedSettings, Verdict as Admitted};
use policy::settings::Settings;
use runtime::client::{CallError, call};
use runtime::clock::{Clock, SystemClock};

use crate::args::{ExplainArgs, Output, read_policy};
use crate::back_off;
use crate::explanation::{Explanation, PodVerdict, Text, Unseen, Verdict};
use crate::guards::{Circumstances, screen};
use crate::ledger::resting;
use crate::observe::{observe, read_namespace};
use crate::own_rights;
use crate::permission::{not_admitted, permitted};
use crate::refusal::Refusal;

/// What a person without the platform's file explains by: no ceiling, and the record's settings for defaults. Whether a ceiling is passed
/// stands in the record, by the webhook.
const NO_CEILINGS: &str = "ceilings: {schedule: every 1s, mode: 'evict,delete,force', limit: 1000000, grace-period: 366d}\nprotected: ['!default']";

/// Prints the explanation.
///
/// # Errors
/// When the cluster can't be reached, or there is no such namespace.
pub async fn run(args: ExplainArgs) -> anyhow::Result<()> {
    let ExplainArgs { namespace, output, kubeconfig, policy } = args;
    let policy = policy.policy_file.is_some().then(|| read_policy(&policy)).transpose()?;
    let client = runtime::client::connect_as_person(kubeconfig.as_deref(), None).await?;
    tell(&client, &namespace, policy, output, &mut std::io::stdout()).await
}

/// Writes the explanation of a namespace, as of now.
///
/// # Errors
/// As [`explain`], and when it can't be written.
pub async fn tell(
    client: &Client,
    namespace: &str,
    policy: Option<PlatformPolicy>,
    output: Output,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let now = SystemClock.wall();
    let explanation = explain(client, namespace, policy, now).await?;
    match output {
        Output::Text => {
            write!(out, "{}", Text { explanation: &explanation, now, zone: TimeZone::system() })?;
        }
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?,
    }
    Ok(())
}

/// Looks at a namespace, and says what the agent would decide at `now`. Without the platform's policy its settings are those of the record.
///
/// # Errors
/// When there is no such namespace, or the API server gives no usable answer to anything but a lack of rights.
pub async fn explain(
    client: &Client,
    name: &str,
    policy: Option<PlatformPolicy>,
    now: Timestamp,
) -> anyhow::Result<Explanation> {
    let mut unseen = Vec::new();
    let mut seen = |right: &str, what: &str, error: CallError| {
        if error.code() != Some(403) {
            return Err(anyhow::Error::new(error).context(format!("failed to {right}")));
        }
        unseen.push(Unseen { what: what.to_owned(), right: right.to_owned() });
        anyhow::Ok(())
    };
    let records: Api<OptIn> = Api::namespaced(client.clone(), name);
    let (namespace, system, record) = tokio::join!(
        read_namespace(client, name),
        read_namespace(client, SYSTEM_NAMESPACE),
        call(records.get_opt(RECORD)),
    );
    let namespace = match namespace {
        Ok(namespace) => Some(namespace),
        Err(error) if error.code() == Some(404) => anyhow::bail!("there is no namespace {name}"),
        Err(error) => {
            seen(
                &format!("get namespaces {name}"),
                "its annotations, and whether they are as they were admitted",
                error,
            )?;
            None
        }
    };
    let system = match system {
        Ok(system) => system,
        Err(error) if error.code() == Some(404) => anyhow::bail!(
            "there is no namespace {SYSTEM_NAMESPACE}: Pure Chaos isn't installed here, and nothing is killed"
        ),
        Err(error) => {
            seen(&format!("get namespaces {SYSTEM_NAMESPACE}"), "whether everything is halted", error)?;
            NamespaceView { name: SYSTEM_NAMESPACE.to_owned(), ..NamespaceView::default() }
        }
    };
    let record = match record {
        Ok(record) => record,
        Err(error) => {
            seen(&format!("get optins in namespace {name}"), "who opted in, and what was done", error)?;
            None
        }
    };
    let policy = match policy {
        Some(policy) => policy,
        None => without_ceilings(record.as_ref()).context("the built-in policy without ceilings")?,
    };
    let status = record.as_ref().and_then(|record| record.status.clone()).unwrap_or_default();
    let (verdict, settings) = whole(name, namespace.as_ref(), &system, record.as_ref(), &policy, now);
    // Whoever may not ask that sees as much as an agent that may not read nodes.
    let reads_nodes = own_rights::reads_nodes(client).await.unwrap_or(false);
    let pods = match (observe(client, name, reads_nodes).await, &settings) {
        (Ok(observation), Some(settings)) => {
            let pending = workloads_with_a_pending_recovery(&status);
            let resting = resting(&status, now);
            let backing_off = status.backing_off.iter().filter(|known| back_off::refuses(known, now));
            let backing_off = backing_off.map(|known| known.workload.uid.clone()).collect();
            let circumstances = Circumstances {
                now,
                settings,
                pending: &pending,
                backing_off: &backing_off,
                resting: &resting,
            };
            verdicts(screen(&observation, &circumstances))
        }
        (Ok(_), None) => Vec::new(),
        (Err(error), _) if error.is_forbidden() => {
            // All that is missing, not just what the look met first.
            for what in own_rights::unlisted(client, name).await? {
                unseen.push(Unseen {
                    what: "what would become of each Pod".to_owned(),
                    right: format!("list {what} in namespace {name}"),
                });
            }
            Vec::new()
        }
        (Err(error), _) => return Err(error.into()),
    };
    let admission = record.as_ref().and_then(|record| record.spec.admission.as_ref());
    Ok(Explanation {
        namespace: name.to_owned(),
        opted_in_by: admission.map(|admission| admission.user.clone()),
        verdict,
        settings: settings.as_ref().map(RecordedSettings::from),
        next_round: status.next_slot.as_deref().and_then(|slot| slot.parse().ok()),
        state: status.state,
        kills: status.kills.unwrap_or(0),
        pending: status.pending_count.unwrap_or(0),
        pods,
        unseen,
    })
}

fn without_ceilings(record: Option<&OptIn>) -> anyhow::Result<PlatformPolicy> {
    let mut policy = PlatformPolicy::parse(NO_CEILINGS)?;
    let recorded = record.and_then(|record| record.spec.settings.as_ref()?.understood());
    if let Some(settings) = recorded {
        policy.defaults = settings;
    }
    Ok(policy)
}

/// Whether a round would kill in the namespace at all, and by which settings.
fn whole(
    name: &str,
    namespace: Option<&NamespaceView>,
    system: &NamespaceView,
    record: Option<&OptIn>,
    policy: &PlatformPolicy,
    now: Timestamp,
) -> (Verdict, Option<Settings>) {
    let understood = |namespace: &NamespaceView| policy.settings(&namespace.annotations).ok();
    match (namespace, record) {
        (Some(namespace), _) if Consent::parse(&namespace.annotations) == Consent::Absent => {
            let sentence = format!(
                "it did not opt in; whoever may delete Pods in it can do that: kubectl annotate namespace {name} chaos=yes"
            );
            (Verdict::no(Refusal::NotAdmitted, sentence), None)
        }
        (_, Some(record)) if record.spec.verdict != Admitted::Admitted => {
            let refusal = match record.spec.verdict {
                Admitted::NotUnderstood => Refusal::UnknownSetting,
                _ => Refusal::NotAdmitted,
            };
            let sentence = record.spec.reason.clone().unwrap_or_else(|| not_admitted(name).sentence);
            (Verdict::no(refusal, sentence), namespace.and_then(understood))
        }
        (Some(namespace), Some(record)) => {
            match permitted(&record.spec, namespace, Some(system), policy, now) {
                Ok(settings) => (Verdict::yes("A round may kill here now"), Some(settings)),
                Err(forbidden) => (Verdict::no(forbidden.refusal, forbidden.sentence), understood(namespace)),
            }
        }
        (Some(namespace), None) => {
            (Verdict::no(Refusal::NotAdmitted, not_admitted(name).sentence), understood(namespace))
        }
        (None, Some(record)) => {
            let settings = record.spec.settings.as_ref().and_then(RecordedSettings::understood);
            (Verdict::yes("By its record a round may kill here"), settings)
        }
        (None, None) => {
            let sentence =
                "it has no record that could be seen, so it did not opt in as far as that tells".to_owned();
            (Verdict::no(Refusal::NotAdmitted, sentence), None)
        }
    }
}

fn workloads_with_a_pending_recovery(status: &OptInStatus) -> BTreeSet<String> {
    let kills = status.pending.iter().chain(status.intent.as_ref().map(|intent| &intent.kill));
    kills.map(|kill| kill.workload.uid.clone()).collect()
}

fn verdicts(screening: crate::guards::Screening) -> Vec<PodVerdict> {
    let name = |kind: &str, name: &str| Some(format!("{kind}/{name}"));
    let candidates = screening.candidates.into_iter().map(|candidate| PodVerdict {
        pod: candidate.pod.name,
        workload: name(&candidate.workload.reference.kind, &candidate.workload.reference.name),
        verdict: Verdict::yes("could die"),
    });
    let refused = screening.refused.into_iter().map(|refused| PodVerdict {
        pod: refused.pod,
        workload: refused.workload.and_then(|workload| name(&workload.kind, &workload.name)),
        verdict: Verdict::no(refused.refusal, refused.refusal.meaning().to_owned()),
    });
    let mut pods: Vec<PodVerdict> = candidates.chain(refused).collect();
    pods.sort_by(|a, b| (&a.workload, &a.pod).cmp(&(&b.workload, &b.pod)));
    pods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_ceilings_nothing_that_the_grammar_knows_is_refused() {
        let policy = PlatformPolicy::parse(NO_CEILINGS).unwrap();
        let annotations = [
            ("chaos", "yes"),
            ("purechaos.dev/schedule", "every 1s"),
            ("purechaos.dev/mode", "delete"),
            ("purechaos.dev/limit", "1000"),
            ("purechaos.dev/grace-period", "366d"),
        ];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert!(policy.settings(&annotations).is_ok(), "{:?}", policy.settings(&annotations));
    }
}
