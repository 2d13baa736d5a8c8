//! Clients that can reach the webhook's port can neither keep the API server out of it nor fill its
//! memory. During each attack the webhook answers a client that behaves. Attacks on a replica's
//! memory hit the real process, in a cgroup of the manifest's size if the machine allows one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tests::cgroup::Cgroup;
use tests::fake_api::Api;
use tests::process::{Ready, WebhookProcess, folder, get, kubeconfig_of};
use tests::repository::read;
use tests::served::{CONFIGURATION, Caller, Webhook, certificate, configuration, keys, path};

/// What the attacks may add to this process, which holds both sides of each connection.
const MOST_MIB: f64 = 160.0;
/// No review may wait longer than this, whatever happens. The API server waits 5 s.
const SOON: Duration = Duration::from_secs(3);

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(webhook: &(SocketAddr, Vec<u8>)) -> Tls {
    let (address, ca) = webhook;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.clone())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    StreamOwned::new(client, socket)
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
}

/// Asserts that a client that behaves gets its answer soon, on a new connection if necessary.
async fn is_served(webhook: &Caller) {
    let begun = Instant::now();
    let answer = webhook.ask("opt-in", "opt-in", |_| {}).await;
    assert_eq!(answer["allowed"], true);
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
}

fn target(webhook: &Caller) -> (SocketAddr, Vec<u8>) {
    (webhook.address, webhook.ca.clone())
}

async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_connections_keep_nobody_out() {
    let webhook = Webhook::start().await;
    is_served(&webhook).await;
    let before = resident_mib();
    let address = webhook.address;
    let idle =
        in_background(move || (0..1_000).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>())
            .await;
    is_served(&webhook).await;
    // These clients also finish the handshake, so they look like an API server that has nothing to
    // ask.
    let whom = target(&webhook);
    let shaken = in_background(move || {
        let hands = (0..600).map(|_| {
            let mut stream = connect(&whom);
            stream.write_all(b"").ok();
            stream.flush().ok();
            stream
        });
        hands.collect::<Vec<_>>()
    })
    .await;
    is_served(&webhook).await;
    assert!(resident_mib() - before < MOST_MIB, "{before} MiB became {}", resident_mib());
    assert_eq!((idle.len(), shaken.len()), (1_000, 600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_never_end_keep_nobody_out() {
    let webhook = Webhook::start().await;
    let whom = target(&webhook);
    let slow = in_background(move || {
        let mut slow: Vec<Tls> = (0..600).map(|_| connect(&whom)).collect();
        for stream in &mut slow {
            stream.write_all(b"POST /opt-in HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").ok();
        }
        for _ in 0..3 {
            for stream in &mut slow {
                stream.write_all(b"z").ok();
            }
        }
        slow
    })
    .await;
    is_served(&webhook).await;
    assert_eq!(slow.len(), 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_never_end_are_cut_off_and_fit_into_memory() {
    let webhook = Webhook::start().await;
    is_served(&webhook).await;
    let before = resident_mib();
    let whom = target(&webhook);
    // 64 bodies of nearly 8 MiB each would be half a gigabyte.
    let threads: Vec<_> = (0..64)
        .map(|_| {
            let whom = whom.clone();
            std::thread::spawn(move || {
                let mut stream = connect(&whom);
                let head = format!(
                    "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 8388608\r\n\r\n",
                    path("opt-in")
                );
                stream.write_all(head.as_bytes()).ok();
                // A client can't send what the webhook no longer reads. So this ends when the
                // webhook gives the request up.
                let part = vec![b' '; 32 * 1024];
                for _ in 0..255 {
                    if stream.write_all(&part).is_err() {
                        break;
                    }
                }
                let mut answer = Vec::new();
                let mut buffer = [0; 1024];
                if let Ok(read) = stream.read(&mut buffer) {
                    answer.extend_from_slice(&buffer[..read]);
                }
                String::from_utf8_lossy(&answer).into_owned()
            })
        })
        .collect();
    let mut most = 0.0_f64;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        is_served(&webhook).await;
        most = most.max(resident_mib());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(most - before < MOST_MIB, "{before} MiB became {most}");
    let answers =
        in_background(|| threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()).await;
    let cut = answers.iter().filter(|answer| answer.is_empty() || answer.starts_with("HTTP/1.1 504")).count();
    assert_eq!(cut, answers.len(), "{answers:?}");
    is_served(&webhook).await;
}

/// A ClientHello of TLS 1.`minor - 1`, with one cipher suite, signature algorithm and group.
fn hello(minor: u8) -> Vec<u8> {
    let extensions =
        [&[0, 0x0d, 0, 4, 0, 2, 4, 3][..], &[0, 0x0a, 0, 4, 0, 2, 0, 0x1d], &[0, 0x0b, 0, 2, 1, 0]].concat();
    let body = [&[3, minor][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 22], &extensions].concat();
    let message = [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    [&[0x16, 3, 1, 0, u8::try_from(message.len()).unwrap()][..], &message].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_tls_and_garbage_are_turned_away() {
    let webhook = Webhook::start().await;
    let address = webhook.address;
    let answers = in_background(move || {
        let old = hello(2);
        let plain = b"POST /opt-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}".to_vec();
        [hello(3), old, plain, vec![0xff; 4_096]].map(|bytes| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.write_all(&bytes).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).ok();
            answer
        })
    })
    .await;
    // The first answer is a handshake record. The second is a fatal (2) alert (21) for a version
    // that the webhook doesn't speak (70). The two requests differ only in the version.
    assert_eq!(answers[0].first(), Some(&22), "{:?}", answers[0]);
    assert_eq!(
        (answers[1].first(), answers[1].get(5..7)),
        (Some(&21), Some(&[2, 70][..])),
        "{:?}",
        answers[1]
    );
    for answer in &answers {
        assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(answer));
    }
    is_served(&webhook).await;
}

/// The memory limit of the webhook's container, in MiB.
fn limit_mib() -> u64 {
    let manifest = read("manifests/base/webhook.yaml");
    let limits = manifest.split("limits:\n").nth(1).unwrap();
    let memory = limits.lines().find_map(|line| line.trim().strip_prefix("memory: ")).unwrap();
    memory.strip_suffix("Mi").unwrap().parse().unwrap()
}

/// A webhook's process with its container's memory limit, and a client that calls it.
struct Confined {
    ready: Ready,
    caller: Caller,
    /// The cgroup ends after the process.
    _cgroup: Option<Cgroup>,
}

impl Confined {
    async fn start(name: &str) -> Self {
        runtime::process::install_tls_provider().ok();
        let work = folder(name);
        let (pem, key, ca) = certificate();
        std::fs::write(work.join("tls.crt"), pem).unwrap();
        std::fs::write(work.join("tls.key"), key).unwrap();
        std::fs::write(work.join(certs::path::segment::KEYS), keys().text()).unwrap();
        let api = Api::default();
        api.put("/api/v1/namespaces/pure-chaos", json!({"metadata": {"name": "pure-chaos", "uid": "s"}}));
        api.put(CONFIGURATION, configuration());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        std::fs::write(work.join("kubeconfig"), kubeconfig_of(listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, api.router()).await.unwrap() });
        let cgroup = Cgroup::with_memory(limit_mib() << 20).inspect_err(|why| {
            println!("SKIPPED (no cgroup: {why}): that the kernel ends who takes too much")
        });
        let cgroup = cgroup.ok();
        let (ready, cgroup) = in_background(move || {
            let program = Path::new(env!("CARGO_BIN_EXE_webhook-process"));
            let policy = "requirePodDelete: false\n";
            let ready = WebhookProcess { program, work: &work, policy, cgroup: cgroup.as_ref() }.start();
            (ready, cgroup)
        })
        .await;
        let caller = Caller::new(ready.address, ca);
        // The webhook refuses opt-ins until it has seen for a while that its configuration is
        // unchanged.
        let begun = Instant::now();
        while caller.ask("opt-in", "opt-in", |_| {}).await["allowed"] != true {
            assert!(begun.elapsed() < Duration::from_secs(30), "it never allows an opt-in");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self { caller, ready, _cgroup: cgroup }
    }

    /// Runs all attacks at once while the webhook serves others. Returns the result of each attack,
    /// and the most memory in MiB that the test saw.
    async fn during<T: Send + 'static>(
        &mut self,
        attacks: Vec<impl FnOnce() -> T + Send + 'static>,
    ) -> (Vec<T>, f64) {
        let is_over = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = attacks.into_iter().map(std::thread::spawn).collect();
        let over = Arc::clone(&is_over);
        let attacking = in_background(move || {
            let met = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            over.store(true, Ordering::Relaxed);
            met
        });
        let metrics = self.ready.metrics;
        let (caller, running) = (&self.caller, &self.ready.running);
        let watching = async {
            let mut most = 0.0_f64;
            loop {
                is_served(caller).await;
                let begun = Instant::now();
                // A connection may be given up for another one; a scraper then tries again.
                let text = loop {
                    let answer = in_background(move || get(metrics, "/metrics")).await;
                    assert!(begun.elapsed() < SOON, "its metrics took {:?}", begun.elapsed());
                    if let Some(text) = answer {
                        break text;
                    }
                };
                assert!(text.contains("pure_chaos_admissions_total"), "{text}");
                most = most.max(running.resident_mib().1);
                if is_over.load(Ordering::Relaxed) {
                    return most;
                }
            }
        };
        let (met, most) = tokio::join!(attacking, watching);
        assert!(self.ready.running.0.try_wait().unwrap().is_none(), "it has ended");
        assert!(most < limit_mib() as f64, "{most} MiB");
        (met, most)
    }
}

/// Sends one review, and returns the first line of the answer.
fn post(webhook: &(SocketAddr, Vec<u8>), body: &[u8]) -> String {
    let mut stream = connect(webhook);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        path("opt-in"),
        body.len()
    );
    let mut answer = [0; 64];
    let sent =
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
    let read = sent.and_then(|()| stream.read(&mut answer)).unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
}

/// The recorded opt-in with 8 MiB of `part`, joined with commas, at this place.
fn filled(place: &str, (open, part, close): (&str, &str, &str)) -> Vec<u8> {
    let mut review: Value = serde_json::from_str(&read("tests/data/opt-in.json")).unwrap();
    *review.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = json!("HERE");
    let review = review.to_string();
    let (before, after) = review.split_once("\"HERE\"").unwrap();
    let room = (8 << 20) - before.len() - after.len() - open.len() - close.len();
    let filling = match part {
        // One text of any length.
        "x" | "\u{80}" => part.repeat(room / part.len()),
        // Each part is a key of its own.
        _ if part.contains('#') => {
            let parts = (0..room / (part.len() + 7)).map(|number| part.replace('#', &format!("{number:07}")));
            parts.collect::<Vec<_>>().join(",")
        }
        _ => vec![part; room / (part.len() + 1)].join(","),
    };
    [before, open, &filling, close, after].concat().into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_shape_of_a_review_ends_a_replica() {
    let mut webhook = Confined::start("hostile-reviews").await;
    for (place, filling) in [
        ("/request/object/metadata/managedFields", ("[", "{}", "]")),
        (
            "/request/object/metadata/managedFields",
            ("[", r#"{"fieldsV1":{"f:metadata":{"f:annotations":{"f:chaos":{}}}}}"#, "]"),
        ),
        ("/request/object/metadata/annotations", ("{", r##""purechaos.dev/#":"""##, "}")),
        ("/request/object/metadata/annotations", ("{\"purechaos.dev/targets\":\"", "x", "\"}")),
        ("/request/userInfo/groups", ("[", r#""""#, "]")),
        ("/request/userInfo/groups", ("{\"not\":\"", "x", "\"}")),
        ("/request/userInfo/username", ("\"", "x", "\"")),
        ("/request/userInfo", ("{\"extra\":{", r##""#":[]"##, "}}")),
        ("/request/userInfo", ("{\"extra\":{\"a\":[", r#""""#, "]}}")),
        ("/request/dryRun", ("\"", "\u{80}", "\"")),
        ("/request/operation", ("\"", "x", "\"")),
        ("/request/object/metadata", ("[", "[]", "]")),
    ] {
        let body = Arc::new(filled(place, filling));
        let whom = target(&webhook.caller);
        let attack = || {
            let (whom, body) = (whom.clone(), Arc::clone(&body));
            move || post(&whom, &body)
        };
        let begun = Instant::now();
        let (answers, most) = webhook.during(vec![attack(), attack(), attack(), attack()]).await;
        println!("{place} {}: {answers:?}, {most:.0} MiB, {:?}", filling.1, begun.elapsed());
        // The webhook denies the review, or gives it up when its time is over. A client that is
        // still sending may see that only as the end of the connection.
        let is_given_up = |line: &String| line.is_empty() || line.starts_with("HTTP/1.1 504");
        let is_denied = |line: &String| line == "HTTP/1.1 200 OK";
        assert!(answers.iter().all(|line| is_given_up(line) || is_denied(line)), "{place}: {answers:?}");
        assert!(answers.iter().any(is_denied), "{place}: {answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_never_end_do_not_fill_a_replica_through_its_metrics() {
    let mut webhook = Confined::start("hostile-metrics").await;
    let metrics = webhook.ready.metrics;
    let attack = || {
        move || {
            let mut stream = TcpStream::connect(metrics).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let part = [b"X-Long: ", &[b'z'; 1_000][..], b"\r\n"].concat();
            let head = [&b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"[..], &part.repeat(360)].concat();
            let sent = stream.write_all(&head);
            // A client that doesn't stop gets an answer or is cut off: the read ends or fails.
            let mut answer = [0; 64];
            let end = sent.and_then(|()| stream.read(&mut answer));
            !end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        }
    };
    let (are_cut_off, most) = webhook.during((0..400).map(|_| attack()).collect()).await;
    println!("{most:.0} MiB");
    assert_eq!(are_cut_off.iter().filter(|is| **is).count(), 400);
    assert!(most < limit_mib() as f64 / 2.0, "{most} MiB");
    // Silent connections give way to a client that asks.
    let silent: Vec<_> = (0..400).map(|_| TcpStream::connect(metrics).unwrap()).collect();
    webhook.during(vec![|| ()]).await;
    drop(silent);
}
