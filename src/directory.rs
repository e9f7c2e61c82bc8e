//! The view calls read: one entry per service, each replaced whole.
//!
//! One task, the registry's, writes; workers read through a map of their own and
//! look here only when the generation moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use hyper::Uri;
use moka::sync::Cache;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::balance::{self, Pool, Setting};
use crate::explain::Origins;
use crate::limits::{Allowance, Gate, Hedges, Part};
use crate::model::{Api, Policy, Provider, Service};
use crate::names::{Address, ApiName, ServiceName};
use crate::peer::{Board, Origin, Peer, Peers};
use crate::telemetry::{ApiInstruments, Telemetry};

mod accounts;
mod bounds;
mod expiry;
mod observe;
mod origins;
mod view;

pub use accounts::{Account, Accounts, LastUse};
pub use bounds::Bounds;
pub use view::View;

use expiry::AbsentExpires;

/// Most entries, absent ones included; what falls out is loaded again when called.
const MAX_ENTRIES: u64 = 100_000;
/// How long a service that isn't there is remembered as such.
const ABSENT_FOR: Duration = Duration::from_secs(1);
/// The clock of a view says this at the start, in milliseconds: what was known before has a time too.
const BEFORE_START: u64 = 1 << 42;
/// Loads that may wait for the registry at once.
const MAX_WANTS: usize = 4096;

/// A service somebody called that is not in the view yet.
#[derive(Debug)]
pub struct Want {
    /// Its name.
    pub service: ServiceName,
    /// Told when [`Directory::publish`] was done, or why it can't be.
    pub loaded: oneshot::Sender<Result<(), Unavailable>>,
}

/// Why the view can't say whether a service exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// What the view holds for one name.
#[derive(Debug, Clone)]
enum Slot {
    Known(Arc<Entry>),
    Absent,
}

/// One service, resolved for calls: nothing below it is looked up by name again but the API.
#[derive(Debug)]
pub struct Entry {
    /// The service's name.
    pub name: ServiceName,
    /// As the registry says; whoever reads the registry has the same.
    pub service: Arc<Service>,
    /// When this version came into force.
    pub since: SystemTime,
    /// When it was last found as the registry has it, in milliseconds of [`Directory`]'s own clock,
    checked: AtomicU64,
    /// and how often the registry had been lost by then.
    losses: AtomicU64,
    /// The service's policy over the configuration's defaults.
    pub policy: Arc<Policy>,
    /// What calls of any of its APIs may be at most.
    most: Bounds,
    /// Calls in flight to the service from this sidecar; survives updates.
    pub gate: Arc<Gate>,
    /// What its calls may cost beyond their first attempts; survives updates.
    retries: Arc<Allowance>,
    /// What its peers and pools share; survives updates.
    pub board: Arc<Board>,
    /// Who serves the APIs that have no providers of their own.
    pub pool: Arc<Pool>,
    /// What its bodies hold of the room for those that are converted; survives updates.
    pub part: Arc<Part>,
    /// What is counted of its callers; survives updates.
    pub accounts: Accounts,
    /// Of every provider, those that take no calls included, by address.
    peers: Peers,
    routes: ahash::HashMap<ApiName, Arc<Route>>,
    any: Option<Arc<Route>>,
    used: AtomicBool,
}

/// One API, resolved.
#[derive(Debug)]
pub struct Route {
    /// The name in the registry, perhaps `*`.
    pub name: ApiName,
    /// As the registry says.
    pub api: Arc<Api>,
    /// Its path, read with its first call for all of them; `None`: it can't be read as one.
    pub path: OnceLock<Option<Box<Uri>>>,
    /// The API's policy over the service's.
    pub policy: Arc<Policy>,
    /// Who serves it.
    pub pool: Arc<Pool>,
    /// Calls in flight to this API alone, where it has a `concurrency` of its own; survives updates.
    pub gate: Option<Arc<Gate>>,
    /// What calls of the service may cost beyond their first attempts.
    pub retries: Arc<Allowance>,
    /// What bodies of the service hold.
    pub part: Arc<Part>,
    /// Where its policy has a `hedge`; survives updates.
    pub hedges: Option<Arc<Hedges>>,
    /// Where each rule of its policy comes from.
    pub origins: Origins,
    /// Its metrics, bound to its labels.
    pub instruments: ApiInstruments,
}

/// The view.
#[derive(Debug)]
pub struct Directory {
    slots: Cache<ServiceName, Slot>,
    generation: AtomicU64,
    /// Told of each new entry; one task waits for it.
    moves: Notify,
    started: Instant,
    /// How often the registry was lost.
    losses: AtomicU64,
    wants: mpsc::Sender<Want>,
    /// Whether a fleet's quotas are lent to this host.
    shares: AtomicBool,
    defaults: Arc<Policy>,
    /// Which fields of these are as they are where nobody set them.
    built_in: Vec<bool>,
    /// The data centre of this host.
    idc: Option<String>,
    telemetry: Telemetry,
}

impl Directory {
    /// An empty view of a host in data centre `idc`, and the stream of what it wants loaded.
    pub fn new(
        defaults: Policy,
        idc: Option<String>,
        telemetry: Telemetry,
    ) -> (Arc<Self>, mpsc::Receiver<Want>) {
        let (wants, wanted) = mpsc::channel(MAX_WANTS);
        let slots = Cache::builder().max_capacity(MAX_ENTRIES).expire_after(AbsentExpires).build();
        let directory = Self {
            slots,
            generation: AtomicU64::new(1),
            moves: Notify::new(),
            started: Instant::now(),
            losses: AtomicU64::new(0),
            wants,
            shares: AtomicBool::new(false),
            built_in: origins::built_in(&defaults),
            defaults: defaults.into(),
            idc,
            telemetry,
        };
        (Arc::new(directory), wanted)
    }

    /// From now on a fleet's quotas are lent to this host; otherwise it is the whole fleet.
    pub fn share_quotas(&self) {
        self.shares.store(true, Relaxed);
    }

    /// Replaces what is known of `name`; `None`: it isn't in the registry.
    pub fn publish(&self, name: &ServiceName, service: Option<Arc<Service>>) {
        let is_there = service.is_some();
        let before = self.known(name);
        let slot = match service {
            Some(service) => {
                self.telemetry.serves(name.as_str());
                Slot::Known(Arc::new(self.entry(name.clone(), service, before.as_deref())))
            }
            None => {
                // names that never were there have no series
                before.iter().for_each(|_| self.telemetry.leaves(name.shared(), Instant::now()));
                Slot::Absent
            }
        };
        self.slots.insert(name.clone(), slot);
        self.generation.fetch_add(1, Release);
        if is_there {
            self.moves.notify_one();
        }
    }

    /// Grows with every change of the view.
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Drops what is known of `name`, which nobody called for long.
    pub fn forget(&self, name: &ServiceName) {
        if self.known(name).is_some() {
            self.telemetry.rests(name.shared(), Instant::now());
        }
        self.slots.invalidate(name);
        self.generation.fetch_add(1, Release);
    }

    /// What the view holds for `name` now; nothing is loaded.
    pub fn known(&self, name: &ServiceName) -> Option<Arc<Entry>> {
        self.slots.get(name).and_then(Slot::known)
    }

    /// `name` was read again and is as the view has it.
    pub fn confirm(&self, name: &ServiceName) {
        if let Some(Slot::Known(entry)) = self.slots.get(name) {
            entry.checked.store(self.clock(), Relaxed);
            entry.losses.store(self.losses.load(Relaxed), Relaxed);
        }
    }

    /// From now on nothing is known to be as the registry has it, until it is read again.
    pub fn doubt(&self) {
        self.losses.fetch_add(1, Relaxed);
    }

    /// What is known was found so long ago, before the start.
    pub fn checked_before(&self, age: Duration) {
        let then = self.clock().saturating_sub(age.as_millis() as u64);
        for entry in self.list().values() {
            entry.checked.store(then, Relaxed);
        }
    }

    /// How long ago the entry was last found as the registry has it, and whether that may have changed since.
    pub fn checked(&self, entry: &Entry) -> (Duration, bool) {
        let ago = Duration::from_millis(self.clock().saturating_sub(entry.checked.load(Relaxed)));
        (ago, entry.losses.load(Relaxed) < self.losses.load(Relaxed))
    }

    /// Milliseconds; such that the time before the start has numbers too.
    fn clock(&self) -> u64 {
        BEFORE_START + self.started.elapsed().as_millis() as u64
    }

    /// Whether `name` was called since this was last asked, or is not to be forgotten yet: what is used of
    /// its callers' quotas would be, too.
    pub fn take_used(&self, name: &ServiceName) -> bool {
        let is_used =
            |entry: Arc<Entry>| entry.used.swap(false, Relaxed) || !entry.accounts.are_rested(Instant::now());
        self.known(name).is_some_and(is_used)
    }

    /// Every service in the view, by name.
    pub fn list(&self) -> BTreeMap<ServiceName, Arc<Entry>> {
        let known = |(name, slot): (Arc<ServiceName>, Slot)| match slot {
            Slot::Known(entry) => Some(((*name).clone(), entry)),
            Slot::Absent => None,
        };
        self.slots.iter().filter_map(known).collect()
    }

    /// What the view holds for `name`, loading it first where it holds nothing; `None`: not in the registry.
    pub async fn load(
        &self,
        name: &ServiceName,
        deadline: Instant,
    ) -> Result<Option<Arc<Entry>>, Unavailable> {
        if let Some(slot) = self.slots.get(name) {
            return Ok(slot.known());
        }
        let (loaded, done) = oneshot::channel();
        let want = Want { service: name.clone(), loaded };
        self.wants
            .try_send(want)
            .map_err(|_| Unavailable("too many services are being loaded at once".into()))?;
        match tokio::time::timeout_at(deadline.into(), done).await {
            Ok(Ok(outcome)) => outcome?,
            Ok(Err(_)) => return Err(Unavailable("the sidecar is stopping".into())),
            Err(_) => return Err(Unavailable("the registry did not answer in time".into())),
        }
        Ok(self.slots.get(name).and_then(Slot::known))
    }

    fn entry(&self, name: ServiceName, service: Arc<Service>, before: Option<&Entry>) -> Entry {
        let now = Instant::now();
        let policy = service.policy.over_shared(&self.defaults);
        let board = before.map(|entry| entry.board.clone()).unwrap_or_default();
        let peers = all_peers(&service, before, &board, now);
        let pool = |providers: &[Provider], policy: &Policy| {
            let setting = Setting { policy, idc: self.idc.as_deref(), board: &board, now };
            Arc::new(Pool::new(providers, &setting, &peers))
        };
        let shared = pool(&service.providers, &policy);
        let retries = before.map_or_else(|| Arc::new(Allowance::new(now)), |entry| entry.retries.clone());
        let part = before.map_or_else(|| Arc::new(Part::new(&name)), |entry| entry.part.clone());
        let mut routes = ahash::HashMap::default();
        for (api_name, api) in &service.apis {
            let api_policy = api.policy.over_shared(&policy);
            let pool = match &api.providers {
                None if balance::alike(&api_policy, &policy) => shared.clone(),
                own => pool(own.as_ref().unwrap_or(&service.providers), &api_policy),
            };
            let former = before.and_then(|entry| entry.all_routes().find(|route| route.name == *api_name));
            let gate = |most| Gate::kept(former.and_then(|route| route.gate.as_ref()), most, now);
            let hedges = |_| Hedges::kept(former.and_then(|route| route.hedges.as_ref()), now);
            let route = Route {
                name: api_name.clone(),
                path: OnceLock::new(),
                api: api.clone(),
                pool,
                gate: api.policy.has("concurrency").then(|| gate(api_policy.concurrency)),
                retries: retries.clone(),
                part: part.clone(),
                hedges: api_policy.hedge.map(hedges),
                policy: api_policy,
                origins: self.origins(&api.policy, &service.policy),
                instruments: self.telemetry.bind(name.shared(), api_name.shared()),
            };
            routes.insert(api_name.clone(), Arc::new(route));
        }
        let most = routes.values().map(|route| (&*route.policy).into()).fold((&*policy).into(), Bounds::or);
        part.takes(most.max_body);
        let former = before.map(|entry| (&*entry.service, &entry.accounts));
        let shares = self.shares.load(Relaxed);
        let accounts = Accounts::new(&service, former, shares, now);
        Entry {
            name,
            service,
            since: SystemTime::now(),
            checked: AtomicU64::new(self.clock()),
            losses: AtomicU64::new(self.losses.load(Relaxed)),
            most,
            gate: Gate::kept(before.map(|entry| &entry.gate), policy.concurrency, now),
            policy,
            retries,
            board,
            pool: shared,
            part,
            accounts,
            peers,
            any: routes.remove("*"),
            routes,
            used: AtomicBool::new(false),
        }
    }
}

/// A peer for every provider; those of addresses that `before` had are used again, others are new.
fn all_peers(service: &Service, before: Option<&Entry>, board: &Arc<Board>, now: Instant) -> Peers {
    let of_apis = service.apis.values().flat_map(|api| api.providers.iter().flatten());
    // APIs may share them: each is made once
    let addresses: BTreeSet<_> =
        service.providers.iter().chain(of_apis).map(|provider| &provider.address).collect();
    let origin = Origin::new(board.clone(), before.map(|_| now));
    let peer = |address: &Address| {
        let known = before.and_then(|entry| entry.peers.get(address).cloned());
        known.unwrap_or_else(|| Peer::of(address.clone(), &origin))
    };
    addresses.into_iter().map(peer).collect()
}

impl Slot {
    fn known(self) -> Option<Arc<Entry>> {
        match self {
            Slot::Known(entry) => Some(entry),
            Slot::Absent => None,
        }
    }
}

impl Entry {
    /// The API called `name`, or the one that takes every name.
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.get(name).or(self.any.as_ref())
    }

    /// Every API, the one that takes every name included.
    pub fn all_routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values().chain(&self.any)
    }

    /// Peers by address, of all its APIs; also of providers that take no calls, which may have some in flight.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }
}
