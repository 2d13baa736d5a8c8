//! Debian's Chromium without a window, driven through its debugging pipe. It shows what a page
//! looks like and which errors it reports.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::run;
use crate::repository::root;

/// How long one answer may take. The first answer takes longest, on a machine that does other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// Chromium reads file 3 and writes file 4; here those are its input and output. Chromium has no
/// sandbox as root.
const START: &str = "exec timeout --kill-after=5 300 chromium --headless $( ((EUID)) || echo --no-sandbox) --disable-gpu --disable-dev-shm-usage \
     --remote-debugging-pipe --user-data-dir=\"$1\" about:blank 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// One page in a browser of its own. The browser ends with this value.
pub struct Browser {
    process: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    profile: PathBuf,
    session: Option<String>,
    calls: u64,
    /// The events that the browser sent without being asked.
    events: VecDeque<Value>,
}

impl Browser {
    /// Installs the browser if it is missing, and starts it.
    pub fn start() -> Self {
        run(Command::new(root().join("hack/cluster/packages.sh")).arg("chromium")).succeeds();
        let profile = std::env::temp_dir().join(format!("pure-chaos-browser-{}", std::process::id()));
        let mut process = Command::new("bash")
            .args(["-c", START, "browser"])
            .arg(&profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, messages) = channel();
        let output = process.stdout.take().unwrap();
        std::thread::spawn(move || read(output, &sender));
        let input = process.stdin.take().unwrap();
        let mut browser =
            Self { process, input, messages, profile, session: None, calls: 0, events: VecDeque::new() };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached =
            browser.call("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Sends a call and waits for the answer. Panics if the browser refuses.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut answer = self.next(method);
            if answer["id"] == id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.events.push_back(answer);
        }
    }

    /// Opens a page, and waits until the page has loaded completely.
    #[track_caller]
    pub fn open(&mut self, address: &str) {
        self.events.clear();
        let opened = self.call("Page.navigate", json!({"url": address}));
        assert!(opened.get("errorText").is_none(), "{address}: {opened}");
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.next("the page");
            self.events.push_back(event);
        }
    }

    /// Evaluates this expression, or function body, in the page. This also works in pages that may
    /// run no script, because the browser itself evaluates it.
    #[track_caller]
    pub fn look(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", parameters);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// What the browser has reported about the page since it was opened: errors and warnings of the
    /// console, and resources that failed to load.
    pub fn complaints(&self) -> Vec<&Value> {
        let is_complaint = |event: &&Value| {
            matches!(
                event["method"].as_str(),
                Some(
                    "Log.entryAdded"
                        | "Runtime.consoleAPICalled"
                        | "Runtime.exceptionThrown"
                        | "Network.loadingFailed"
                )
            )
        };
        self.events.iter().filter(is_complaint).collect()
    }

    #[track_caller]
    fn next(&self, what: &str) -> Value {
        self.messages.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{what}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends when its pipe closes. If it doesn't, `timeout` passes the signal on.
        let close = json!({"id": self.calls + 1, "method": "Browser.close"});
        self.input.write_all(format!("{close}\0").as_bytes()).ok();
        while self.messages.recv_timeout(Duration::from_secs(10)).is_ok() {}
        run(Command::new("kill").arg(self.process.id().to_string()));
        self.process.wait().ok();
        std::fs::remove_dir_all(&self.profile).ok();
    }
}

fn read(output: ChildStdout, messages: &Sender<Value>) {
    let mut output = BufReader::new(output);
    loop {
        let mut message = Vec::new();
        match output.read_until(0, &mut message) {
            Ok(length) if length > 0 => {}
            _ => return,
        }
        message.pop();
        let Ok(message) = serde_json::from_slice(&message) else { return };
        if messages.send(message).is_err() {
            return;
        }
    }
}
