//! How long after the answer to an opt-out API servers still accepted kills, according to their own
//! audit logs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::audit::Request;

/// A namespace that opted out.
pub struct OptOut {
    /// The namespace's name.
    pub namespace: String,
    /// When the API server answered the opt-out.
    pub answered: Timestamp,
    /// When the namespace opted in again. Later kills have nothing to do with this opt-out.
    pub until: Timestamp,
}

/// What happened to the kills around the opt-outs.
#[derive(Default)]
pub struct Findings {
    /// The number of opt-outs with an accepted kill in the second before.
    pub in_time: usize,
    /// The number of accepted kills in all.
    pub kills: usize,
    /// The attempts that came after an opt-out and were refused.
    pub refused: BTreeMap<String, usize>,
    /// Lateness of evictions.
    pub evictions: Lateness,
    /// Lateness of plain deletions, which wait for no PodDisruptionBudget.
    pub deletions: Lateness,
    /// How many of the late kills the API server even received after the opt-out's answer.
    pub received_late: usize,
}

/// The lateness of one way to kill.
#[derive(Default)]
pub struct Lateness {
    /// The times from the opt-out's answer to the answer to a kill, for kills that were accepted
    /// after it.
    pub late: Vec<Duration>,
    /// The median time that an API server took for a kill that it accepted.
    pub median: Duration,
}

impl Lateness {
    fn of_kills<'a>(kills: impl Iterator<Item = &'a Request>) -> Self {
        let mut took: Vec<_> = kills.map(|kill| kill.answered.duration_since(kill.received)).collect();
        took.sort_unstable();
        let median = took.get(took.len() / 2).and_then(|took| Duration::try_from(*took).ok());
        Self { late: Vec::new(), median: median.unwrap_or_default() }
    }

    /// How many kills came later than this.
    pub fn later_than(&self, limit: Duration) -> usize {
        self.late.iter().filter(|late| **late > limit).count()
    }

    /// The longest lateness.
    pub fn most(&self) -> Duration {
        self.late.iter().max().copied().unwrap_or_default()
    }

    fn print(&self, way: &str) {
        if self.median.is_zero() {
            return println!("{way}: none");
        }
        println!("{way}: an API server took {:.0?}, at the median", self.median);
        println!(
            "  accepted after the opt-out's answer: {}, at most {:.0?} later",
            self.late.len(),
            self.most()
        );
        let mut from = 0;
        for to in [10, 25, 50, 100, u64::MAX] {
            let within = |late: &&Duration| (from..to).contains(&u64::try_from(late.as_millis()).unwrap());
            let label = if to == u64::MAX { format!("over {from} ms") } else { format!("{from} to {to} ms") };
            println!("  {label:>14}: {}", self.late.iter().filter(within).count());
            from = to;
        }
    }
}

fn is_eviction(kill: &Request) -> bool {
    kill.resource == "pods/eviction"
}

/// Compares opt-outs with the kills that were requested.
pub fn find(opt_outs: &[OptOut], requests: &[Request]) -> Findings {
    let mut by_namespace: BTreeMap<&str, Vec<&Request>> = BTreeMap::new();
    for request in requests.iter().filter(|request| request.is_kill()) {
        by_namespace.entry(&request.namespace).or_default().push(request);
    }
    let mut findings = Findings::default();
    let accepted = |request: &&&Request| request.is_accepted();
    findings.kills = by_namespace.values().flatten().filter(accepted).count();
    let kills = || by_namespace.values().flatten().copied().filter(|kill| kill.is_accepted());
    findings.evictions = Lateness::of_kills(kills().filter(|kill| is_eviction(kill)));
    findings.deletions = Lateness::of_kills(kills().filter(|kill| !is_eviction(kill)));
    for OptOut { namespace, answered, until } in opt_outs {
        let kills = by_namespace.get(namespace.as_str()).map(Vec::as_slice).unwrap_or_default();
        let second_before = answered.checked_sub(Duration::from_secs(1)).unwrap();
        let before = |kill: &&&Request| kill.answered > second_before && kill.answered <= *answered;
        findings.in_time += usize::from(kills.iter().filter(accepted).any(|kill| before(&kill)));
        for kill in kills.iter().filter(|kill| kill.answered > *answered && kill.answered < *until) {
            if kill.is_accepted() {
                let late = Duration::try_from(kill.answered.duration_since(*answered)).unwrap();
                let way = if is_eviction(kill) { &mut findings.evictions } else { &mut findings.deletions };
                way.late.push(late);
                findings.received_late += usize::from(kill.received > *answered);
            } else {
                *findings.refused.entry(format!("{} by {}", kill.code, refuser(kill))).or_default() += 1;
            }
        }
    }
    findings
}

/// The lock that a refusal came from.
fn refuser(refused: &Request) -> &'static str {
    match refused.message.as_str() {
        _ if !refused.allowed => "RBAC",
        words if words.contains("ValidatingAdmissionPolicy") => "an admission policy",
        words if words.contains("admission webhook") => "the webhook",
        _ => "the API server",
    }
}

impl Findings {
    /// Prints the findings.
    pub fn print(&self, opt_outs: usize) {
        println!(
            "{opt_outs} opt-outs, {} kills; in the second before an opt-out there was one {} times",
            self.kills, self.in_time
        );
        self.evictions.print("evictions");
        self.deletions.print("deletions");
        println!("{} of these were received after the answer", self.received_late);
        for (refusal, count) in &self.refused {
            println!("refused after the opt-out: {count} × {refusal}");
        }
    }
}
