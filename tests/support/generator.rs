//! A load generator for one server over TLS with keep-alive. Its threads send the same request over
//! and over, and cost so little that the test measures the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The server, and the request.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The CA of the server's certificate, which is for `localhost`.
    pub ca: CertificateDer<'static>,
    /// The path of the request.
    pub path: String,
    /// The body of the request.
    pub body: Arc<Vec<u8>>,
}

/// The result of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The number of answers with status 200.
    pub answers: u64,
    /// How long the load took in all.
    pub took: Duration,
    /// The latency of each answer, in ascending order. Empty unless a rate was asked for.
    pub latencies: Vec<Duration>,
}

impl Outcome {
    /// Answers a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.took.as_secs_f64()
    }

    /// The latency that this share of the answers, 0 to 1, did not exceed, in milliseconds.
    #[must_use]
    pub fn milliseconds(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3
    }
}

impl Target {
    /// Sends as many requests as possible over this many connections, until `count` are answered.
    #[must_use]
    pub fn saturate(&self, connections: usize, count: u64) -> Outcome {
        self.drive(connections, count, None)
    }

    /// Sends `rate` requests a second for this long. If a slow answer delays a request, its latency
    /// counts from when it was due, so a slow server is also charged for the requests that it held
    /// up.
    #[must_use]
    pub fn steady(&self, connections: usize, rate: u32, time: Duration) -> Outcome {
        self.drive(connections, u64::from(rate) * time.as_secs(), Some(rate))
    }

    fn drive(&self, connections: usize, count: u64, rate: Option<u32>) -> Outcome {
        let next = Arc::new(AtomicU64::new(0));
        let begun = Instant::now() + Duration::from_millis(50);
        let threads: Vec<_> = (0..connections)
            .map(|_| {
                let (target, next) = (self.clone(), Arc::clone(&next));
                std::thread::spawn(move || target.work(&next, count, rate, begun))
            })
            .collect();
        let mut latencies: Vec<Duration> = Vec::new();
        let mut answers = 0;
        for thread in threads {
            let (answered, of_thread) = thread.join().unwrap();
            answers += answered;
            latencies.extend(of_thread);
        }
        latencies.sort_unstable();
        Outcome { answers, took: begun.elapsed(), latencies }
    }

    fn work(&self, next: &AtomicU64, count: u64, rate: Option<u32>, begun: Instant) -> (u64, Vec<Duration>) {
        let mut connection = Connection::open(self);
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.path,
            self.body.len()
        );
        let request = [head.as_bytes(), &self.body].concat();
        let (mut answers, mut latencies) = (0, Vec::new());
        std::thread::sleep(begun.saturating_duration_since(Instant::now()));
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return (answers, latencies);
            }
            let mut start = Instant::now();
            if let Some(rate) = rate {
                let due = begun + Duration::from_secs_f64(number as f64 / f64::from(rate));
                if start < due {
                    // If a sleep takes longer than asked for, this machine is the cause and not the
                    // server.
                    std::thread::sleep(due - start);
                    start = Instant::now();
                } else {
                    start = due;
                }
            }
            connection.ask(&request);
            answers += 1;
            if rate.is_some() {
                latencies.push(start.elapsed());
            }
        }
    }
}

struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(target: &Target) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(target.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(target.address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { stream: StreamOwned::new(client, socket), buffer: vec![0; 64 * 1024] }
    }

    /// Sends a request and reads its answer, which must have status 200 and a length.
    fn ask(&mut self, request: &[u8]) {
        self.stream.write_all(request).unwrap();
        self.stream.flush().unwrap();
        let mut filled = 0;
        loop {
            filled += self.stream.read(&mut self.buffer[filled..]).unwrap();
            let read = &self.buffer[..filled];
            let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&read[..end]).unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{}", String::from_utf8_lossy(read));
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
                })
                .expect("an answer with a length");
            if filled >= end + 4 + length {
                return;
            }
        }
    }
}
