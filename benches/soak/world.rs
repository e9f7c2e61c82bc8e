//! The sidecar, its providers, and the registry that is edited all the time.

use super::providers::{Mode, Provider};
use super::support::Remora;

/// Services that come and go, of which some are there at any time.
pub(crate) const GUESTS: usize = 20;
const THERE: usize = 8;
const PROVIDERS: usize = 4;

pub(crate) struct World {
    pub(crate) remora: Remora,
    providers: Vec<Provider>,
    edits: usize,
    faults: usize,
}

impl World {
    pub(crate) fn new() -> World {
        let providers: Vec<_> = (0..PROVIDERS).map(|_| Provider::start()).collect();
        let remora = Remora::embedded(&registry(&providers, 0)).discards_log().start();
        World { remora, providers, edits: 0, faults: 0 }
    }

    /// Other weights, one provider fewer, other guests, another policy.
    pub(crate) fn edit(&mut self) {
        self.edits += 1;
        self.remora.edit_registry(&registry(&self.providers, self.edits));
    }

    /// Another provider does something wrong; the one before is well again.
    pub(crate) fn fault(&mut self) {
        self.faults += 1;
        self.providers.iter().for_each(|provider| provider.be(Mode::Well));
        let mode = Mode::ALL[self.faults % Mode::ALL.len()];
        self.providers[self.faults % PROVIDERS].be(mode);
    }
}

fn registry(providers: &[Provider], edit: usize) -> String {
    let address = |n: usize| {
        let (at, weight) = (&providers[n].address, 50 + (edit * 7 + n) % 50);
        format!("{{ address: \"{at}\", weight: {weight} }}")
    };
    // the last one leaves and comes back
    let count = if edit % 3 == 2 { PROVIDERS - 1 } else { PROVIDERS };
    let list = (0..count).map(address).collect::<Vec<_>>().join(", ");
    let tries = edit % 2;
    let policy = format!("timeout: 500ms, retries: {tries}, concurrency: {}", 500 + edit % 7);
    let mut text = format!(
        "/service/json: {{ policy: {{ {policy} }} }}\n/api/json/get: {{ path: /get, idempotent: true }}\n\
         /service/yar: {{ policy: {{ {policy} }} }}\n/api/yar/echo: {{ encoding: yar-msgpack }}\n\
         /service/locked: {{ access: key }}\n/api/locked/get: {{ path: /get }}\n\
         /access/locked/web: {{ keys: [], apis: [\"*\"] }}\n"
    );
    let guests = (0..THERE).map(|n| format!("guest-{}", (edit + n) % GUESTS));
    for guest in guests.clone() {
        text += &format!("/service/{guest}: {{}}\n/api/{guest}/get: {{ path: /get }}\n");
    }
    for service in ["json", "yar", "locked"].map(str::to_owned).into_iter().chain(guests) {
        text += &format!("/address/{service}: {{ addresses: [ {list} ] }}\n");
    }
    text
}
