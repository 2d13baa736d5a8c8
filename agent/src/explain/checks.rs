//! Asks the checks of the steady state for `agent explain`, with the rights of the person who asks.

use std::sync::Arc;

use kube::Client;
use policy::steady_state::{CheckNames, Checks};
use runtime::clock::SystemClock;

use crate::cluster::policy_config_map;
use crate::explain::explanation::Unseen;
use crate::guard::namespace::Forbidden;
use crate::steady_state::prober::Prober;
use crate::steady_state::{Answer, permits};

/// Whether the chosen checks let a round begin. Returns the names of those that the person may not
/// ask. Without `checks`, the checks are those of the
/// installed policy. Adds to `unseen` what the person may not ask.
///
/// # Errors
/// [`Forbidden`] if a check that the person may ask doesn't hold or has no answer.
pub async fn ask(
    client: &Client,
    namespace: &str,
    chosen: &CheckNames,
    checks: Option<Checks>,
    unseen: &mut Vec<Unseen>,
) -> Result<Vec<String>, Forbidden> {
    let checks = match checks {
        Some(checks) => checks,
        None => match policy_config_map::read(client).await {
            Ok(policy) => policy.steady_state,
            Err(why) => {
                let what = format!("whether the checks {chosen} hold");
                unseen.push(Unseen { what, right: format!("read the platform's policy ({why})") });
                return Ok(chosen.iter().map(|check| format!("check `{check}`")).collect());
            }
        },
    };
    let prober = Prober::new(client.clone(), Arc::new(SystemClock), checks);
    let mut findings = prober.ask(namespace, chosen, None).await;
    let mut unasked = Vec::new();
    // The agent may ask what this person may not.
    findings.retain(|finding| {
        if let Answer::Forbidden(why) = &finding.answer {
            let what = format!("whether check {} holds", finding.check);
            unseen.push(Unseen { what, right: format!("get services/proxy ({why})") });
            unasked.push(format!("check `{}`", finding.check));
        }
        !matches!(finding.answer, Answer::Forbidden(_))
    });
    permits(&findings).map(|()| unasked)
}
