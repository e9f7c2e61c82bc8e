//! What a view costs whose providers nobody called yet.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Instant;

use allocation_counter::{AllocationInfo, measure};
use remora::directory::Directory;
use remora::model::{Layout, Policy, Service};
use remora::names::ServiceName;
use remora::registry::Node;
use remora::telemetry::Telemetry;

const SERVICES: usize = 50;
const PROVIDERS: usize = 50;

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

fn tell(what: &str, info: &AllocationInfo, per: usize) {
    let (bytes, count) = (info.bytes_current as f64 / per as f64, info.count_current as f64 / per as f64);
    println!("{what}: {bytes:.1} B in {count:.2} pieces, about {:.1}", bytes + 16.0 * count);
}

#[test]
fn breakdown() {
    for providers in [0, 1, PROVIDERS] {
        let (directory, _wants) = Directory::new(Policy::default(), None, Telemetry::new().unwrap());
        directory.publish(&name(9999), Some(Arc::default()));
        let mut services: Vec<Arc<Service>> = Vec::with_capacity(SERVICES);
        let all: Vec<_> = (0..SERVICES).map(|n| nodes(n, providers)).collect();
        let parsed = measure(|| {
            services.extend(
                all.iter()
                    .enumerate()
                    .map(|(n, nodes)| Arc::new(Layout::Flat.parse(&name(n), nodes, None).unwrap())),
            );
        });
        println!("{providers} providers:");
        tell("  parsed, per service", &parsed, SERVICES);
        let published = measure(|| {
            services.iter().enumerate().for_each(|(n, s)| directory.publish(&name(n), Some(s.clone())))
        });
        tell("  published, per service", &published, SERVICES);
        let live = measure(|| {
            for n in 0..SERVICES {
                directory.known(&name(n)).unwrap().pool.panics(Instant::now());
            }
        });
        tell("  live, per service", &live, SERVICES);
    }
}
