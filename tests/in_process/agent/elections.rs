//! The election, in virtual time against a fake API in this process. There are never two leaders,
//! whatever goes wrong, and soon after each fault there is one again.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::leader_election::lease::{LeaderElector, Leadership};
use policy::well_known::LEASE;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use runtime::clock::{Clock, TokioClock};
use serde_json::json;
use tests::fake_api::{Answer, Api};
use tests::stage::noon;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/pure-chaos/leases/agent";
const STEP: Duration = Duration::from_millis(100);

/// The processes that take part. A process that ends is started again with a new identity.
struct Election {
    api: Api,
    clock: TokioClock,
    /// The leadership of every process that ever existed, because a forgotten process might still
    /// lead.
    leaderships: Arc<Mutex<Vec<Leadership>>>,
    processes: Vec<Process>,
}

struct Process {
    /// Whether the process is stopped, as by SIGSTOP or on a node that hangs.
    stopped: watch::Sender<bool>,
    end: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// Does the work, except while the process is stopped.
async fn unless_stopped(mut stopped: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = &mut work => return,
        }
        stopped.wait_for(|stopped| !stopped).await.unwrap();
    }
}

impl Election {
    fn of(count: usize) -> Self {
        let mut election = Self {
            api: Api::default(),
            clock: TokioClock::starting_at(noon()),
            leaderships: Arc::default(),
            processes: Vec::new(),
        };
        election.api.put(PATH, json!({"metadata": {"name": LEASE, "namespace": "pure-chaos"}}));
        for number in 0..count {
            let process = election.process(number);
            election.processes.push(process);
        }
        election
    }

    fn process(&self, number: usize) -> Process {
        let (stopped, receiver) = watch::channel(false);
        let end = CancellationToken::new();
        let (client, clock, leaderships) =
            (self.api.client(), Arc::new(self.clock.clone()), self.leaderships.clone());
        let ended = end.clone();
        let life = async move {
            for life in 0.. {
                let identity = format!("{number}-{life}");
                let mut elector = LeaderElector::new(client.clone(), clock.clone(), identity);
                leaderships.lock().unwrap().push(elector.leadership());
                if !elector.win(&ended).await {
                    return;
                }
                let kept = elector.keep(&ended).await;
                elector.release().await;
                if kept.is_ok() {
                    return;
                }
            }
        };
        Process { stopped, end, task: tokio::spawn(unless_stopped(receiver, life)) }
    }

    fn leaders(&self) -> usize {
        let now = self.clock.monotonic();
        self.leaderships.lock().unwrap().iter().filter(|leadership| leadership.holds(now)).count()
    }

    /// How long it took until there was exactly one leader.
    async fn until_led(&self, most: Duration) -> Duration {
        let begun = self.clock.monotonic();
        while self.leaders() == 0 {
            let passed = self.clock.monotonic() - begun;
            assert!(passed < most, "nobody leads after {passed:?}");
            tokio::time::sleep(STEP).await;
        }
        assert_eq!(self.leaders(), 1);
        self.clock.monotonic() - begun
    }

    /// Whether the Lease exists and its holder has renewed it.
    fn is_renewed(&self) -> bool {
        self.api.get(PATH).is_some_and(|lease| lease["spec"]["renewTime"] != lease["spec"]["acquireTime"])
    }

    fn holder(&self) -> String {
        self.api.get(PATH).unwrap()["spec"]["holderIdentity"].as_str().unwrap().to_owned()
    }
}

/// `make undeploy` and people find the Lease by its labels, even if an agent made it.
#[tokio::test(start_paused = true)]
async fn a_lease_that_an_agent_makes_has_the_labels_of_the_manifests() {
    let election = Election::of(1);
    election.api.remove(PATH);
    election.until_led(Duration::from_secs(30)).await;
    let lease = election.api.get(PATH).unwrap();
    let label = |name: &str| &lease["metadata"]["labels"][format!("app.kubernetes.io/{name}")];
    assert_eq!([label("component"), label("name"), label("part-of")], ["agent", "pure-chaos", "pure-chaos"]);
}

#[tokio::test(start_paused = true)]
async fn one_of_three_leads_and_hands_over_within_two_seconds() {
    let mut election = Election::of(3);
    assert!(election.until_led(Duration::from_secs(1)).await <= STEP);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(election.leaders(), 1);
        let leader = election.holder();
        let number: usize = leader.split('-').next().unwrap().parse().unwrap();
        let process = &mut election.processes[number];
        process.end.cancel();
        (&mut process.task).await.unwrap();
        assert_eq!(election.leaders(), 0, "it let go");
        let took = election.until_led(Duration::from_secs(3)).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_ne!(election.holder(), leader);
        election.processes[number] = election.process(number);
    }
    let spec = &election.api.get(PATH).unwrap()["spec"];
    assert_eq!((&spec["leaseDurationSeconds"], &spec["leaseTransitions"]), (&json!(15), &json!(11)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_replaced_when_its_lease_has_ended() {
    let mut election = Election::of(2);
    election.until_led(Duration::from_secs(1)).await;
    let number: usize = election.holder().split('-').next().unwrap().parse().unwrap();
    election.processes[number].task.abort();
    (&mut election.processes[number].task).await.unwrap_err();
    let mut passed = Duration::ZERO;
    let leader = election.holder();
    while election.holder() == leader {
        assert!(passed < Duration::from_secs(20), "nobody took over");
        assert!(election.leaders() <= 1);
        tokio::time::sleep(STEP).await;
        passed += STEP;
    }
    // The process had renewed up to two seconds before it died.
    assert!(passed >= Duration::from_secs(13), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_reach_the_api_leads_no_longer_than_ten_seconds() {
    let election = Election::of(1);
    election.until_led(Duration::from_secs(1)).await;
    for verb in ["GET", "PUT"] {
        election.api.fail(verb, LEASE, 1_000, Answer::After(Duration::from_secs(3_600)));
    }
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(election.leaders(), 1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(election.leaders(), 0);
    election.api.heal();
    election.until_led(Duration::from_secs(20)).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_renews_without_reading_and_reads_what_somebody_else_wrote() {
    let election = Election::of(1);
    election.until_led(Duration::from_secs(1)).await;
    let calls = |verb: &str| {
        election.api.calls().iter().filter(|call| call.verb == verb && call.path == PATH).count()
    };
    let (read, written) = (calls("GET"), calls("PUT"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(calls("GET"), read);
    assert!((29..=31).contains(&(calls("PUT") - written)), "{} renewals a minute", calls("PUT") - written);
    election.api.change(PATH, |lease| lease["metadata"]["labels"] = json!({"seen": "yes"}));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((calls("GET"), election.leaders()), (read + 1, 1));
    let lease = election.api.get(PATH).unwrap();
    assert_eq!(lease["metadata"]["labels"]["seen"], "yes", "another's write is kept");
}

#[tokio::test(start_paused = true)]
async fn never_two_whatever_goes_wrong() {
    for seed in 0..12 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let election = Election::of(3);
        let (mut led, mut steps) = (0, 0);
        for _ in 0..400 {
            match rng.random_range(0..12) {
                0 => {
                    let verb = if rng.random_bool(0.5) { "GET" } else { "PUT" };
                    let answer = match rng.random_range(0..5) {
                        0 => Answer::Status(500, json!(null)),
                        1 => Answer::Status(409, json!(null)),
                        2 => Answer::Done(500),
                        3 => Answer::After(Duration::from_millis(rng.random_range(0..3_000))),
                        _ => Answer::After(Duration::from_secs(3_600)),
                    };
                    election.api.fail(verb, LEASE, rng.random_range(1..12), answer);
                }
                1 => election.api.heal(),
                // Somebody else writes the Lease.
                2 if election.api.get(PATH).is_some() => {
                    election.api.change(PATH, |lease| lease["metadata"]["labels"] = json!({"seen": "yes"}));
                }
                // This doesn't remove a Lease that was just made and that nobody has seen yet.
                3 if rng.random_bool(0.2) && election.leaders() == 1 && election.is_renewed() => {
                    election.api.remove(PATH);
                }
                4 | 5 => {
                    let process = &election.processes[rng.random_range(0..3)];
                    process.stopped.send_replace(rng.random_bool(0.4));
                }
                _ => {}
            }
            for _ in 0..rng.random_range(1..30) {
                tokio::time::sleep(STEP).await;
                let leaders = election.leaders();
                assert!(leaders <= 1, "{leaders} lead, seed {seed}");
                led += leaders;
                steps += 1;
            }
        }
        assert!(led * 4 > steps, "somebody led in {led} of {steps} steps only, seed {seed}");
        election.api.heal();
        election.processes.iter().for_each(|process| {
            process.stopped.send_replace(false);
        });
        tokio::time::sleep(Duration::from_secs(11)).await;
        election.until_led(Duration::from_secs(30)).await;
        for process in election.processes {
            process.task.abort();
        }
    }
}
