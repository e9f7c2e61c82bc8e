//! php-fpm behind nginx, as PHP is served in production.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::http::{self, Conn};
use super::outside::{Port, eventually, signal};

const SERVES: Duration = Duration::from_secs(20);
/// Processes of the pool.
pub const PROCESSES: usize = 2;

/// A provider under php-fpm with nginx before it; both are gone when dropped.
pub struct Fpm {
    /// Of nginx.
    pub address: String,
    dir: TempDir,
    nginx: Child,
    fpm: Option<Child>,
    _ports: [Port; 2],
}

impl Fpm {
    /// With a pool that listens on TCP, so that its master sees how many calls wait.
    pub fn on_tcp() -> Fpm {
        let pool = Port::free();
        Fpm::start(&pool.address(), &pool.address(), tempfile::tempdir().unwrap(), [Port::free(), pool])
    }

    /// With a pool that listens on a unix socket, as Debian's own does.
    pub fn on_unix() -> Fpm {
        let dir = tempfile::tempdir().unwrap();
        let pool = dir.path().join("pool.sock").display().to_string();
        Fpm::start(&pool, &format!("unix:{pool}"), dir, [Port::free(), Port::free()])
    }

    fn start(listen: &str, pass: &str, dir: TempDir, ports: [Port; 2]) -> Fpm {
        let [door, _] = &ports;
        fs::write(dir.path().join("fpm.conf"), pool(dir.path(), listen)).unwrap();
        fs::write(dir.path().join("nginx.conf"), web_server(dir.path(), door, pass)).unwrap();
        File::create(dir.path().join("gate")).unwrap();
        let nginx = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(dir.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is not installed: run tests/setup");
        let mut fpm = Fpm { address: door.address(), dir, nginx, fpm: None, _ports: ports };
        eventually("nginx takes connections", SERVES, || std::net::TcpStream::connect(&fpm.address).is_ok());
        fpm.come_back();
        fpm
    }

    /// As by `kill -9` of the master and all its processes; nginx stays, and answers 502.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.fpm.take() {
            signal("KILL", &format!("-{}", child.id()));
            let _ = child.wait();
        }
    }

    /// Starts it where it does not run, and waits until it answers.
    pub fn come_back(&mut self) {
        let child = Command::new(binary())
            // without php.ini, in the foreground, as any user
            .args(["-n", "-F", "-R", "-y"])
            .arg(self.dir.path().join("fpm.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // its processes are children of its own: a group ends them together
            .process_group(0)
            .spawn()
            .expect("php-fpm is not installed: run tests/setup");
        self.fpm = Some(child);
        eventually("php-fpm answers", SERVES, || http::get(&self.address, "/x").status == 200);
    }

    /// From now on calls of `/hold` wait, until what this gives is dropped.
    pub fn shut_gate(&self) -> File {
        let gate = File::open(self.dir.path().join("gate")).unwrap();
        gate.lock().unwrap();
        gate
    }

    /// So many calls of `/hold` from elsewhere, past the program under test.
    pub fn held_by_others(&self, calls: usize) -> Vec<Conn> {
        let mut others: Vec<_> = (0..calls).map(|_| Conn::open(&self.address)).collect();
        for conn in &mut others {
            conn.send(http::request("GET", "/hold", &[], b"")).unwrap();
        }
        others
    }
}

impl Drop for Fpm {
    fn drop(&mut self) {
        self.kill();
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

/// Debian's has its version in its name.
fn binary() -> PathBuf {
    let is_fpm =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm"));
    let found = fs::read_dir("/usr/sbin").unwrap().map(|entry| entry.unwrap().path()).filter(is_fpm).max();
    found.expect("php-fpm is not installed: run tests/setup")
}

fn pool(dir: &Path, listen: &str) -> String {
    let dir = dir.display();
    // root may start it for a named user only; for anybody else the line means nothing
    format!(
        "[global]\nerror_log = {dir}/fpm.log\ndaemonize = no\n\
         [app]\nuser = root\nlisten = {listen}\npm = static\npm.max_children = {PROCESSES}\n\
         pm.status_path = /status\npm.status_listen = {dir}/status.sock\n"
    )
}

fn web_server(dir: &Path, door: &Port, pass: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/php/fpm_provider.php");
    let (dir, door) = (dir.display(), door.address());
    format!(
        "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n access_log off;\n client_body_temp_path {dir};\n proxy_temp_path {dir};\n \
         fastcgi_temp_path {dir};\n uwsgi_temp_path {dir};\n scgi_temp_path {dir};\n \
         server {{\n  listen {door};\n  include /etc/nginx/fastcgi_params;\n  \
         fastcgi_param SCRIPT_FILENAME {script};\n  fastcgi_param GATE {dir}/gate;\n  \
         location = /status {{ fastcgi_pass unix:{dir}/status.sock; }}\n  \
         location / {{ fastcgi_pass {pass}; }}\n }}\n}}\n"
    )
}
