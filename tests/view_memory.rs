//! What a view costs whose providers nobody called yet.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Instant;

use allocation_counter::measure;
use remora::directory::Directory;
use remora::model::{Layout, Policy, Service};
use remora::names::ServiceName;
use remora::registry::Node;
use remora::telemetry::Telemetry;

const SERVICES: usize = 50;
const PROVIDERS: usize = 50;
/// Bytes and pieces of a provider, and of its service without any: what they were, and a twentieth more.
const PROVIDER: (f64, f64) = (184.0, 2.2);
const SERVICE: (f64, f64) = (3260.0, 23.0);

fn name(n: usize) -> ServiceName {
    ServiceName::new(&format!("service-{n:05}")).unwrap()
}

fn nodes(n: usize, providers: usize) -> Vec<Node> {
    let list: Vec<_> = (1..=providers).map(|p| format!("{{\"address\":\"10.200.{n}.{p}:8080\"}}")).collect();
    let node = |path: String, data: String| Node { path, data: Ok(data.into_bytes()), ephemeral: false };
    vec![
        node(format!("/api/{}/get", name(n)), "{\"path\":\"/get\"}".into()),
        node(format!("/address/{}", name(n)), format!("{{\"addresses\":[{}]}}", list.join(","))),
    ]
}

/// Bytes and pieces that a view of such services holds, for each service.
fn held(providers: usize) -> (f64, f64) {
    let (directory, _wants) = Directory::new(Policy::default(), None, Telemetry::new().unwrap());
    // what the first one makes for all
    directory.publish(&name(999), Some(Service::default().into()));
    let all: Vec<_> = (0..SERVICES).map(|n| nodes(n, providers)).collect();
    let held = measure(|| {
        for (n, nodes) in all.iter().enumerate() {
            let service = Layout::Flat.parse(&name(n), nodes, None).unwrap();
            directory.publish(&name(n), Some(service.into()));
            // as where somebody looks at it
            directory.known(&name(n)).unwrap().pool.panics(Instant::now());
        }
    });
    (held.bytes_current as f64 / SERVICES as f64, held.count_current as f64 / SERVICES as f64)
}

#[test]
fn a_provider_that_nobody_called_costs_little() {
    let (empty, full) = (held(0), held(PROVIDERS));
    let each = ((full.0 - empty.0) / PROVIDERS as f64, (full.1 - empty.1) / PROVIDERS as f64);
    println!(
        "{:.0} B in {:.1} pieces for a service, {:.1} in {:.2} for a provider",
        empty.0, empty.1, each.0, each.1
    );
    assert!(each.0 <= PROVIDER.0 && each.1 <= PROVIDER.1, "{each:?} for a provider; at most {PROVIDER:?}");
    assert!(empty.0 <= SERVICE.0 && empty.1 <= SERVICE.1, "{empty:?} for a service; at most {SERVICE:?}");
}
