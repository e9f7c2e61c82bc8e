//! A sidecar under valgrind: what its one worker does for calls, whatever its other threads and the machine do.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Valgrind is slow, and other programs run too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// What allocates, by its name in libc.
const ALLOCATES: [&str; 6] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"];

/// A sidecar with one worker; ends when dropped.
pub(crate) struct Counted {
    child: Child,
    dir: TempDir,
    dumps: usize,
}

/// What a worker did.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
    /// Instructions by the source file they come from, inlined ones too; what is the standard library's counts for the
    /// file of the function it was inlined into: which lines stand around it changes from run to run.
    files: HashMap<String, f64>,
}

impl Counted {
    pub(crate) fn start(binary: &str, config: &Path) -> Counted {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new("valgrind")
            .args(["--tool=callgrind", "--separate-threads=yes"])
            .arg(format!("--callgrind-out-file={}", dir.path().join("out").display()))
            .args([binary, "run", "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("valgrind: benches/guard/setup installs it");
        Counted { child, dir, dumps: 0 }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What `calls` make the worker do.
    pub(crate) fn during(&mut self, calls: impl FnOnce()) -> Counts {
        self.control("--zero");
        calls();
        self.control("--dump");
        self.dumps += 1;
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count();
        let end = Instant::now() + PATIENCE;
        loop {
            let dumps = self.dump();
            if dumps.len() >= threads {
                // calls are all there was to do: it did most
                return dumps.into_iter().max_by(|a, b| a.instructions.total_cmp(&b.instructions)).unwrap();
            }
            assert!(Instant::now() < end, "callgrind wrote {} of {threads} threads", dumps.len());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn control(&self, what: &str) {
        let mut command = Command::new("callgrind_control");
        command.arg(what).arg(self.child.id().to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "callgrind_control {what}");
    }

    /// The last one, of each thread whose file is whole.
    fn dump(&self) -> Vec<Counts> {
        let name = format!("out.{}-", self.dumps);
        let of_it =
            |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&name));
        let files = fs::read_dir(self.dir.path()).unwrap().flatten().map(|file| file.path()).filter(of_it);
        files.filter_map(|file| Counts::read(&fs::read_to_string(file).ok()?)).collect()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Counts {
    /// From callgrind's own format; `None`: its end is not there yet.
    fn read(text: &str) -> Option<Counts> {
        let instructions = text.split_once("\ntotals: ")?.1.lines().next()?.trim().parse().ok()?;
        let mut counts = Counts { instructions, ..Counts::default() };
        let (mut files, mut functions) = (HashMap::new(), HashMap::new());
        let (mut own, mut file, mut called, mut is_of_called) = ("", "", "", false);
        for line in text.lines() {
            let (key, value) = line.split_once('=').unwrap_or(("", line));
            match key {
                "fl" => {
                    own = named(&mut files, value);
                    file = own;
                }
                "fi" | "fe" => {
                    let next = named(&mut files, value);
                    file = if next.starts_with("/rustc/") { own } else { next };
                }
                "cfi" | "cfl" => _ = named(&mut files, value),
                "fn" => _ = named(&mut functions, value),
                "cfn" => called = named(&mut functions, value),
                "calls" => {
                    is_of_called = true;
                    if ALLOCATES.contains(&called) {
                        counts.allocations += number(value.split(' ').next());
                    }
                }
                // the line after `calls` is what the callee needs with all it calls
                _ if std::mem::take(&mut is_of_called) => {}
                _ if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) => {
                    *counts.files.entry(file.to_owned()).or_default() += number(line.split(' ').nth(1));
                }
                _ => {}
            }
        }
        Some(counts)
    }

    pub(crate) fn per_call(mut self, calls: usize) -> Counts {
        let all = [&mut self.instructions, &mut self.allocations].into_iter().chain(self.files.values_mut());
        all.for_each(|count| *count /= calls as f64);
        self
    }

    /// Instructions from files whose path has one of these parts.
    pub(crate) fn of_files(&self, parts: &[&str]) -> f64 {
        let of_them = self.files.iter().filter(|(file, _)| parts.iter().any(|part| file.contains(part)));
        of_them.map(|(_, count)| count).sum()
    }
}

fn number(text: Option<&str>) -> f64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

/// A name is written once, `(3) malloc`, and then as `(3)`.
fn named<'t>(names: &mut HashMap<&'t str, &'t str>, text: &'t str) -> &'t str {
    let (number, name) = text.split_once(") ").unwrap_or((text.trim_end_matches(')'), ""));
    match name {
        "" => names.get(number).copied().unwrap_or(""),
        name => {
            names.insert(number, name);
            name
        }
    }
}
