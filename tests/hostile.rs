//! Whoever can reach the webhook's port can't keep the API server out of it, nor fill its memory. Each attack goes on while a client that
//! behaves is answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tests::served::Webhook;

/// What the attacks may add to this process, which holds both sides of them.
const MOST_MIB: f64 = 160.0;
/// A review waits no longer than this, whatever goes on; the API server waits 5 s.
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

/// A client that behaves is answered soon, on a new connection if need be.
async fn is_served(webhook: &Webhook) {
    let begun = Instant::now();
    let answer = webhook.ask("/opt-in", "opt-in", |_| {}).await;
    assert_eq!(answer["allowed"], true);
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
}

fn target(webhook: &Webhook) -> (SocketAddr, Vec<u8>) {
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
    // With a handshake, too: these look like an API server that has nothing to ask.
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
    // 64 of nearly 8 MiB each would be half a gigabyte.
    let threads: Vec<_> = (0..64)
        .map(|_| {
            let whom = whom.clone();
            std::thread::spawn(move || {
                let mut stream = connect(&whom);
                let head = "POST /opt-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 8388608\r\n\r\n";
                stream.write_all(head.as_bytes()).ok();
                // What isn't read any more can't be sent; so this ends when the webhook gives the request up.
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
    // A handshake's record; and an alert (21), fatal (2), for a version that isn't spoken (70): the version is all that differs.
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
