//! One sidecar's registry side, without its doors: session, view and own provider.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora::config::{self, OwnProvider};
use remora::directory::{Directory, Entry, View};
use remora::names::{Address, ServiceName};
use remora::registry::{self, Own, Source};
use remora::telemetry::Telemetry;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One load, before it is asked for again.
const LOAD: Duration = Duration::from_secs(30);
/// Between two calls of a service that is called all the time; what counts as such is a minute.
const CALLS: Duration = Duration::from_secs(15);

pub(crate) struct Sidecar {
    pub(crate) source: Source,
    pub(crate) directory: Arc<Directory>,
    /// Numbers of the services it subscribes to; those called all the time first.
    pub(crate) services: Vec<usize>,
    stop: watch::Sender<bool>,
    leave: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What all sidecars are made of.
pub(crate) struct Make<'a> {
    pub(crate) config: &'a config::Config,
    pub(crate) names: &'a Arc<Vec<ServiceName>>,
    pub(crate) used: usize,
    pub(crate) handle: &'a Handle,
}

impl Sidecar {
    /// Of this host, which announces `own`, if anything.
    pub(crate) fn start(
        make: &Make<'_>,
        host: String,
        own: Option<OwnProvider>,
        services: Vec<usize>,
    ) -> Self {
        let source = registry::open(&make.config.registry).unwrap();
        let (directory, wants) =
            Directory::new(make.config.defaults.clone(), None, Telemetry::new().unwrap());
        let (stop, stopped) = watch::channel(false);
        let (leave, leaves) = watch::channel(false);
        let (_, healthy) = watch::channel(Some(true));
        let own =
            own.into_iter().map(|provider| Own { provider, idc: None, healthy: healthy.clone() }).collect();
        let mut tasks = JoinSet::new();
        let run = registry::run(source.clone(), directory.clone(), host, wants, stopped);
        tasks.spawn_on(run, make.handle);
        tasks.spawn_on(registry::announce(source.clone(), own, leaves), make.handle);
        let callers = callers(directory.clone(), make.names.clone(), services.clone(), make.used);
        tasks.spawn_on(callers, make.handle);
        Self { source, directory, services, stop, leave, tasks }
    }

    /// Tells it to take its provider out of the registry.
    pub(crate) fn leave(&self) {
        self.leave.send_replace(true);
    }

    /// Ends it; the session is closed.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        let end = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(5), end).await;
    }
}

/// Loads every service, as its first call would, and then calls some of them.
async fn callers(directory: Arc<Directory>, names: Arc<Vec<ServiceName>>, services: Vec<usize>, used: usize) {
    let mut loads = JoinSet::new();
    for service in &services {
        let (directory, name) = (directory.clone(), names[*service].clone());
        loads.spawn(async move {
            while !matches!(directory.load(&name, Instant::now() + LOAD).await, Ok(Some(_))) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }
    while loads.join_next().await.is_some() {}
    let mut view = View::default();
    loop {
        for service in services.iter().take(used) {
            if let Some(entry) = directory.known(&names[*service]) {
                view.keep(&directory, &entry);
            }
        }
        // far apart: a thousand sidecars are not called in the same moment
        tokio::time::sleep(CALLS.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// Every provider of a service with its weight, in either layout; those that vanished are left out.
pub(crate) fn providers(entry: &Entry) -> BTreeMap<&Address, u16> {
    let service = &entry.service;
    let of_apis = service.apis.values().flat_map(|api| api.providers.iter().flatten());
    let all = service.providers.iter().chain(of_apis);
    all.filter(|provider| !provider.held).map(|provider| (&provider.address, provider.weight)).collect()
}
