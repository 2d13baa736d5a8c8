//! What the API of a walk does with a call besides what the fake API does: it checks rights and
//! locks, carries out kills, and lets the oracle know.

use policy::kill_gate::{halt, is_time, may_kill};
use runtime::clock::Clock;
use serde_json::{Value, json};

use super::faults::Class;
use super::kills::Attempt;
use super::network::{Answer, Ask};
use super::objects::{SYSTEM, namespace_path, pod_path, record_path};
use super::world::World;

impl World {
    /// What the owner of a namespace consents to now. The hours and the expiry are those
    /// of the process's clock, because each process has only its own.
    fn consent(&self, process: usize, namespace: usize) -> Result<policy::settings::Settings, String> {
        let name = self.cluster.namespaces[namespace].name;
        let (namespace, system) = (self.cluster.view(&namespace_path(name)), self.cluster.view(SYSTEM));
        let namespace = namespace.ok_or("there is no such Namespace")?;
        if halt(&namespace).is_some() || system.as_ref().is_none_or(|system| halt(system).is_some()) {
            return Err("halted".to_owned());
        }
        let record = self.cluster.api.get(&record_path(name)).ok_or("no record")?;
        let admitted = record["spec"]["verdict"] == "Admitted"
            && record["spec"]["namespaceUid"] == namespace.uid.as_str()
            && record["spec"]["admission"]["digest"]
                == policy::digest::digest(&namespace.annotations).as_str();
        if !admitted {
            return Err("not admitted as it is".to_owned());
        }
        let wall = self.lives[process].clock.wall();
        let settings = may_kill(&namespace, system.as_ref(), &self.policy, wall);
        settings
            .and_then(|settings| is_time(&settings, &self.policy, wall).map(|()| settings))
            .map_err(|locked| locked.sentence(name))
    }

    /// Notes that a call was sent.
    pub fn sent(&mut self, ask: &Ask) {
        let now = self.cluster.now();
        match ask.class {
            Class::Namespace if let Some(namespace) = self.cluster.namespace_of(&ask.path) => {
                let consent = self.consent(ask.process, namespace);
                self.oracle.asked(ask.process, namespace, consent);
            }
            Class::Kill if !is_dry(ask) => {
                if let Some(pod) = self.cluster.find(&ask.path) {
                    self.oracle.sends(&self.cluster, (ask.process, pod), &ask.look, now);
                }
            }
            _ => {}
        }
    }

    /// Whether the API may carry out a call at all.
    pub fn check(&self, ask: &Ask) -> Result<(), Answer> {
        let namespace = self.cluster.namespace_of(&ask.path);
        if let Some(namespace) = namespace.map(|namespace| &self.cluster.namespaces[namespace])
            && ask.verb == "POST"
        {
            if !namespace.exists {
                return Err((404, "no such Namespace".to_owned(), Value::Null));
            }
            if namespace.terminating {
                return Err(terminating(namespace.name));
            }
        }
        let needs_rights = ["/apis/apps/", "/apis/policy/"].iter().any(|api| ask.path.starts_with(api))
            || ask.path.starts_with("/api/v1/namespaces/") && ask.class != Class::Namespace;
        if needs_rights && namespace.is_some_and(|namespace| !self.cluster.namespaces[namespace].rights) {
            return Err((403, "no RoleBinding".to_owned(), Value::Null));
        }
        let wanted = &ask.body["metadata"]["uid"];
        if ask.class == Class::RecordWrite && !wanted.is_null() {
            let stored = self.before(ask).ok_or((404, "no record".to_owned(), Value::Null))?;
            if stored["metadata"]["uid"] != *wanted {
                return Err((409, "the UID is another".to_owned(), Value::Null));
            }
        }
        Ok(())
    }

    /// What a call is going to change.
    pub fn before(&self, ask: &Ask) -> Option<Value> {
        let path = ask.path.trim_end_matches("/status");
        (ask.class == Class::RecordWrite).then(|| self.cluster.api.get(path)).flatten()
    }

    /// Notes what was done.
    pub fn done(&mut self, ask: &Ask, before: Option<Value>, code: u16) {
        match ask.class {
            Class::Namespace if let Some(namespace) = self.cluster.namespace_of(&ask.path) => {
                let consent = self.consent(ask.process, namespace);
                let uid = &self.cluster.namespaces[namespace].uid;
                self.oracle.read(ask.process, namespace, consent, (uid, self.cluster.now()));
            }
            Class::RecordRead if ask.path.ends_with("/optins") && code < 300 => {
                self.oracle.listed_records(&self.cluster, ask.process);
            }
            Class::PodRead => {
                if let Some(pod) = self.cluster.find(&ask.path) {
                    let excluded = self.cluster.pods[pod].excluded.is_some();
                    self.oracle.read_pod(ask.process, &self.cluster.pods[pod].uid, excluded);
                }
            }
            Class::Events if code < 300 => self.oracle.told(self.cluster.now(), &ask.body),
            Class::RecordWrite => {
                if let (Some(before), Some(after)) = (before, self.before(ask))
                    && before["status"] != after["status"]
                {
                    let gaps = self.faults.gaps.clone();
                    let slack = self.faults.lateness;
                    let (registry, now) = (self.lives[ask.process].registry.clone(), self.cluster.now());
                    let line = self.oracle.recorded(
                        &self.cluster,
                        (ask.process, &registry),
                        (&before, &after),
                        (slack, &gaps),
                        now,
                    );
                    line.into_iter().for_each(|line| self.say(&line));
                    self.ambush(&before, &after);
                }
            }
            _ => {}
        }
    }

    /// Notes that a call has ended for its process.
    pub fn returned(&mut self, ask: &Ask) {
        let now = self.cluster.now();
        let Some(namespace) = self.cluster.namespace_of(&ask.path) else { return };
        let of = (ask.process, namespace);
        if ask.class == Class::Kill {
            self.oracle.answers.insert(of, now);
        } else if ["/deployments", "/pods"].iter().any(|list| ask.path.ends_with(list)) {
            self.oracle.looks.insert(of, now);
        }
    }

    /// Notes that a process got an answer to a call.
    pub fn answered(&mut self, ask: &Ask, (code, message, details): (u16, &str, &Value)) {
        let Some(pod) = self.cluster.find(&ask.path).filter(|_| ask.class == Class::Kill) else { return };
        let workload = &self.cluster.workloads[self.cluster.pods[pod].workload];
        let record = self.cluster.api.get(&record_path(self.cluster.place(self.cluster.pods[pod].workload)));
        let status = record.and_then(|record| serde_json::from_value(record["status"].clone()).ok());
        let (workload, now) = ((workload.uid.as_str(), workload.name.as_str()), self.cluster.now());
        let status = status.unwrap_or_default();
        self.oracle.answered(ask.process, workload, (code, message, details), &status, now);
    }

    /// Answers a kill, and carries it out.
    pub fn kill(&mut self, ask: &Ask) -> Answer {
        let answer = |code: u16, text: &str| (code, text.to_owned(), Value::Null);
        let Some(namespace) = self.cluster.namespace_of(&ask.path) else {
            return answer(404, "no such Namespace");
        };
        let name = self.cluster.namespaces[namespace].name;
        let options = if ask.verb == "DELETE" { &ask.body } else { &ask.body["deleteOptions"] };
        let is_dry = is_dry(ask);
        if !self.cluster.namespaces[namespace].rights {
            return answer(403, "no RoleBinding");
        }
        let Some(pod) = self.cluster.find(&ask.path) else { return answer(404, "no such Pod") };
        let attempt = Attempt {
            process: ask.process,
            pod,
            evicts: ask.verb != "DELETE",
            grace: options["gracePeriodSeconds"].as_u64(),
            is_dry,
            look: ask.look.clone(),
        };
        self.oracle.tried(&self.cluster, &attempt);
        let Some(view) = self.cluster.view(&namespace_path(name)) else {
            return answer(404, "no such Namespace");
        };
        if view.terminating && attempt.evicts {
            return terminating(name);
        }
        // The locks use the right clock.
        let (number, namespace, system) = (namespace, view, self.cluster.view(SYSTEM));
        let wall = self.cluster.clock.wall();
        let allowed = may_kill(&namespace, system.as_ref(), &self.policy, wall)
            .and_then(|settings| is_time(&settings, &self.policy, wall));
        if let Err(locked) = allowed {
            return answer(403, &locked.sentence(name));
        }
        if attempt.evicts {
            if let Err(refused) = self.cluster.charge(pod, is_dry) {
                return refused;
            }
        } else if !is_dry {
            self.oracle.budget_of_accepted(&self.cluster, pod, &ask.look);
        }
        let path = pod_path(name, &self.cluster.pods[pod].name);
        let stored = self.cluster.api.get(&path).unwrap();
        for key in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][key];
            if !wanted.is_null() && *wanted != stored["metadata"][key] {
                return answer(409, &format!("the precondition {key} failed"));
            }
        }
        if is_dry {
            return answer(200, "");
        }
        let record = self.cluster.api.get(&record_path(name)).unwrap_or_default();
        self.oracle.namespace_of_killed(&self.cluster, number, &attempt);
        self.oracle.rate(&self.cluster, ask.process, self.policy.kills_per_minute);
        self.oracle.killed(&self.cluster, &attempt, &record);
        self.say(&format!("process {} kills {} in {name}", ask.process, self.cluster.pods[pod].name));
        self.cluster.end(pod, attempt.grace);
        self.look();
        self.agenda_changed.notify_waiters();
        answer(200, "")
    }
}

/// The API server's answer to a request that would make something in a Namespace that is being
/// deleted. An eviction is such a request.
fn terminating(namespace: &str) -> Answer {
    let details =
        json!({"causes": [{"reason": "NamespaceTerminating", "message": "it is being terminated"}]});
    (
        403,
        format!("unable to create new content in namespace {namespace} because it is being terminated"),
        details,
    )
}

fn is_dry(ask: &Ask) -> bool {
    let options = if ask.verb == "DELETE" { &ask.body } else { &ask.body["deleteOptions"] };
    ask.query.contains_key("dryRun") || options["dryRun"].as_array().is_some_and(|dry| !dry.is_empty())
}
