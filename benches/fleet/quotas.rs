//! What quotas that a fleet shares cost a ZooKeeper, by its own counters, and how well they are used.

mod bill;
mod crowd;

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use remora::model::Layout;
use tempfile::TempDir;

use super::nodes::{Machine, ask, launch};
use super::options::HELP;
use super::outside::Port;
use super::wait::until;
use super::world::configuration;
use bill::{Bill, Counters, Line};
use crowd::{Crowd, Demand};

/// As in production: leases last 10 s.
const SESSION: Duration = Duration::from_secs(20);
const MACHINE: Machine = Machine { heap_mb: 512, tick_ms: 2000 };
/// Between two looks at the counters.
const SAMPLE: Duration = Duration::from_secs(1);
/// Until everyone is there, or somebody else holds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long each state is watched; in sum for three fleets less than four minutes.
const REST: Duration = Duration::from_secs(2);
const BEGIN: Duration = Duration::from_secs(6);
const STEADY: Duration = Duration::from_secs(11);
/// Twice: each time others have the demand.
const SHIFT: Duration = Duration::from_secs(8);
/// A session ends, and then what becomes of it.
const LOSS: Duration = Duration::from_secs(21);
const SILENT: Duration = Duration::from_secs(4);

struct Options {
    sidecars: Vec<usize>,
    services: usize,
    log: Option<String>,
}

/// One server, killed when it is no longer wanted.
struct Server {
    _dir: TempDir,
    port: Port,
    child: Child,
}

impl Server {
    fn start() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), Port::free());
        let child = launch(dir.path(), port.number, MACHINE, "");
        let server = Self { _dir: dir, port, child };
        assert!(until(PATIENCE, || ask(&server.port.address(), "srvr").contains("Mode:")), "no server");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { sidecars: vec![10, 100, 1000], services: 1, log: None };
        while let Some(name) = args.next() {
            let value = args.next().ok_or(HELP)?;
            let number = |text: &str| text.parse().ok().filter(|n| *n > 0).ok_or(format!("{name}: {text}"));
            match name.as_str() {
                "--sidecars" => options.sidecars = value.split(',').map(number).collect::<Result<_, _>>()?,
                "--services" => options.services = number(&value)?,
                "--log" => options.log = Some(value),
                _ => return Err(HELP.into()),
            }
        }
        Ok(options)
    }
}

/// Measures fleets of each size, one after the other.
pub(crate) fn run(args: impl Iterator<Item = String>) {
    let options = Options::read(args).unwrap_or_else(|problem| {
        eprintln!("{problem}");
        std::process::exit(2);
    });
    let _log = options.log.as_ref().map(|level| remora::telemetry::start_log(level).unwrap());
    super::raise_limit(options.sidecars.iter().copied().max().unwrap_or(0) as u64);
    let (begun, mut lines) = (Instant::now(), Vec::new());
    for sidecars in &options.sidecars {
        lines.extend(measure(*sidecars, options.services));
    }
    println!("\n{}", bill::markdown(&lines));
    let kernel = Command::new("uname").arg("-r").output().map(|output| output.stdout).unwrap_or_default();
    println!(
        "{} service(s), session {SESSION:?}, one server, kernel {}; {:.0} s in all",
        options.services,
        String::from_utf8_lossy(&kernel).trim(),
        begun.elapsed().as_secs_f64()
    );
    // a thousand threads of clients are not waited for
    std::process::exit(0);
}

/// All states of one fleet.
fn measure(sidecars: usize, services: usize) -> Vec<Line> {
    let server = Server::start();
    let config = configuration(&server.port.address(), SESSION, Layout::Flat);
    let mut crowd = Crowd::start(&config, sidecars, services);
    let all_there = until(PATIENCE, || crowd.is_complete());
    assert!(all_there, "not all of {sidecars} sidecars have a node");
    let mut bill = Bill::new(sidecars, services, Counters::read(&server.port.address(), server.child.id()));
    let mut watch = |crowd: &Crowd, state: &'static str, lasts: Duration| {
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            std::thread::sleep(SAMPLE.min(end.saturating_duration_since(Instant::now())));
            let counters = Counters::read(&server.port.address(), server.child.id());
            bill.sample(counters, crowd.tally());
        }
        bill.close(state);
    };
    watch(&crowd, "at rest: nobody called yet", REST);
    crowd.demand(Demand::Even);
    watch(&crowd, "all begin to call at once", BEGIN);
    watch(&crowd, "steady", STEADY);
    crowd.demand(Demand::Tenth(0));
    watch(&crowd, "a tenth asks for nine tenths", SHIFT);
    crowd.demand(Demand::Tenth(1));
    watch(&crowd, "another tenth does", SHIFT);
    let lost = crowd.lose(&holder(&server));
    watch(&crowd, "the holder is lost", LOSS);
    let next = holder(&server);
    println!("{sidecars} sidecars: holder {lost} was lost, {next} holds after it");
    crowd.demand(Demand::None);
    watch(&crowd, "silent: all called before", SILENT);
    crowd.end();
    bill.lines
}

/// The session that holds; of the first service, if there are several.
fn holder(server: &Server) -> String {
    let mut found = None;
    let held = until(PATIENCE, || {
        let dump = ask(&server.port.address(), "dump");
        let mut session = "";
        for line in dump.lines() {
            if line.starts_with("0x") {
                session = line.trim_end_matches(':');
            } else if line.contains("/consumers/service-0000/_holder") {
                found = Some(session.to_owned());
            }
        }
        found.is_some()
    });
    assert!(held, "nobody holds");
    found.unwrap_or_default()
}
