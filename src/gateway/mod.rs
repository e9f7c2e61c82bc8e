//! The call, top to bottom: find the service, admit the caller, route, attempt, answer.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Caller;
use crate::directory::{Bounds, Directory, Entry, Unavailable, View};
use crate::error::CallError;
use crate::explain::Memory;
use crate::limits::Part;
use crate::model::Policy;
use crate::names::ServiceName;
use crate::telemetry::{Line, Repeats, Telemetry};
use crate::upstream::{Budget, Upstream};

mod adapt;
mod admit;
mod answer;
mod attempt;
mod beside;
mod call;
mod end;
mod headers;
mod hedge;
mod judge;
mod key;
mod line;
mod params;
mod record;
mod route;
mod story;
mod traced;
mod tried;
mod visited;

pub use adapt::Answer;
pub use attempt::broken_body;
pub use call::{Arrival, Call, Target, Voice, peek};
pub use end::{End, unless_up};
pub use headers::asked_patience;
pub use record::{Ending, Record};

/// The service of a message that is still coming is looked for so long: then it counts as none until it is there.
const FOUND_WITHIN: Duration = Duration::from_secs(1);

/// What a worker needs to carry calls; each worker has its own.
#[derive(Debug)]
pub struct Worker {
    /// The view all workers share.
    pub directory: Arc<Directory>,
    /// Instruments all workers share.
    pub telemetry: Telemetry,
    /// This worker's connections to peers.
    pub upstream: Arc<Upstream>,
    /// This host's name, as a URL may call the listener.
    pub host: String,
    /// Who the PHP on this host is,
    pub host_caller: Option<Caller>,
    /// and its key as the registry has it.
    host_key: Option<[u8; 32]>,
    /// Room for bodies that are converted; all workers share it.
    pub buffers: Arc<Budget>,
    /// Stories of calls; all workers share them.
    pub memory: Arc<Memory>,
    /// Callers that may ask for the story of their calls.
    pub askers: Arc<[String]>,
    /// Rules where no service is known yet.
    pub defaults: Policy,
    /// Of the drain; all workers share it.
    pub end: Arc<End>,
    /// Errors this worker has just logged.
    pub repeats: Repeats,
    view: Mutex<View>,
}

/// What all workers have alike.
#[derive(Debug, Clone)]
pub struct Means {
    /// This host's name.
    pub host: String,
    /// Who the PHP on this host is.
    pub host_caller: Option<Caller>,
    /// Rules where no service is known yet.
    pub defaults: Policy,
    /// Room for bodies that are converted.
    pub buffers: Arc<Budget>,
    /// Stories of calls.
    pub memory: Arc<Memory>,
    /// Callers that may ask for the story of their calls.
    pub askers: Arc<[String]>,
    /// Of the drain.
    pub end: Arc<End>,
}

/// How a call went; the record is written when the answer has left, or is dropped.
#[derive(Debug)]
pub struct Handled {
    /// How the caller wants to be answered.
    pub voice: Voice,
    /// The answer or why there is none.
    pub result: Result<Answer, CallError>,
    /// What is counted and logged.
    pub record: Box<Record>,
}

/// Carries one call.
pub async fn handle(worker: &Arc<Worker>, call: Call) -> Handled {
    handle_unless(|| false, worker, call).await
}

/// Carries one call; where `is_up` says so while it waits, it is given up and its caller told so.
pub async fn handle_unless(is_up: impl Fn() -> bool, worker: &Arc<Worker>, call: Call) -> Handled {
    let mut record = Box::new(Record::new(worker.clone(), &call));
    let mut voice = Voice::Http;
    let result = unless_up(is_up, pin!(carry(worker, call, &mut voice, &mut record))).await;
    record.decided(&voice, result.as_ref().err());
    Handled { voice, result, record }
}

/// Counts and logs a request that names no call, whose caller gets `status` and so many bytes of body; 0 is nothing.
pub fn refuse(worker: &Worker, error: &CallError, (status, bytes): (u16, u64), started: Instant) {
    let (now, outcome) = (Instant::now(), error.outcome());
    worker.telemetry.bad("", "", outcome);
    if matches!(error, CallError::Drained) {
        worker.end.takes();
    }
    let told = worker.telemetry.tells(&worker.repeats, "", (outcome, error.verdict().status), now);
    let line = Line {
        caller: None,
        service: "",
        api: "",
        wire: "http",
        provider: None,
        status,
        outcome,
        detail: Some(&error.to_string()),
        attempts: 0,
        panic: None,
        took: now.saturating_duration_since(started),
        bytes,
        id: None,
        trace: None,
    };
    line.write(told);
}

async fn carry(
    worker: &Worker,
    call: Call,
    voice: &mut Voice,
    record: &mut Record,
) -> Result<Answer, CallError> {
    let seen = worker.view().get(&worker.directory, &call.target.service);
    let found = match seen {
        Some(entry) => Ok(entry),
        None => Box::pin(worker.find(&call)).await,
    };
    let call = match call.unread() {
        ControlFlow::Break(call) => call?,
        ControlFlow::Continue(call) => {
            let bounds = worker.bounds_of(found.as_ref().ok(), &call.target);
            let part = found.as_ref().map_or(worker.buffers.strays(), |entry| &entry.part);
            // boxed, as all that few calls do: the future of every call has room for the largest of its parts
            Box::pin(call.read((bounds.max_body, part), bounds.timeout, voice, record)).await?
        }
    };
    let entry = found?;
    let caller = admit::identify(worker, &entry, &call, record)?;
    let plan = route::plan(&entry, &caller, &call, record).await?;
    record.enter(&entry, &plan).await?;
    attempt::attempt_all(worker, &plan, call, record).await
}

impl Worker {
    /// A worker without connections yet.
    pub fn new(directory: Arc<Directory>, telemetry: Telemetry, means: Means) -> Arc<Self> {
        let Means { host, host_caller, defaults, buffers, memory, askers, end } = means;
        let host_key = host_caller.as_ref().and_then(|own| own.key.as_deref());
        Arc::new(Self {
            directory,
            telemetry,
            upstream: Upstream::new(),
            host,
            host_key: host_key.map(|key| admit::hashed(key.as_bytes())),
            host_caller,
            buffers,
            memory,
            askers,
            end,
            defaults,
            repeats: Repeats::default(),
            view: Mutex::default(),
        })
    }

    /// The largest payload a raw Yar message to `target` may have, in bytes.
    pub async fn max_payload(&self, target: &Target) -> u64 {
        let found = self.entry(&target.service, self.defaults.timeout).await;
        found.map_or(self.defaults.max_body, |entry| entry.bounds(&target.api).max_body)
    }

    /// What a call to `target` may be at most, while it comes; looked for no longer than its caller waits.
    pub async fn bounds(&self, target: &Target, asked: Option<Duration>) -> Bounds {
        let seen = self.view().get(&self.directory, &target.service);
        let patience = self.defaults.timeout.min(FOUND_WITHIN).min(asked.unwrap_or(Duration::MAX));
        let found = match seen {
            Some(entry) => Some(entry),
            None => Box::pin(self.load(&target.service, patience)).await.ok(),
        };
        self.bounds_of(found.as_ref(), target)
    }

    fn bounds_of(&self, found: Option<&Arc<Entry>>, target: &Target) -> Bounds {
        let own = found.map_or_else(|| (&self.defaults).into(), |entry| entry.bounds(&target.api));
        Bounds { timeout: own.timeout.min(self.defaults.timeout), ..own }
    }

    /// Whose part of the room for bodies a raw Yar message to `target` takes while it comes.
    pub async fn part(&self, target: &Target) -> Arc<Part> {
        let found = self.entry(&target.service, self.defaults.timeout.min(FOUND_WITHIN)).await;
        found.map_or_else(|_| self.buffers.strays().clone(), |entry| entry.part.clone())
    }

    /// The entry of a service, whether this worker has seen it or not.
    async fn entry(&self, named: &str, patience: Duration) -> Result<Arc<Entry>, CallError> {
        let seen = self.view().get(&self.directory, named);
        match seen {
            Some(entry) => Ok(entry),
            None => self.load(named, patience).await,
        }
    }

    /// A service that this worker has not seen, or not since the view changed.
    async fn find(&self, call: &Call) -> Result<Arc<Entry>, CallError> {
        let named = &*call.target.service;
        if named.is_empty() {
            let reason = match call.body {
                Arrival::Raw(_) => {
                    "the method names no service; call {service}.{api}, or give the listener a `service`"
                }
                Arrival::Http(_) | Arrival::Yar(_) => {
                    "the URL names no service; call /{service}/{api}, by Yar /{service}"
                }
            };
            return Err(CallError::NoService(reason.into()));
        }
        // a deadline that can't be read is refused once the call is
        let asked = call.asked_patience().ok().flatten();
        let patience = asked.unwrap_or(Duration::MAX).min(self.defaults.timeout);
        self.load(named, patience).await
    }

    /// The entry of a service that this worker has not seen, or not since the view changed.
    async fn load(&self, named: &str, patience: Duration) -> Result<Arc<Entry>, CallError> {
        let name = ServiceName::new(named).map_err(|bad| CallError::NoService(bad.to_string()))?;
        match self.directory.load(&name, Instant::now() + patience).await {
            Ok(Some(entry)) => {
                self.view().keep(&self.directory, &entry);
                Ok(entry)
            }
            Ok(None) => {
                let reason = format!("service \"{name}\" is not in the registry");
                Err(CallError::NoService(reason))
            }
            Err(Unavailable(reason)) => {
                Err(CallError::RegistryUnavailable { service: named.to_owned(), reason })
            }
        }
    }

    fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole milliseconds from `since` until `until`.
fn millis(since: Instant, until: Instant) -> u64 {
    until.saturating_duration_since(since).as_millis() as u64
}
