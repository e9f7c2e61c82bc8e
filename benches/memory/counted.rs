//! Instructions that a worker needs for a call, counted by callgrind while nothing else is done.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::support::http::Conn;
use super::support::remora::BINARY;
use super::support::{Port, eventually};

/// That are counted, and those before them.
const CALLS: usize = 500;
const FIRST: usize = 50;
/// Valgrind is slow, and other programs run too.
const PATIENCE: Duration = Duration::from_secs(120);
/// Threads by their number: the first runs the control side, the second writes the log.
const WORKER: &str = "-03";

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
    let mut child = start(dir.path(), &config);
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
    control("--zero", &child);
    call(CALLS);
    control("--dump", &child);
    let count = worker(dir.path()) / CALLS as f64;
    let _ = child.kill();
    let _ = child.wait();
    count
}

fn start(dir: &Path, config: &Path) -> Child {
    Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", dir.join("out").display()))
        .args([BINARY, "run", "--config"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("valgrind: apt install valgrind")
}

fn control(what: &str, child: &Child) {
    let mut command = Command::new("callgrind_control");
    command.arg(what).arg(child.id().to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success(), "callgrind_control {what}");
}

/// What its dump says, once it is written.
fn worker(dir: &Path) -> f64 {
    let mut count = None;
    eventually("the dump is there", PATIENCE, || {
        let files = fs::read_dir(dir).unwrap().flatten().map(|file| file.path());
        let of_worker = files.filter(|path| path.to_string_lossy().ends_with(WORKER));
        let texts = of_worker.filter_map(|path| fs::read_to_string(path).ok());
        let totals = texts.filter_map(|text| text.split_once("totals: ")?.1.lines().next()?.parse().ok());
        count = totals.reduce(f64::max);
        count.is_some()
    });
    count.unwrap()
}
