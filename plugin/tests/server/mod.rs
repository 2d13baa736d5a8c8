//! An API server that answers what it is told to, and the plugin as people start it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// One request, as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub line: String,
    pub headers: Vec<String>,
    pub body: Value,
}

/// What is answered to a request; nothing at all where the code is 0.
#[derive(Clone)]
pub struct Answer {
    pub code: u16,
    pub date: Option<&'static str>,
    pub warning: Option<&'static str>,
    pub body: String,
}

impl Answer {
    pub fn namespace(annotations: &Value) -> Self {
        let metadata = json!({"name": "a", "annotations": annotations});
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}).to_string();
        Self { code: 200, date: None, warning: None, body }
    }

    pub fn status(code: u16, reason: &str, message: &str) -> Self {
        let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message});
        Self { code, date: None, warning: None, body: status.to_string() }
    }
}

/// An API server on a port of its own, and the kubeconfig that leads there.
pub struct Server {
    pub requests: Arc<Mutex<Vec<Request>>>,
    pub address: SocketAddr,
    pub kubeconfig: PathBuf,
}

impl Server {
    pub fn start(answer: Answer) -> Self {
        Self::answering(move |_| answer.clone())
    }

    pub fn answering(answer: impl Fn(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &answer, &noted);
            }
        });
        let kubeconfig = write_kubeconfig(address);
        Self { requests, address, kubeconfig }
    }

    pub fn only_request(&self) -> Request {
        let requests = self.requests.lock().unwrap();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }

    /// The one that would change something.
    pub fn only_change(&self) -> Request {
        let requests = self.requests.lock().unwrap();
        let changes: Vec<_> = requests.iter().filter(|request| !request.line.starts_with("GET ")).collect();
        assert_eq!(changes.len(), 1, "{requests:?}");
        changes[0].clone()
    }

    pub fn chaos(&self, line: &[&str]) -> Ended {
        run(Command::new(env!("CARGO_BIN_EXE_kubectl-chaos")).args(line).env("KUBECONFIG", &self.kubeconfig))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.kubeconfig);
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&Request) -> Answer, noted: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    // A connection that was opened and not used.
    if head.is_empty() {
        return;
    }
    let line = head.remove(0);
    let length =
        head.iter().find_map(|header| header.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let request = Request { line, headers: head, body };
    let Answer { code, date, warning, body } = answer(&request);
    noted.lock().unwrap().push(request);
    if code == 0 {
        return;
    }
    let warning = warning.map_or_else(String::new, |text| format!("warning: 299 - \"{text}\"\r\n"));
    let date = date.map_or_else(String::new, |text| format!("date: {text}\r\n"));
    write!(
        stream,
        "HTTP/1.1 {code} .\r\ncontent-type: application/json\r\n{date}{warning}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
}

/// Contexts `mara`, the current one, and `kim`, both of namespace `b`.
fn write_kubeconfig(address: SocketAddr) -> PathBuf {
    let named = |field: &str, name: &str, value: Value| json!({"name": name, field: value});
    let people = ["mara", "kim"];
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "mara",
        "clusters": [named("cluster", "c", json!({"server": format!("http://{address}")}))],
        "users": people.map(|name| named("user", name, json!({"token": format!("token-of-{name}")}))),
        "contexts": people.map(|name| named("context", name, json!({"cluster": "c", "user": name, "namespace": "b"}))),
    });
    let file =
        std::env::temp_dir().join(format!("kubectl-chaos-{}-{}.json", std::process::id(), address.port()));
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

#[derive(Debug, PartialEq)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub error: String,
}

pub fn run(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), error: text(output.stderr) }
}
