//! The registry the fleet lives from: written by one, and what every view has to show.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use remora::config::{self, OwnProvider};
use remora::model::Layout;
use remora::names::{Address, ServiceName};
use remora::registry::layout::{Kind, Scope};
use remora::registry::{self, Source};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};

use super::meter::Gaps;
use super::options::Options;

/// Providers of a service that are written, beside those that sidecars announce.
const WRITTEN: usize = 3;
const API: &str = "get";
/// Writes under way at once.
const AT_ONCE: usize = 32;
/// How long a write is tried again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How often the own providers are looked for in ZooKeeper.
const LOOK: Duration = Duration::from_millis(250);
const OWN_WEIGHT: u16 = 50;

/// A write that was acknowledged.
pub(crate) struct Written {
    pub(crate) service: usize,
    pub(crate) at: Instant,
    weight: u16,
}

pub(crate) struct Registry {
    layout: Layout,
    pub(crate) names: Arc<Vec<ServiceName>>,
    /// By service: every provider with its weight.
    truth: Vec<BTreeMap<Address, u16>>,
    own: Vec<OwnProvider>,
    version: u16,
    writer: Source,
    handle: Handle,
    _stop: watch::Sender<bool>,
}

impl Registry {
    pub(crate) fn new(config: &config::Registry, options: &Options, handle: &Handle) -> Self {
        let (stop, stopped) = watch::channel(false);
        let writer = registry::open(config).unwrap();
        let supervised = writer.clone();
        handle.spawn(async move { supervised.supervise(stopped).await });
        let names = (0..options.services).map(|n| ServiceName::new(&format!("service-{n:04}")).unwrap());
        let mut truth: Vec<BTreeMap<_, _>> = (0..options.services)
            .map(|n| (0..WRITTEN).map(|provider| (written_at(n, provider), 1)).collect())
            .collect();
        let mut own = Vec::new();
        for sidecar in 0..options.sidecars {
            let service = sidecar % options.services;
            let (high, low) = (sidecar >> 8, sidecar & 255);
            let address = Address::new(&format!("10.1.{high}.{low}:8080")).unwrap();
            truth[service].insert(address.clone(), OWN_WEIGHT);
            let service = match options.layout {
                Layout::Flat => format!("service-{service:04}"),
                Layout::Tree => format!("service-{service:04}/{API}"),
            };
            own.push(OwnProvider { service, address, weight: Some(OWN_WEIGHT), health: None });
        }
        let names = Arc::new(names.collect());
        let handle = handle.clone();
        Self { layout: options.layout, names, truth, own, version: 1, writer, handle, _stop: stop }
    }

    /// The provider that the sidecar of this number announces.
    pub(crate) fn own(&self, sidecar: usize) -> &OwnProvider {
        &self.own[sidecar]
    }

    /// The service that it belongs to.
    pub(crate) fn own_service(&self, sidecar: usize) -> usize {
        sidecar % self.names.len()
    }

    /// What a view has to show of a service.
    pub(crate) fn truth(&self, service: usize) -> &BTreeMap<Address, u16> {
        &self.truth[service]
    }

    /// Writes every service whole.
    pub(crate) async fn fill(&self) -> Result<(), String> {
        self.writer.reached(PATIENCE).await.map_err(|e| e.to_string())?;
        let mut tasks = tokio::task::JoinSet::new();
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        for (service, name) in self.names.iter().enumerate() {
            let mut nodes = vec![
                (self.path(Kind::Service, name.as_str()), "{}".to_owned()),
                (self.path(Kind::Api, &format!("{name}/{API}")), format!("{{\"path\":\"/{API}\"}}")),
            ];
            nodes.extend((0..WRITTEN).map(|provider| (self.provider_path(service, provider), payload(1))));
            let (writer, permits) = (self.writer.clone(), permits.clone());
            tasks.spawn(async move {
                let _permit = permits.acquire().await;
                for (path, data) in nodes {
                    put(&writer, &path, &data).await?;
                }
                Ok::<_, String>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|e| e.to_string())??;
        }
        Ok(())
    }

    /// Changes a provider of every service, `per_second` of them or as fast as it goes; what was
    /// acknowledged comes out of the channel, to be [`noted`](Self::note).
    pub(crate) fn change_all(&mut self, per_second: Option<u32>) -> mpsc::UnboundedReceiver<Written> {
        self.version = self.version % 1000 + 1;
        let (weight, (tell, told)) = (self.version, mpsc::unbounded_channel());
        let paths: Vec<_> = (0..self.names.len()).map(|service| self.provider_path(service, 0)).collect();
        let (writer, permits) = (self.writer.clone(), Arc::new(Semaphore::new(AT_ONCE)));
        self.handle.spawn(async move {
            for (service, path) in paths.into_iter().enumerate() {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let (writer, tell) = (writer.clone(), tell.clone());
                tokio::spawn(async move {
                    if put(&writer, &path, &payload(weight)).await.is_ok() {
                        let _ = tell.send(Written { service, weight, at: Instant::now() });
                    }
                    drop(permit);
                });
                if let Some(per_second) = per_second {
                    tokio::time::sleep(Duration::from_secs(1) / per_second).await;
                }
            }
        });
        told
    }

    pub(crate) fn note(&mut self, written: &Written) {
        self.truth[written.service].insert(written_at(written.service, 0), written.weight);
    }

    /// Keeps looking for every own provider in ZooKeeper itself.
    pub(crate) fn watch_own(&self, config: &config::Registry, gaps: Arc<Mutex<Gaps>>) {
        let source = registry::open(config).unwrap();
        let paths = self.own.iter().map(|own| self.layout.own_provider_path(own).unwrap());
        let scopes: Vec<_> = paths.map(Scope::node).collect();
        self.handle.spawn(async move {
            // kept open: the session ends with the process
            let (_stop, stopped) = watch::channel(false);
            tokio::join!(source.supervise(stopped), look(&source, &scopes, &gaps));
        });
    }

    fn path(&self, kind: Kind, name: &str) -> String {
        self.layout.node_path(kind, name).unwrap()
    }

    fn provider_path(&self, service: usize, provider: usize) -> String {
        let (name, address) = (&self.names[service], written_at(service, provider));
        match self.layout {
            Layout::Flat => self.path(Kind::Address, &format!("{name}/{}", address.as_str())),
            Layout::Tree => self.path(Kind::Address, &format!("{name}/{API}/{}", address.as_str())),
        }
    }
}

async fn look(source: &Source, scopes: &[Scope], gaps: &Mutex<Gaps>) {
    loop {
        if let Ok(nodes) = source.read(scopes).await {
            let now = Instant::now();
            let there: std::collections::HashSet<_> =
                nodes.iter().filter(|node| node.ephemeral).map(|node| node.path.as_str()).collect();
            let mut gaps = gaps.lock().unwrap();
            let found = scopes.iter().map(|scope| there.contains(scope.path.as_str()));
            found.enumerate().for_each(|(own, there)| gaps.saw(own, there, now));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes until it is acknowledged.
pub(crate) async fn put(writer: &Source, path: &str, data: &str) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match writer.put(path, data.as_bytes()).await {
            Ok(()) => return Ok(()),
            Err(trouble) if Instant::now() > end => return Err(format!("{path}: {trouble}")),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn payload(weight: u16) -> String {
    format!("{{\"weight\":{weight}}}")
}

fn written_at(service: usize, provider: usize) -> Address {
    let (high, low) = (service >> 8, service & 255);
    Address::new(&format!("10.{}.{high}.{low}:8080", 10 + provider)).unwrap()
}
