//! The command `agent explain`: what the agent would decide in a namespace now, as far as your
//! rights show it. It changes nothing.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use policy::custom_workloads::CustomWorkloads;
use policy::eligibility::NamespaceView;
use policy::faults::Fault;
use policy::platform::PlatformPolicy;
use policy::record::{ACTIVE, OptIn, OptInStatus, RecordedSettings};
use policy::steady_state::Checks;
use policy::well_known::{RECORD, SYSTEM_NAMESPACE};
use runtime::client::{CallError, call};
use runtime::clock::{Clock, SystemClock};

use crate::args::{ExplainArgs, Output, read_policy_file};
use crate::cluster::access;
use crate::cluster::live_consent::read_namespace;
use crate::cluster::observe::{Nodes, observe};
use crate::cluster::policy_config_map;
use crate::explain::explanation::{Explanation, PodVerdict, Text, Unseen, Verdict};
use crate::explain::whole::whole;
use crate::guard::backoff;
use crate::guard::namespace::{Forbidden, protection};
use crate::guard::pods::{Candidate, GuardContext, Killed, screen};
use crate::guard::resting::resting;

mod checks;
mod custom_workloads;
pub mod explanation;
mod outages;
mod settings_line;
mod whole;

/// The policy for a person who does not have the platform's policy file. It has no ceilings. Its
/// default settings are those of the record. The webhook writes into the record whether a setting
/// exceeds a ceiling.
const NO_CEILINGS: &str = "
ceilings:
  schedule: every 1s
  mode: evict,delete,force
  faults: pod-kill,node-outage,zone-outage
  limit: 1000000
  per-workload: 1000000
  below-desired: allow
  grace-period: 366d
protected: ['!default']
";

/// Prints the explanation.
///
/// # Errors
/// When the cluster can't be reached, or the namespace does not exist.
pub async fn run(args: ExplainArgs) -> anyhow::Result<()> {
    let ExplainArgs { namespace, output, kubeconfig, policy_file } = args;
    let policy = policy_file.as_deref().map(read_policy_file).transpose()?;
    let client = runtime::client::connect_as_person(kubeconfig.as_deref(), None).await?;
    tell(&client, &namespace, policy, output, &mut runtime::output::StandardOutput::of_process()).await
}

/// Writes the explanation of a namespace at the current time.
///
/// # Errors
/// The errors of [`explain`], and when the output can't be written.
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

/// Looks at a namespace and says what the agent would decide at `now`. Without the platform's
/// policy, the settings come from the record.
///
/// # Errors
/// When the namespace does not exist, or when the API server gives no usable answer. A missing
/// right is no error; the explanation lists it.
pub async fn explain(
    client: &Client,
    name: &str,
    policy: Option<PlatformPolicy>,
    now: Timestamp,
) -> anyhow::Result<Explanation> {
    let mut unseen = Vec::new();
    let checks = policy.as_ref().map(|policy| policy.steady_state.clone());
    let custom = policy.as_ref().map(|policy| policy.workloads.clone());
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
                "the annotations, and whether the webhook admitted them as they are now",
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
            seen(&format!("get optins in namespace {name}"), "who opted in, and what the agent did", error)?;
            None
        }
    };
    let protected = match (&record, &policy) {
        (Some(_), _) => None,
        (None, Some(policy)) => protection(name, Some(policy)),
        (None, None) => protection(name, policy_config_map::read(client).await.ok().as_ref()),
    };
    let policy = match policy {
        Some(policy) => policy,
        None => without_ceilings(record.as_ref()).context("the built-in policy without ceilings")?,
    };
    let status = record.as_ref().and_then(|record| record.status.clone()).unwrap_or_default();
    let refused = match (&namespace, &record) {
        (Some(_), None) => refused_record(client, name).await,
        _ => None,
    };
    let (verdict, settings) = match protected {
        Some(Forbidden { refusal, sentence }) => (Verdict::no(refusal, sentence), None),
        None => whole(name, namespace.as_ref(), &system, (record.as_ref(), refused), &policy, now),
    };
    let chosen = settings.as_ref().and_then(|settings| settings.steady_state.as_ref());
    let verdict = match chosen.filter(|_| verdict.may_kill) {
        Some(chosen) => match checks::ask(client, name, chosen, checks, &mut unseen).await {
            Ok(unasked) if unasked.is_empty() => verdict,
            Ok(unasked) => Verdict::yes(&format!(
                "{}, if what could not be asked holds: {}",
                verdict.sentence,
                unasked.join(", ")
            )),
            Err(Forbidden { refusal, sentence }) => Verdict::no(refusal, sentence),
        },
        None => verdict,
    };
    // If you may not ask for your rights, the explanation is that of an agent that may not list
    // nodes.
    let reads_nodes = access::reads_nodes(client).await.unwrap_or(false);
    let faults = settings.as_ref().map_or(&[][..], |settings| settings.faults.all());
    let needs_zones = faults.contains(&Fault::ZoneOutage);
    let nodes = Nodes { cordoned: reads_nodes, zones: reads_nodes && needs_zones };
    let (custom, unlisted) = match custom_workloads::listed(client, settings.as_ref(), custom).await {
        Ok(custom) => (custom, None),
        Err(why) => (CustomWorkloads::default(), Some(why)),
    };
    let mut outages = Vec::new();
    let pods = match (observe(client, name, nodes, &custom).await, &settings) {
        (Ok(mut observation), Some(settings)) => {
            let unlisted = unlisted.as_deref();
            custom_workloads::tell_unseen(&mut observation, name, &settings.kinds, unlisted, &mut unseen);
            let pending = workloads_with_a_pending_recovery(&status);
            let resting = resting(&status, now);
            let backing_off = backoff::resting(&status, now);
            let killed = Killed::new();
            let guard_context = GuardContext {
                killed: &killed,
                now,
                settings,
                pending: &pending,
                backing_off: &backing_off,
                resting: &resting,
            };
            let mut screening = screen(&observation, &guard_context);
            outages = outages::look(&mut screening, &observation, settings);
            Some(verdicts(screening))
        }
        (Ok(_), None) => None,
        (Err(error), _) if error.is_forbidden() => {
            // Lists all rights that are missing, not only the first one.
            for what in access::unlisted(client, name).await? {
                unseen.push(Unseen {
                    what: "whether each Pod could be killed".to_owned(),
                    right: format!("list {what} in namespace {name}"),
                });
            }
            None
        }
        (Err(error), _) => return Err(error.into()),
    };
    let is_dry_run = settings.as_ref().is_some_and(|settings| settings.dry_run);
    let verdict = verdict.of_round(is_dry_run, pods.as_deref());
    let admission = record.as_ref().and_then(|record| record.spec.admission.as_ref());
    Ok(Explanation {
        namespace: name.to_owned(),
        opted_in_by: admission.map(|admission| admission.user.clone()),
        verdict,
        settings: settings.as_ref().map(RecordedSettings::from),
        next_round: status.next_slot.as_deref().and_then(|slot| slot.parse().ok()),
        state_sentence: sentence(&status),
        state: status.state,
        kills: status.kills.unwrap_or(0),
        pending: status.pending_count.unwrap_or(0),
        pods: pods.unwrap_or_default(),
        outages,
        unseen,
    })
}

fn without_ceilings(record: Option<&OptIn>) -> anyhow::Result<PlatformPolicy> {
    let mut policy = PlatformPolicy::parse(NO_CEILINGS)?;
    policy.steady_state = Checks::not_known();
    let recorded = record.and_then(|record| record.spec.settings.as_ref()?.understood());
    if let Some(settings) = recorded {
        policy.defaults = settings;
    }
    Ok(policy)
}

/// Why the namespace has no record, from the last Event of the webhook. `None` if there is no such
/// Event or you may not read it.
async fn refused_record(client: &Client, namespace: &str) -> Option<String> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let fields = format!("reason=ChaosRefused,involvedObject.kind=Namespace,involvedObject.name={namespace}");
    let listed = call(events.list(&ListParams::default().fields(&fields))).await.ok()?;
    let by_webhook = |event: &Event| event.reporting_component.as_deref() == Some("purechaos.dev/webhook");
    let told = listed.items.into_iter().filter(by_webhook);
    told.max_by_key(|event| event.event_time.as_ref().map(|at| at.0))?.message
}

/// What the agent says about its state, if rounds kill nothing.
fn sentence(status: &OptInStatus) -> Option<String> {
    let active = status.conditions.iter().find(|condition| condition.type_ == ACTIVE)?;
    Some(active.message.clone()).filter(|message| active.status != "True" && !message.is_empty())
}

fn workloads_with_a_pending_recovery(status: &OptInStatus) -> BTreeSet<String> {
    let kills = status.pending.iter().chain(status.intents.iter().map(|intent| &intent.kill));
    kills.map(|kill| kill.workload.uid.clone()).collect()
}

fn verdicts(screening: crate::guard::pods::Screening) -> Vec<PodVerdict> {
    let name = |kind: &str, name: &str| Some(format!("{kind}/{name}"));
    let could_die = |candidate: &Candidate| match &candidate.narrowing {
        Some(narrowing) => format!("could die; its Pod template sets {}", narrowing.print()),
        None => "could die".to_owned(),
    };
    let candidates = screening.candidates.into_iter().map(|candidate| PodVerdict {
        pod: candidate.pod.name.clone(),
        workload: name(&candidate.workload.reference.kind, &candidate.workload.reference.name),
        verdict: Verdict::yes(&could_die(&candidate)),
    });
    let refused = screening.refused.into_iter().map(|refused| PodVerdict {
        verdict: Verdict::no(refused.refusal, refused.sentence().to_owned()),
        pod: refused.pod,
        workload: refused.workload.and_then(|workload| name(&workload.kind, &workload.name)),
    });
    let mut pods: Vec<PodVerdict> = candidates.chain(refused).collect();
    pods.sort_by(|a, b| (&a.workload, &a.pod).cmp(&(&b.workload, &b.pod)));
    pods
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::ceilings::Ceilings;
    use policy::settings::Key;
    use std::collections::BTreeMap;

    #[test]
    fn without_ceilings_nothing_that_the_grammar_knows_is_refused() {
        let policy = PlatformPolicy::parse(NO_CEILINGS).unwrap();
        let annotations = [
            ("chaos", "yes"),
            ("purechaos.dev/schedule", "every 1s"),
            ("purechaos.dev/mode", "delete"),
            ("purechaos.dev/faults", "pod-kill,node-outage,zone-outage"),
            ("purechaos.dev/limit", "1000"),
            ("purechaos.dev/per-workload", "1000"),
            ("purechaos.dev/below-desired", "allow"),
            ("purechaos.dev/grace-period", "366d"),
        ];
        let annotations: BTreeMap<String, String> =
            annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert!(policy.settings(&annotations).is_ok(), "{:?}", policy.settings(&annotations));
        // A ceiling that is added later has to be lifted here as well.
        let lifted = |key: &Key| *key == Key::Expires || annotations.contains_key(&key.annotation());
        assert!(Ceilings::KEYS.iter().all(lifted));
    }

    #[test]
    fn without_a_record_an_opt_in_that_ended_has_ended() {
        let policy = PlatformPolicy::parse(NO_CEILINGS).unwrap();
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let pairs =
            |expires: &str| [("chaos", "yes".to_owned()), ("purechaos.dev/expires", expires.to_owned())];
        let view = |annotations: &[(&str, String)]| NamespaceView {
            name: "a".to_owned(),
            uid: "a-1".to_owned(),
            annotations: annotations.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            terminating: false,
        };
        let system = view(&[]);
        for (expires, reason) in
            [("2026-11-23T11:00:00Z", "expired"), ("2026-11-23T13:00:00Z", "not_admitted")]
        {
            let (verdict, _) = whole("a", Some(&view(&pairs(expires))), &system, (None, None), &policy, now);
            let json = serde_json::to_string(&verdict).unwrap();
            assert!(json.contains(reason), "{expires}: {json}");
        }
    }
}
