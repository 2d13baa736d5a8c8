//! Events on the Namespace. Events are news for people, so no part of Pure Chaos waits for one.

use k8s_openapi::api::core::v1::ObjectReference;
use policy::eligibility::NamespaceView;
use runtime::events::{Event, Weight};
use runtime::text::cut;

/// Name of the controller that reports the Events, in the form that events.k8s.io requires.
pub const REPORTER: &str = "purechaos.dev/webhook";

/// The reasons of the Events.
pub const REASONS: [&str; 3] = ["ChaosOptedIn", "ChaosOptedOut", "ChaosRefused"];

/// The longest name of a user, in bytes. The API server refuses notes of more than 1 kB.
const LONGEST_USER: usize = 200;

/// What an Event reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The opt-in of this user counts from now on.
    OptedIn {
        /// Name of the user who opted in.
        user: String,
        /// Whether the opt-in consents to dry runs only.
        dry_run: bool,
    },
    /// The record was removed for this reason. The texts name the kills whose recovery was pending.
    OptedOut(&'static str, Vec<String>),
    /// The namespace opted in, but no Pod is killed there, for this reason.
    Refused(String),
}

impl News {
    fn reason(&self) -> &'static str {
        match self {
            Self::OptedIn { .. } => "ChaosOptedIn",
            Self::OptedOut(..) => "ChaosOptedOut",
            Self::Refused(_) => "ChaosRefused",
        }
    }

    fn action(&self) -> &'static str {
        match self {
            Self::OptedIn { .. } => "OptIn",
            Self::OptedOut(..) => "OptOut",
            Self::Refused(_) => "Refuse",
        }
    }

    fn note(&self) -> String {
        match self {
            Self::OptedIn { user, dry_run } => {
                let user = cut(user, LONGEST_USER);
                let what = if *dry_run {
                    "its rounds are dry runs, which kill no Pod"
                } else {
                    "its Pods may be killed from now on"
                };
                format!("{user} opted this namespace in to chaos: {what}")
            }
            Self::OptedOut(why, pending) if pending.is_empty() => {
                format!("No Pod is killed here from now on: {why}")
            }
            Self::OptedOut(why, pending) => {
                let pending = pending.join("; ");
                format!(
                    "No Pod is killed here from now on: {why}. Recoveries that are no longer watched: {pending}"
                )
            }
            Self::Refused(why) => format!("Nothing is killed in this namespace: {why}"),
        }
    }
}

/// Returns the Event that reports the news about a namespace.
#[must_use]
pub fn event(namespace: &NamespaceView, news: &News) -> Event {
    let NamespaceView { name, uid, .. } = namespace;
    Event {
        regarding: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Namespace".to_owned()),
            name: Some(name.clone()),
            // An empty namespace, as in Events about cluster-wide objects, would put the Event into
            // `default`, where the owner does not look.
            namespace: Some(name.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        },
        related: None,
        is_warning: matches!(news, News::Refused(_)),
        reason: news.reason(),
        action: news.action().to_owned(),
        note: news.note(),
        // Both replicas may find the same refusal, and may find it again and again.
        weight: if matches!(news, News::Refused(_)) { Weight::Standing } else { Weight::Deed },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lives_in_the_namespace_that_it_is_about() {
        let namespace =
            NamespaceView { name: "a".to_owned(), uid: "1".to_owned(), ..NamespaceView::default() };
        for (news, reason, words) in [
            (
                News::OptedIn { user: "kim".to_owned(), dry_run: false },
                "ChaosOptedIn",
                "kim opted this namespace in to chaos: its Pods may be killed",
            ),
            (
                News::OptedIn { user: "kim".to_owned(), dry_run: true },
                "ChaosOptedIn",
                "kim opted this namespace in to chaos: its rounds are dry runs",
            ),
            (News::OptedOut("opted out", Vec::new()), "ChaosOptedOut", "from now on: opted out"),
            (
                News::OptedOut("expired", vec!["Pod p of web".to_owned()]),
                "ChaosOptedOut",
                "watched: Pod p of web",
            ),
            (
                News::Refused("exceeded quota".to_owned()),
                "ChaosRefused",
                "killed in this namespace: exceeded quota",
            ),
        ] {
            let event = event(&namespace, &news);
            let regarding = &event.regarding;
            assert_eq!((regarding.namespace.as_deref(), regarding.name.as_deref()), (Some("a"), Some("a")));
            assert_eq!((regarding.kind.as_deref(), regarding.uid.as_deref()), (Some("Namespace"), Some("1")));
            assert_eq!(event.reason, reason);
            assert!(event.note.contains(words), "{}", event.note);
        }
    }
}
