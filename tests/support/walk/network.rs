//! The way from one process to the API and back. Calls can be late, fail, get no answer, or be
//! carried out after all.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Query;
use axum::http::{Request, Response, StatusCode, header};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::budgets::against_budget;
use super::faults::{Class, Fate, Watched};
use super::oracle::Seen;
use super::watches::OpenWatch;
use super::world::Shared;

/// The real client treats a connection as dead after this time without data.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// A process's way to the API.
#[derive(Clone)]
struct Wire {
    world: Shared,
    process: usize,
    /// Cancelled when the process has ended. Nothing of the process arrives after that.
    ended: CancellationToken,
}

/// A call as the API receives it.
#[derive(Debug, Clone)]
pub struct Ask {
    pub process: usize,
    pub verb: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub body: Value,
    pub class: Class,
    /// When the process sent the call.
    pub sent: Instant,
    /// What the process had seen by then.
    pub look: Seen,
}

/// An answer of the API: the code, the message and the details of Kubernetes' `Status`.
pub type Answer = (u16, String, Value);

/// A client for one process.
pub fn client(world: Shared, process: usize, ended: CancellationToken) -> kube::Client {
    let wire = Wire { world, process, ended };
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let wire = wire.clone();
        async move { wire.exchange(request).await }
    });
    kube::Client::new(service, "default")
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the connection broke")
}

impl Wire {
    async fn exchange(self, request: Request<kube::client::Body>) -> io::Result<Response<Body>> {
        if self.ended.is_cancelled() {
            return std::future::pending().await;
        }
        let (parts, body) = request.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX).await.map_err(io::Error::other)?;
        let Query(query) =
            Query::<BTreeMap<String, String>>::try_from_uri(&parts.uri).map_err(io::Error::other)?;
        let (verb, path) = (parts.method.to_string(), parts.uri.path().to_owned());
        let class = Class::of(&verb, &path);
        let look = {
            let world = self.world.lock().unwrap();
            world.oracle.look_of(&world.cluster, self.process)
        };
        let ask = Ask {
            process: self.process,
            class,
            query,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            sent: Instant::now(),
            look,
            verb,
            path,
        };
        if ask.query.get("watch").is_some_and(|watch| watch == "true") {
            return self.watch(ask).await;
        }
        let world = self.world.clone();
        let answer = self.answer(ask.clone()).await;
        world.lock().unwrap().returned(&ask);
        let answer = answer?;
        if let Some((code, message, details)) = answer.extensions().get::<Answer>() {
            world.lock().unwrap().answered(&ask, (*code, message, details));
        }
        Ok(answer)
    }

    async fn answer(self, ask: Ask) -> io::Result<Response<Body>> {
        let class = ask.class;
        let call = format!("{} {} {}", self.process, ask.verb, ask.path);
        let (delay, fate) = {
            let mut world = self.world.lock().unwrap();
            world.sent(&ask);
            let (delay, fate) = world.faults.of_call(class, &call, ask.sent);
            if fate.is_some() {
                world.oracle.hindered(self.process, ask.sent);
                if class == Class::Namespace {
                    world.oracle.unread.push(ask.sent);
                }
            }
            (delay, fate)
        };
        let mut away = delay;
        let mut back = delay / 2;
        match fate {
            Some(Fate::Status(code)) => {
                sleep(delay).await;
                return Ok(status((code, "the fault of a walk".to_owned(), Value::Null)));
            }
            Some(Fate::Budget) => {
                sleep(delay).await;
                return Ok(status(against_budget()));
            }
            Some(Fate::Broken) => {
                sleep(delay).await;
                return Err(broken());
            }
            Some(Fate::Slow(milliseconds)) => away = Duration::from_millis(milliseconds),
            Some(Fate::Late(milliseconds)) => back = Duration::from_millis(milliseconds),
            Some(Fate::Early(milliseconds)) => away = Duration::from_millis(milliseconds),
            Some(Fate::Crash { sent }) => {
                let wire = self.clone();
                if class == Class::Kill {
                    // Such a request may be carried out when another process leads already.
                    away = delay * 2_000;
                }
                if sent {
                    drop(tokio::spawn(async move {
                        sleep(away).await;
                        wire.deed(ask).await
                    }));
                }
                self.world.lock().unwrap().crash(self.process);
                return std::future::pending().await;
            }
            Some(Fate::Term) => self.world.lock().unwrap().term(self.process),
            Some(Fate::Lost | Fate::Silent) | None => {}
        }
        let is_read = ask.verb == "GET";
        let wire = self.clone();
        let deed = async move {
            sleep(away).await;
            wire.deed(ask).await
        };
        // A call that was sent is carried out, even if nobody waits for the answer any more.
        let answer = if is_read {
            deed.await
        } else {
            let deed = tokio::spawn(deed);
            if let Some(Fate::Early(milliseconds)) = fate {
                sleep(delay).await;
                return if milliseconds.is_multiple_of(2) {
                    Err(broken())
                } else {
                    Ok(status((500, "it broke".to_owned(), Value::Null)))
                };
            }
            deed.await.map_err(io::Error::other)?
        };
        match fate {
            Some(Fate::Lost) => return Err(broken()),
            Some(Fate::Silent) => {
                sleep(READ_TIMEOUT).await;
                return Err(broken());
            }
            _ => {}
        }
        sleep(back).await;
        Ok(answer)
    }

    /// Carries out the call. Nothing else happens meanwhile, because this function never waits.
    async fn deed(&self, ask: Ask) -> Response<Body> {
        let refused = {
            let mut world = self.world.lock().unwrap();
            match ask.class {
                Class::Kill => Some(world.kill(&ask)),
                _ => world.check(&ask).err(),
            }
        };
        if let Some(refused) = refused {
            return status(refused);
        }
        let before = self.world.lock().unwrap().before(&ask);
        let answer = self.ask_inner(&ask).await;
        self.world.lock().unwrap().done(&ask, before, answer.status().as_u16());
        answer
    }

    async fn ask_inner(&self, ask: &Ask) -> Response<Body> {
        let api = self.world.lock().unwrap().cluster.api.clone();
        api.answer(&ask.verb, &ask.path, &ask.query, &ask.body).await
    }

    async fn watch(self, ask: Ask) -> io::Result<Response<Body>> {
        let watched = Watched::of(&ask.path);
        let (delay, _) = {
            let mut world = self.world.lock().unwrap();
            world.faults.of_call(Class::Other, &format!("{} watch {}", self.process, ask.path), ask.sent)
        };
        sleep(delay).await;
        let refused = {
            let mut world = self.world.lock().unwrap();
            let may = world.check(&ask).err();
            let faults = world.faults.watch(watched);
            let refused = faults.refused.filter(|(_, until)| *until > Instant::now()).map(|(code, _)| code);
            let expired = faults.expired > 0;
            faults.expired = faults.expired.saturating_sub(1);
            let refused = refused.or(expired.then_some(410));
            may.or(refused.map(|code| (code, "the watch's fault of a walk".to_owned(), Value::Null)))
        };
        if let Some(refused) = refused {
            return Ok(status(refused));
        }
        let inner = self.ask_inner(&ask).await.into_body().into_data_stream();
        let open = {
            let world = self.world.lock().unwrap();
            let namespace = world.cluster.namespace_of(&ask.path).filter(|_| watched == Watched::Pods);
            namespace.map(|namespace| world.oracle.watches.begin(self.process, namespace))
        };
        let breaks = self.world.lock().unwrap().faults.watch(watched).breaks;
        let shown = Shown {
            _open: open,
            wire: self,
            watched,
            breaks,
            inner: Some(Box::pin(inner)),
            queue: VecDeque::new(),
        };
        let events = futures::stream::unfold(Some(shown), |shown| async move {
            let mut shown = shown?;
            match shown.next().await? {
                Ok(bytes) => Some((Ok(bytes), Some(shown))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Response::new(Body::from_stream(events)))
    }
}

/// A watch that is open.
struct Shown {
    _open: Option<OpenWatch>,
    wire: Wire,
    watched: Watched,
    breaks: u64,
    inner: Option<BoxStream<'static, Result<Bytes, axum::Error>>>,
    queue: VecDeque<(Instant, Bytes)>,
}

impl Shown {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if self.wire.ended.is_cancelled() {
                return std::future::pending().await;
            }
            let changed = self.wire.world.lock().unwrap().faults_changed.clone();
            let changed = changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = Instant::now();
            let deaf = {
                let mut world = self.wire.world.lock().unwrap();
                let faults = world.faults.watch(self.watched);
                if faults.breaks != self.breaks {
                    return Some(Err(broken()));
                }
                faults.deaf
            };
            match deaf {
                // A watch that began meanwhile is silent too, but the one after it is not. All silent
                // watches break.
                Some(until) if until <= now => {
                    let mut world = self.wire.world.lock().unwrap();
                    let faults = world.faults.watch(self.watched);
                    (faults.deaf, faults.breaks) = (None, faults.breaks + 1);
                    return Some(Err(broken()));
                }
                Some(until) => {
                    tokio::select! { biased; () = changed => {} () = sleep_until(until) => {} }
                    continue;
                }
                None => {}
            }
            if let Some((_, bytes)) = self.queue.pop_front_if(|(due, _)| *due <= now) {
                return Some(Ok(bytes));
            }
            let due = self.queue.front().map(|(due, _)| *due);
            if self.inner.is_none() && due.is_none() {
                return None;
            }
            let inner = async {
                match &mut self.inner {
                    Some(inner) => inner.next().await,
                    None => std::future::pending().await,
                }
            };
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                () = changed => continue,
                () = wait => continue,
                event = inner => event,
            };
            match event {
                Some(Ok(event)) => self.enter(event),
                Some(Err(_)) | None => self.inner = None,
            }
        }
    }

    fn enter(&mut self, event: Bytes) {
        let now = Instant::now();
        let mut world = self.wire.world.lock().unwrap();
        let faults = world.faults.watch(self.watched);
        if faults.lose > 0 {
            faults.lose -= 1;
            return;
        }
        let late = faults.late.filter(|(_, until)| *until > now).map_or(Duration::ZERO, |(late, _)| late);
        let times = if faults.double > 0 { 2 } else { 1 };
        faults.double = faults.double.saturating_sub(1);
        let due = self.queue.back().map_or(now, |(due, _)| *due).max(now + late);
        for _ in 0..times {
            self.queue.push_back((due, event.clone()));
        }
    }
}

/// Kubernetes' `Status` as an answer.
fn status(answer: Answer) -> Response<Body> {
    let (code, message, details) = &answer;
    let (status, reason) = match *code {
        200 => ("Success", ""),
        404 => ("Failure", "NotFound"),
        409 => ("Failure", "Conflict"),
        410 => ("Failure", "Expired"),
        _ => ("Failure", "Test"),
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status,
        "message": message, "reason": reason, "details": details, "code": code,
    });
    let response = Response::builder().status(StatusCode::from_u16(*code).unwrap());
    let response = response.header(header::CONTENT_TYPE, "application/json");
    response.extension(answer).body(Body::from(body.to_string())).unwrap()
}
