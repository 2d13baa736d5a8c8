//! Events on the Namespace. They are news for people: one that can't be written is logged, and nothing waits for it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use policy::eligibility::NamespaceView;

use crate::review::shortened;

/// Who reports, in the form that events.k8s.io asks for.
const REPORTER: &str = "purechaos.dev/webhook";

/// Characters of a user's name; the API server refuses notes of more than 1 kB.
const LONGEST_USER: usize = 200;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// This user's opt-in counts from now on.
    OptedIn(String),
    /// The record is gone, for this reason.
    OptedOut(&'static str),
}

impl News {
    fn reason(&self) -> &'static str {
        match self {
            Self::OptedIn(_) => "ChaosOptedIn",
            Self::OptedOut(_) => "ChaosOptedOut",
        }
    }

    fn action(&self) -> &'static str {
        match self {
            Self::OptedIn(_) => "OptIn",
            Self::OptedOut(_) => "OptOut",
        }
    }

    fn note(&self) -> String {
        match self {
            Self::OptedIn(user) => {
                let user = shortened(user.clone(), LONGEST_USER);
                format!("{user} opted this namespace in to chaos: its Pods may be killed from now on")
            }
            Self::OptedOut(why) => format!("No Pod is killed here from now on: {why}"),
        }
    }
}

/// The Event as it is sent. `instance` names the Pod that reports.
#[must_use]
pub fn event(namespace: &NamespaceView, news: &News, now: Timestamp, instance: &str) -> Event {
    let NamespaceView { name, uid, .. } = namespace;
    Event {
        metadata: ObjectMeta {
            // A dash: the API server refuses a prefix that ends in a dot (tried).
            generate_name: Some(format!("{name}-")),
            namespace: Some(name.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(REPORTER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        action: Some(news.action().to_owned()),
        reason: Some(news.reason().to_owned()),
        note: Some(news.note()),
        type_: Some("Normal".to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Namespace".to_owned()),
            name: Some(name.clone()),
            // Empty, as it is for cluster-wide objects, would put the Event into `default`, where the owner does not look.
            namespace: Some(name.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

/// Sends it.
pub async fn publish(
    client: &Client,
    namespace: &NamespaceView,
    news: &News,
    now: Timestamp,
    instance: &str,
) {
    let event = event(namespace, news, now, instance);
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace.name);
    if let Err(error) = runtime::client::call(api.create(&PostParams::default(), &event)).await {
        let reason = news.reason();
        tracing::warn!(
            namespace = namespace.name,
            reason,
            error = error.to_string(),
            "failed to write an Event"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lives_in_the_namespace_that_it_is_about() {
        let namespace =
            NamespaceView { name: "a".to_owned(), uid: "1".to_owned(), ..NamespaceView::default() };
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        for (news, reason, words) in [
            (News::OptedIn("kim".to_owned()), "ChaosOptedIn", "kim opted this namespace in"),
            (News::OptedOut("opted out"), "ChaosOptedOut", "from now on: opted out"),
        ] {
            let event = event(&namespace, &news, now, "webhook-1");
            assert_eq!(event.metadata.namespace.as_deref(), Some("a"));
            let regarding = event.regarding.unwrap();
            assert_eq!((regarding.namespace.as_deref(), regarding.name.as_deref()), (Some("a"), Some("a")));
            assert_eq!((regarding.kind.as_deref(), regarding.uid.as_deref()), (Some("Namespace"), Some("1")));
            assert_eq!(event.reason.as_deref(), Some(reason));
            assert!(event.note.unwrap().contains(words));
            // Without these the API server refuses it.
            assert!(event.event_time.is_some() && event.action.is_some() && event.type_.is_some());
            assert!(event.reporting_controller.is_some() && event.reporting_instance.is_some());
        }
    }
}
