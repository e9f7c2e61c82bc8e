//! Instructions that a worker needs for a call, counted by callgrind while nothing else is done.

use std::fs;

use super::callgrind::{Counted, PATIENCE};
use super::support::http::Conn;
use super::support::remora::BINARY;
use super::support::{Port, eventually};

/// That are counted, and those before them.
const CALLS: usize = 500;
const FIRST: usize = 50;

/// With this registry; `load` gets the admin port before the calls of `/called/get`.
pub(crate) fn per_call(registry: &str, load: impl FnOnce(&str)) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let (listen, admin) = (Port::free(), Port::free());
    let file = dir.path().join("registry.yaml");
    fs::write(&file, registry).unwrap();
    let config = dir.path().join("remora.yaml");
    let text = format!(
        "registry: {{ embedded: {{ file: {} }} }}\nlisten: [ \"{}\" ]\nadmin: \"{}\"\nworkers: 1\n",
        file.display(),
        listen.address(),
        admin.address()
    );
    fs::write(&config, text).unwrap();
    let mut sidecar = Counted::start(BINARY, &config);
    let admin = admin.address();
    eventually("remora is ready", PATIENCE, || {
        std::net::TcpStream::connect(&admin).is_ok_and(|stream| {
            let ready = Conn::over(stream).request("GET", "/readyz", &[("Host", &admin)], b"");
            ready.is_ok_and(|answer| answer.status == 200)
        })
    });
    load(&admin);
    let mut conn = Conn::open(&listen.address());
    let mut call = |times| {
        for _ in 0..times {
            assert_eq!(conn.request("GET", "/called/get", &[], b"").unwrap().status, 200);
        }
    };
    call(FIRST);
    sidecar.during(|| call(CALLS)).per_call(CALLS).instructions
}
