//! Callers and keys that are not in the registry leave nothing behind, however many come.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use proto_adapters::yar::{self, Packager};
use remora::directory::Directory;
use remora::gateway::{Call, Means, Worker, handle};
use remora::model::{Access, Api, Grant, Key, Policy, Quota, Service};
use remora::names::{ApiName, CallerName, ServiceName};
use remora::telemetry::Telemetry;
use remora::upstream::Budget;
use serde_json::json;

/// Until what is made with the first of them is there.
const WARM: usize = 1_000;
const MANY: usize = 3_000;
/// For the stories of five a second of each kind; eight bytes of each call would be more.
const LASTING: i64 = 64 << 10;
/// Held at any one moment, for these and the call that is under way.
const PASSING: u64 = 96 << 10;

/// A sidecar's gateway with a service for callers with keys, and one for anybody; both count `web`'s calls.
fn gateway() -> Arc<Worker> {
    let (policy, telemetry) = (Policy::default(), Telemetry::new().unwrap());
    let (directory, _) = Directory::new(policy.clone(), None, telemetry.clone());
    for (name, access) in [("guarded", Access::Key), ("open", Access::Open)] {
        let grant = Grant {
            keys: vec![Key { sha256: [7; 32], expires: None }],
            apis: vec!["*".into()],
            quota: Some(Quota::parse(&json!({ "rate": 10, "scope": "host" })).unwrap()),
            ..Grant::default()
        };
        let service = Service {
            access,
            apis: BTreeMap::from([(ApiName::new("x").unwrap(), Api::default().into())]),
            callers: BTreeMap::from([(CallerName::new("web").unwrap(), vec![grant])]),
            ..Service::default()
        };
        directory.publish(&ServiceName::new(name).unwrap(), Some(service.into()));
    }
    let means = Means {
        host: "web-17".into(),
        host_caller: None,
        defaults: policy,
        buffers: Budget::new(1 << 20, 1),
        memory: Arc::default(),
        askers: ["web".to_owned()].into(),
        end: Arc::default(),
    };
    Worker::new(directory, telemetry, means)
}

/// A call of `caller` with `key`, who also asks why it goes as it does; what became of it.
async fn call(worker: &Arc<Worker>, service: &str, caller: &str, key: &str) -> &'static str {
    let method = format!("{service}.x");
    let (caller, key) = (caller.as_bytes(), key.as_bytes());
    let message = yar::encode_request(Packager::Json, 1, caller, key, &method, b"[]").unwrap();
    let mut call = Call::raw(
        message.into(),
        None,
        worker.buffers.share(),
        None,
        (Instant::now(), std::time::Duration::from_secs(5)),
    )
    .await;
    std::sync::Arc::make_mut(&mut call.head).headers.push("x-remora-explain", "1");
    let mut handled = handle(worker, call).await;
    assert!(handled.record.id().is_some());
    handled.result.unwrap_err().verdict().kind
}

/// Every way to be nobody, with the numbers of `range`.
async fn strangers(worker: &Arc<Worker>, range: std::ops::Range<usize>) {
    for n in range {
        let (caller, key) = (format!("caller-{n:08}"), format!("key-{n:08}"));
        assert_eq!(call(worker, "guarded", &caller, &key).await, "unknown-key");
        assert_eq!(call(worker, "guarded", "web", &key).await, "unknown-key");
        assert_eq!(call(worker, "open", &caller, &key).await, "no-provider");
    }
}

#[test]
fn strangers_without_end_leave_nothing_behind() {
    let worker = gateway();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(strangers(&worker, 0..WARM));
    let kept = allocation_counter::measure(|| runtime.block_on(strangers(&worker, WARM..WARM + MANY)));
    assert!(kept.bytes_current.abs() < LASTING, "{kept:?} for {MANY} strangers");
    assert!(kept.bytes_max < PASSING, "{kept:?}");
    let page = worker.telemetry.prometheus(Instant::now());
    let failed =
        page.lines().filter(|line| line.starts_with("remora_calls_total") && !line.contains("\"ok\""));
    assert_eq!(failed.count(), 2, "one for each service: {page}");
}
