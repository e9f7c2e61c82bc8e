//! PHP on both sides of the proxy: providers under the built-in server, callers as scripts.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Port, eventually};

fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "php", name].iter().collect()
}

/// A provider under `php -S`, with four workers; gone when dropped.
pub struct Php {
    pub address: String,
    name: &'static str,
    child: Child,
    _port: Port,
}

impl Php {
    pub fn serve(name: &'static str) -> Php {
        let port = Port::free();
        let address = port.address();
        Php { child: start(&address, name), address, name, _port: port }
    }

    /// Ends it and its workers at once, as a crash of the host would.
    pub fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
    }

    /// The same address again, after [`Php::kill`].
    pub fn come_back(&mut self) {
        self.child = start(&self.address, self.name);
    }

    /// To it and its workers.
    pub fn signal(&self, name: &str) {
        super::remora::signal(name, &format!("-{}", self.child.id()));
    }

    pub fn json() -> Php {
        Php::serve("json_provider.php")
    }

    pub fn yar() -> Php {
        Php::serve("yar_provider.php")
    }
}

impl Drop for Php {
    fn drop(&mut self) {
        // where it was killed, its number may be another group's by now
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

fn start(address: &str, name: &str) -> Child {
    let child = Command::new("php")
        .args(["-d", "display_errors=0", "-d", "post_max_size=64M", "-S", address])
        .arg(script(name))
        .env("PHP_CLI_SERVER_WORKERS", "4")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // The workers are children of their own: a group ends them together.
        .process_group(0)
        .spawn()
        .expect("php is not installed: run tests/setup");
    eventually("php -S takes connections", Duration::from_secs(10), || TcpStream::connect(address).is_ok());
    child
}

/// Runs a script with `input` on its stdin and gives one JSON value per line that it prints.
pub fn run(name: &str, input: &Value) -> Vec<Value> {
    let mut child = Command::new("php")
        .arg(script(name))
        // Else libcurl takes the machine's own proxy.
        .env_remove("http_proxy")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("php is not installed: run tests/setup");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(
        out.status.success() && !lines.is_empty(),
        "{name}: {} {text} {}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    lines
}

/// One call by the stand-in of the Yar client; `more` adds fields such as `proxy` or `token`.
pub fn yar(packager: &str, url: &str, method: &str, params: Value, more: Value) -> Value {
    yar_times(1, packager, url, method, params, more).pop().unwrap()
}

pub fn yar_times(
    times: usize,
    packager: &str,
    url: &str,
    method: &str,
    params: Value,
    more: Value,
) -> Vec<Value> {
    let mut input = json!({
        "packager": packager,
        "url": url,
        "method": method,
        "params": params,
        "times": times,
    });
    if let (Some(input), Some(more)) = (input.as_object_mut(), more.as_object()) {
        input.extend(more.clone());
    }
    let answers = run("yar_client.php", &input);
    for answer in &answers {
        assert!(
            answer["silent_null"] != json!(true)
                || answer["value"] != json!(null)
                || answer["keys"]
                    .as_array()
                    .is_some_and(|k| k.contains(&json!("i")) && k.contains(&json!("s"))),
            "the caller got a null and no word of a failure: {answer}"
        );
    }
    answers
}

/// The value which the Yar call returned; a failure of the call fails the test.
pub fn yar_value(packager: &str, url: &str, method: &str, params: Value) -> Value {
    let answer = yar(packager, url, method, params, json!({}));
    assert_eq!(answer["ok"], json!(true), "{answer}");
    assert_eq!(answer["header_id_matches"], json!(true), "{answer}");
    assert_eq!(answer["length_matches"], json!(true), "{answer}");
    assert_eq!(answer["warnings"], json!([]), "{answer}");
    answer["value"].clone()
}
