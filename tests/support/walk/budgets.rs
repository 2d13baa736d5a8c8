//! The PodDisruptionBudgets of a walk, the controller that keeps their status, and the API that
//! charges them.

use policy::settings::Mode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cluster::{Action, Cluster};
use super::network::Answer;
use super::oracle::{Oracle, STALE, Seen};

/// A PodDisruptionBudget.
#[derive(Debug, Clone)]
pub struct Budget {
    namespace: usize,
    name: String,
    /// The label `app` of the Pods that the budget covers.
    app: String,
    /// `minAvailable`.
    min: usize,
    generation: u64,
    /// The status: for which generation it is, and what it says.
    observed: u64,
    healthy: usize,
    allowed: usize,
    /// Since when the status has allowed nothing.
    pub exhausted: Option<Instant>,
}

impl Cluster {
    /// Makes or changes the budget of a workload's Pods; `None` removes it. With `second`, this is
    /// about another budget for the same Pods.
    pub fn set_budget(&mut self, workload: usize, second: bool, min: Option<usize>) {
        let it = &self.workloads[workload];
        let (namespace, app) = (it.namespace, it.name.clone());
        let name = if second { format!("{app}-2") } else { app.clone() };
        let known =
            self.budgets.iter().position(|budget| (budget.namespace, &budget.name) == (namespace, &name));
        match (known, min) {
            (Some(known), Some(min)) => {
                self.budgets[known].min = min;
                self.budgets[known].generation += 1;
                self.show_budget(known);
            }
            (Some(known), None) => {
                let path = self.budget_path(known);
                self.budgets.remove(known);
                self.api.remove(&path);
            }
            (None, Some(min)) => {
                let generation = 1;
                self.budgets.push(Budget {
                    namespace,
                    name,
                    app,
                    min,
                    generation,
                    observed: 0,
                    healthy: 0,
                    allowed: 0,
                    exhausted: None,
                });
                self.show_budget(self.budgets.len() - 1);
            }
            (None, None) => {}
        }
        self.budgets_soon(namespace);
    }

    /// Removes all budgets of a namespace.
    pub fn remove_budgets(&mut self, namespace: usize) {
        for budget in (0..self.budgets.len()).rev() {
            if self.budgets[budget].namespace == namespace {
                let path = self.budget_path(budget);
                self.budgets.remove(budget);
                self.api.remove(&path);
            }
        }
    }

    fn budget_path(&self, budget: usize) -> String {
        let it = &self.budgets[budget];
        let namespace = self.namespaces[it.namespace].name;
        format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/{}", it.name)
    }

    fn show_budget(&mut self, budget: usize) {
        let (path, now) = (self.budget_path(budget), self.now());
        let it = &mut self.budgets[budget];
        let is_exhausted = it.allowed == 0 && it.observed == it.generation;
        it.exhausted = if is_exhausted { it.exhausted.or(Some(now)) } else { None };
        let object = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": it.name, "namespace": self.namespaces[it.namespace].name,
                "generation": it.generation},
            "spec": {"minAvailable": it.min, "selector": {"matchLabels": {"app": it.app}}},
            "status": {"observedGeneration": it.observed, "disruptionsAllowed": it.allowed,
                "currentHealthy": it.healthy, "desiredHealthy": it.min, "expectedPods": it.healthy},
        });
        self.api.put(&path, object);
    }

    /// Lets the controller look at the budgets of a namespace after a while.
    pub fn budgets_soon(&mut self, namespace: usize) {
        if self.budgets.iter().any(|budget| budget.namespace == namespace) {
            let after = self.milliseconds(10, 600);
            self.plan(after, Action::Budgets(namespace));
        }
    }

    /// Writes the status of the budgets of a namespace, as their controller does.
    pub fn observe_budgets(&mut self, namespace: usize) {
        for budget in 0..self.budgets.len() {
            if self.budgets[budget].namespace != namespace {
                continue;
            }
            let app = self.budgets[budget].app.clone();
            let is_of = |workload: &usize| {
                let it = &self.workloads[*workload];
                it.namespace == namespace && it.name == app
            };
            let workloads = (0..self.workloads.len()).filter(is_of);
            let healthy: usize = workloads.map(|workload| self.ready(workload)).sum();
            let it = &mut self.budgets[budget];
            (it.observed, it.healthy) = (it.generation, healthy);
            it.allowed = healthy.saturating_sub(it.min);
            self.show_budget(budget);
        }
    }

    /// The budgets that cover a Pod.
    fn covering(&self, pod: usize) -> Vec<usize> {
        let of = &self.workloads[self.pods[pod].workload];
        let covers = |budget: &Budget| (budget.namespace, &budget.app) == (of.namespace, &of.name);
        (0..self.budgets.len()).filter(|budget| covers(&self.budgets[*budget])).collect()
    }

    /// Since when a budget has allowed no eviction of a Pod.
    fn blocked(&self, pod: usize) -> Option<Instant> {
        self.covering(pod).into_iter().filter_map(|budget| self.budgets[budget].exhausted).min()
    }

    /// The same for the Pods of a workload.
    pub fn blocked_workload(&self, workload: usize) -> Option<Instant> {
        self.live(workload).into_iter().find_map(|pod| self.blocked(pod))
    }

    /// Charges the budget that covers a Pod with its eviction, as the API server does before it
    /// looks at the preconditions.
    ///
    /// # Errors
    /// The answer, if the eviction is refused.
    pub fn charge(&mut self, pod: usize, is_dry: bool) -> Result<(), Answer> {
        let covering = self.covering(pod);
        if self.pods[pod].terminating || covering.is_empty() {
            return Ok(());
        }
        if covering.len() > 1 {
            let text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err((500, text.to_owned(), Value::Null));
        }
        let it = &mut self.budgets[covering[0]];
        let is_spare = !self.pods[pod].ready && it.healthy >= it.min && it.min > 0;
        if it.observed < it.generation || it.allowed == 0 && !is_spare {
            return Err(against_budget());
        }
        if !is_dry && !is_spare {
            it.allowed -= 1;
            self.show_budget(covering[0]);
        }
        Ok(())
    }
}

/// The API server's answer to an eviction that a budget does not allow.
pub fn against_budget() -> Answer {
    let details = json!({"causes": [{"reason": "DisruptionBudget", "message": "the budget needs them"}]});
    (429, "Cannot evict pod as it would violate the pod's disruption budget.".to_owned(), details)
}

impl Oracle {
    /// Checks a kill that a process sends, against what the process could see of the budgets.
    pub fn budget_of_sent(&mut self, cluster: &Cluster, pod: usize, look: &Seen) {
        let now = cluster.now();
        let namespace = cluster.workloads[cluster.pods[pod].workload].namespace;
        // If the mode has just changed, the guards asked for another mode.
        let is_new = now - cluster.namespaces[namespace].changed <= STALE;
        let since = cluster.blocked(pod).filter(|since| now - *since > STALE);
        if let (Some(since), true) = (since, evicts(look, namespace) && !is_new) {
            let name = &cluster.pods[pod].name;
            let text =
                format!("an eviction of {name} is sent, and for {:?} a budget allows none", now - since);
            self.violate("budget", text);
        }
    }

    /// Checks a kill that the API is about to accept.
    pub fn budget_of_accepted(&mut self, cluster: &Cluster, pod: usize, look: &Seen) {
        let it = &cluster.pods[pod];
        let namespace = cluster.workloads[it.workload].namespace;
        if evicts(look, namespace) && !it.terminating && it.ready && cluster.blocked(pod).is_some() {
            self.violate("budget", format!("{} is killed against a budget", it.name));
        }
    }
}

/// Whether the settings, as a process last saw them, ask for evictions.
fn evicts(look: &Seen, namespace: usize) -> bool {
    let settings = look.read.get(&namespace).and_then(|read| read.as_ref().ok());
    settings.is_some_and(|settings| settings.mode == Mode::Evict)
}
