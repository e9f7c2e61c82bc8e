//! What the command line asks for.

use std::time::Duration;

use remora::model::Layout;

pub(crate) const HELP: &str = "\
cargo bench --bench fleet -- [options]
cargo bench --bench fleet -- quotas [--sidecars LIST] [--services N] [--log LEVEL]

  --sidecars N       registries run from this process (1000)
  --services N       services in the registry, 3 written providers each (1000)
  --per-sidecar N    services each sidecar subscribes to (50)
  --used N           of these, how many are called all the time (10)
  --session SECONDS  session timeout (20)
  --layout L         flat or tree (flat)
  --steady SECONDS   how long nothing happens (10)
  --rest SECONDS     between start and the first fault, at least: what is not called
                     for a minute is re-read later (61)
  --outages LIST     seconds all servers are down, a phase each (2,30)
  --heap MB          of each server (1024)
  --seed N           who subscribes to what (1)
  --log LEVEL        the sidecars' log on stderr, such as warn (none)";

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) sidecars: usize,
    pub(crate) services: usize,
    pub(crate) per_sidecar: usize,
    pub(crate) used: usize,
    pub(crate) session: Duration,
    pub(crate) layout: Layout,
    pub(crate) steady: Duration,
    pub(crate) rest: Duration,
    pub(crate) outages: Vec<Duration>,
    pub(crate) heap_mb: u32,
    pub(crate) seed: u64,
    pub(crate) log: Option<String>,
}

impl Options {
    /// Fails with what is wrong.
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            sidecars: 1000,
            services: 1000,
            per_sidecar: 50,
            used: 10,
            session: Duration::from_secs(20),
            layout: Layout::Flat,
            steady: Duration::from_secs(10),
            rest: Duration::from_secs(61),
            outages: vec![Duration::from_secs(2), Duration::from_secs(30)],
            heap_mb: 1024,
            seed: 1,
            log: None,
        };
        while let Some(name) = args.next() {
            if name == "--help" {
                return Err(HELP.into());
            }
            let value = args.next().ok_or_else(|| format!("{name}: its value is missing\n\n{HELP}"))?;
            options.set(&name, &value)?;
        }
        options.per_sidecar = options.per_sidecar.clamp(1, options.services);
        options.used = options.used.min(options.per_sidecar);
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--sidecars" => self.sidecars = number(name, value, 1)? as usize,
            "--services" => self.services = number(name, value, 1)? as usize,
            "--per-sidecar" => self.per_sidecar = number(name, value, 1)? as usize,
            "--used" => self.used = number(name, value, 0)? as usize,
            "--session" => self.session = seconds(name, value, 4)?,
            "--steady" => self.steady = seconds(name, value, 1)?,
            "--rest" => self.rest = seconds(name, value, 0)?,
            "--heap" => self.heap_mb = number(name, value, 64)? as u32,
            "--seed" => self.seed = number(name, value, 0)?,
            "--log" => self.log = Some(value.to_owned()),
            "--layout" => {
                self.layout = match value {
                    "flat" => Layout::Flat,
                    "tree" => Layout::Tree,
                    _ => return Err(format!("--layout: {value} is none of flat, tree")),
                }
            }
            "--outages" => {
                let each = value.split(',').filter(|part| !part.is_empty());
                self.outages = each.map(|part| seconds(name, part, 0)).collect::<Result<_, _>>()?;
            }
            _ => return Err(format!("{name}: there is no such option\n\n{HELP}")),
        }
        Ok(())
    }
}

fn number(name: &str, value: &str, least: u64) -> Result<u64, String> {
    let number = value.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("{name}: {value} is no whole number from {least}"))
}

/// `20` and `20s`.
fn seconds(name: &str, value: &str, least: u64) -> Result<Duration, String> {
    number(name, value.trim_end_matches('s'), least).map(Duration::from_secs)
}
