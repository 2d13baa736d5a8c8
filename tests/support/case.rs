//! Cases of recoveries: what happens in the middle of a recovery, and how the recovery has to end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

use crate::cluster::{PATIENCE, within};
use crate::scene::{Outcomes, Scene, is, is_terminating, workload};
use crate::tags;

/// Longer than the time from one look of the agent at a pending recovery to the next.
const SEVERAL_LOOKS: Duration = Duration::from_secs(6);

/// What happens in the middle of the recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// From here on all Pods may be Ready.
    Open,
    /// The replacement may be Ready, other new Pods may not.
    OpenReplacement,
    /// The replacement runs, its readiness gate stays closed, and the agent has looked at it.
    Hold,
    Rollout,
    Scale(u32),
    /// An autoscaler with this minimum and maximum size.
    Autoscale(u32, u32),
    OptOut,
    Expire,
    OptIn,
    DeleteWorkload(How),
    /// The workload is deleted, and another one of the same name is made.
    MakeAnew,
    DeleteOther,
    FailOther,
    RemoveNode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Background,
    Foreground,
}

/// What is special about the workload before the kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    Nothing,
    /// The victim ignores the signal to end, and stays Ready meanwhile.
    Deaf,
    /// The image is gone from the registry when the replacement needs it.
    ImageGone,
    /// The Pods are on a node without a machine, where the test does the kubelet's work. One Pod
    /// stays, and the other one dies.
    FakeNode,
}

/// A case: a workload of two Pods, what happens between a kill and its recovery, and how the
/// recovery ends.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The prefix of its namespace's name.
    pub name: &'static str,
    /// The workload's kind.
    pub kind: &'static str,
    pub special: Special,
    pub middle: &'static [Step],
    /// The one outcome that the recovery must have.
    pub outcome: &'static str,
}

impl Case {
    /// Plays the case, and checks that the kill ended in exactly that outcome.
    pub fn play(self) {
        let scene = Scene::new(self.name);
        Play { case: self, scene, before: BTreeSet::new(), replacement: None, opened: None }.play();
    }
}

/// A case while it is played.
struct Play {
    case: Case,
    scene: Scene,
    before: BTreeSet<String>,
    replacement: Option<String>,
    /// When the replacement could first become Ready.
    opened: Option<Instant>,
}

impl Play {
    fn settings(&self) -> Vec<&str> {
        let mut settings = Vec::new();
        match self.case.kind {
            "DaemonSet" if self.case.special == Special::FakeNode => {
                settings.extend(["purechaos.dev/kinds=DaemonSet", "purechaos.dev/targets=victim=yes"]);
            }
            "DaemonSet" => {
                settings.extend(["purechaos.dev/kinds=DaemonSet", "purechaos.dev/single-replica=allow"]);
            }
            _ => {}
        }
        if self.case.outcome == "timed_out" {
            settings.push("purechaos.dev/recovery-deadline=30s");
        }
        settings
    }

    /// Makes the workload, and waits until all its Pods are Ready.
    fn set_up(&mut self) {
        let Self { case, scene, .. } = self;
        let mut web = workload(case.kind, "web", 2);
        let pod = &mut web["spec"]["template"]["spec"];
        let mut gone = None;
        match case.special {
            Special::Nothing => {}
            Special::Deaf => {
                let deaf = "trap '' TERM INT; while :; do /busybox sleep 1; done";
                pod["containers"][0]["command"] = json!(["/busybox", "sh", "-c", deaf]);
                pod["terminationGracePeriodSeconds"] = json!(90);
            }
            Special::ImageGone => {
                pod["containers"][0]["image"] =
                    json!(format!("chentex/random-logger:{}", scene.namespace.name));
                pod["containers"][0]["imagePullPolicy"] = json!("Always");
                gone = Some(tags::add(&scene.namespace.name));
            }
            Special::FakeNode => {
                let name = &scene.namespace.name;
                pod["tolerations"] = json!([{"key": "purechaos.dev/hollow", "operator": "Exists"}]);
                let is_one =
                    json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [name, "node"]});
                let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [is_one]}]});
                pod["affinity"] =
                    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
                scene.make_node();
            }
        }
        scene.create(&web);
        scene.until_ready(if case.kind == "DaemonSet" && case.special == Special::Nothing { 1 } else { 2 });
        for pod in scene.pods() {
            if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some("node") {
                scene.patch_pod(&pod.name_any(), &json!({"metadata": {"labels": {"victim": "yes"}}}));
            }
            self.before.insert(pod.uid().unwrap());
        }
        if let Some(manifest) = gone {
            tags::remove(&manifest);
        }
    }

    fn victim(&self) -> String {
        self.scene.status().pending[0].uid.clone()
    }

    /// The name of a Pod that existed before the kill and still lives.
    fn other(&self) -> String {
        let victim = self.victim();
        let is_other = |pod: &&Pod| {
            let uid = pod.uid().unwrap();
            self.before.contains(&uid) && uid != victim && !is_terminating(pod)
        };
        self.scene.pods().iter().find(is_other).unwrap().name_any()
    }

    /// Waits until the replacement exists.
    fn replaced(&mut self) -> Pod {
        let is_new = |pod: &Pod| match &self.replacement {
            Some(known) => pod.uid().as_ref() == Some(known),
            None => !self.before.contains(&pod.uid().unwrap()),
        };
        let find = || self.scene.pods().into_iter().find(is_new);
        let pod = within(PATIENCE, "a replacement", find);
        self.replacement = pod.uid();
        pod
    }

    fn take(&mut self, step: Step) {
        let kind = self.case.kind;
        match step {
            Step::Open | Step::OpenReplacement => {
                self.replaced();
                self.opened = Some(Instant::now());
            }
            Step::Hold => self.hold(),
            Step::Rollout => {
                let template = json!({"metadata": {"annotations": {"version": "2"}}});
                self.scene.patch(kind, "web", &json!({"spec": {"template": template}}));
            }
            Step::Scale(replicas) => {
                if replicas > 2 {
                    self.replaced();
                }
                self.scene.patch(kind, "web", &json!({"spec": {"replicas": replicas}}));
            }
            Step::Autoscale(least, most) => self.autoscale(least, most),
            Step::OptOut => {
                self.scene.namespace.annotate(&["chaos-"]).succeeds();
                let record = || self.scene.namespace.record();
                within(PATIENCE, "the end of the record", || record().is_null().then_some(()));
            }
            // The halt is still set.
            Step::OptIn => self.scene.opt_in(&[]),
            Step::Expire => {
                let soon = jiff::Timestamp::now().checked_add(Duration::from_secs(6)).unwrap();
                let expires = format!("purechaos.dev/expires={}", soon.strftime("%FT%TZ"));
                self.scene.namespace.annotate(&[&expires]).succeeds();
                let is_over = |spare: i64| jiff::Timestamp::now().as_second() + spare > soon.as_second();
                within(PATIENCE, "the expiry", || {
                    let ended = self.scene.outcomes(&self.scene.metrics());
                    assert!(ended.is_empty() || is_over(2), "it ended before it expired: {ended:?}");
                    is_over(0).then_some(())
                });
            }
            Step::DeleteWorkload(How::Background) => {
                self.scene.delete(kind, "web", &DeleteParams::background())
            }
            Step::DeleteWorkload(How::Foreground) => {
                self.scene.delete(kind, "web", &DeleteParams::foreground())
            }
            Step::MakeAnew => {
                self.scene.delete(kind, "web", &DeleteParams::background());
                let mut web = workload(kind, "web", 2);
                web["spec"]["template"]["metadata"]["annotations"] = json!({"made": "anew"});
                within(PATIENCE, "room for another", || self.scene.try_create(&web).then_some(()));
            }
            Step::DeleteOther => self.scene.delete_pod(&self.other()),
            Step::FailOther => {
                // The kubelet ends this Pod for good.
                let other = self.other();
                self.scene.patch_pod(&other, &json!({"spec": {"activeDeadlineSeconds": 1}}));
                let failed = |pod: &Pod| {
                    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                    pod.name_any() == other && phase == Some("Failed")
                };
                let is_failed = || self.scene.pods().iter().any(failed).then_some(());
                within(PATIENCE, "the end of the other Pod", is_failed);
            }
            Step::RemoveNode => assert!(self.scene.remove_node()),
        }
    }

    fn autoscale(&mut self, least: u32, most: u32) {
        self.replaced();
        self.scene.create(&json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": self.case.kind, "name": "web"},
                "minReplicas": least, "maxReplicas": most
            }
        }));
        let replicas = || self.scene.get("apps/v1", self.case.kind, "web")["spec"]["replicas"].as_u64();
        let is_scaled =
            || (replicas() == Some(u64::from(if least > 2 { least } else { most }))).then_some(());
        within(PATIENCE * 2, "the autoscaler", is_scaled);
    }

    /// Whether the replacement lacks nothing but the opening of its gate.
    fn is_held(&mut self) -> bool {
        let replacement = self.replaced();
        is(&replacement, "ContainersReady") && !is(&replacement, "Ready")
    }

    fn hold(&mut self) {
        within(PATIENCE * 2, "a replacement that runs", || self.is_held().then_some(()));
        if self.case.special == Special::Deaf {
            let victim = self.victim();
            let is_ready =
                |pod: &Pod| pod.uid().as_ref() == Some(&victim) && is_terminating(pod) && is(pod, "Ready");
            assert!(self.scene.pods().iter().any(is_ready), "the victim should be Ready, and being deleted");
        }
        // The state must stay like this while the agent looks.
        std::thread::sleep(SEVERAL_LOOKS);
        assert!(self.is_held() && self.scene.status().outcomes.is_empty(), "{:?}", self.scene.status());
    }

    /// Plays the case, and checks that the kill ended in exactly that outcome.
    fn play(&mut self) {
        self.set_up();
        let begun = Instant::now();
        self.scene.kill(&self.settings(), 1);
        let killed = Instant::now();
        let Some(victim) = self.scene.status().pending.pop() else { panic!("it ended by itself") };
        for step in self.case.middle {
            self.take(*step);
        }
        let metrics = within(PATIENCE * 3, "an outcome", || {
            if self.opened.is_some() {
                let only =
                    self.replacement.clone().filter(|_| self.case.middle.contains(&Step::OpenReplacement));
                self.scene.open(|pod| only.is_none() || pod.uid() == only);
            }
            let metrics = self.scene.metrics();
            let ended: f64 = self.scene.outcomes(&metrics).values().sum();
            (ended >= 1.0).then_some(metrics)
        });
        let ended = Instant::now();
        let expected = Outcomes::from([(self.case.outcome.to_owned(), 1.0)]);
        assert_eq!(self.scene.outcomes(&metrics), expected, "{}", self.case.name);
        assert_eq!(self.scene.total(&metrics, "pure_chaos_kills_total", ""), 1.0);
        let measured = self.scene.total(&metrics, "pure_chaos_recovery_seconds_count", "");
        assert_eq!(measured, expected.get("recovered").copied().unwrap_or(0.0));
        if measured == 1.0 {
            let seconds = self.scene.total(&metrics, "pure_chaos_recovery_seconds_sum", "");
            let least = (self.opened.unwrap() - killed).as_secs_f64();
            let most = (ended - begun).as_secs_f64();
            assert!(
                seconds >= least && seconds <= most,
                "{}: {least} <= {seconds} <= {most}",
                self.case.name
            );
        }
        self.look_back(&victim.pod, &victim.uid);
    }

    /// What else has to hold at the end.
    fn look_back(&self, victim: &str, uid: &str) {
        if self.case.outcome != "opted_out" {
            let is_noted = || {
                let status = self.scene.status();
                let counted: Vec<_> =
                    status.outcomes.iter().map(|(name, count)| (name.as_str(), *count)).collect();
                let is_one = counted == [(self.case.outcome, 1)];
                (is_one && status.kills == Some(1) && status.pending.is_empty()).then_some(())
            };
            within(PATIENCE, "the outcome in the record", is_noted);
        }
        let pods = self.scene.pods();
        match (self.case.kind, self.case.special) {
            (_, Special::Deaf) => {
                let is_there = |pod: &Pod| pod.uid().as_deref() == Some(uid) && is_terminating(pod);
                assert!(pods.iter().any(is_there), "the victim should still be there");
            }
            (_, Special::ImageGone) => {
                let waits = serde_json::to_value(&pods).unwrap().to_string();
                assert!(
                    waits.contains("\"ErrImagePull\"") || waits.contains("\"ImagePullBackOff\""),
                    "{waits}"
                );
            }
            ("StatefulSet", Special::Nothing) if self.case.outcome == "recovered" => {
                let is_back = |pod: &Pod| pod.name_any() == victim && pod.uid().as_deref() != Some(uid);
                assert!(pods.iter().any(is_back), "{victim} should be back");
            }
            _ => {}
        }
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        if self.case.special == Special::FakeNode {
            self.scene.remove_node();
        }
    }
}
