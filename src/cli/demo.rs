//! `remora demo`: two small providers, a registry that names them, and the sidecar before them.

use std::fs::DirBuilder;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use proto_adapters::yar::{self, Code, Exception, HEAD, Header};
use proto_adapters::{Options, Wire, form_to_params, transcode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{configuration, print, runtime};
use crate::app::App;
use crate::config::{Bind, Config, Source};
use crate::model::Layout;

/// Largest request body of the demo's providers.
const MAX_BODY: usize = 1 << 20;
/// A Yar client of a few lines, for readers without the extension.
const YAR_CALL: &str = include_str!("../../examples/yar-call.php");

pub(super) fn run() -> Result<(), String> {
    let mut config = configuration(None)?;
    free_ports(&config)?;
    let dir = Scratch::new().map_err(|e| format!("no directory for the demo: {e}"))?;
    runtime()?.block_on(async {
        let (hello_at, hello_on) = anywhere().await?;
        let (calc_at, calc_on) = anywhere().await?;
        let file = dir.keep("registry.yaml", &entries(hello_at, calc_at))?;
        let script = dir.keep("yar-call.php", YAR_CALL)?;
        config.registry.source = Source::Embedded { file };
        config.registry.layout = Layout::Flat;
        config.registry.root = String::new();
        let guide = guide(&config, &script);

        let (stop, stopped) = watch::channel(false);
        let mut providers = JoinSet::new();
        providers.spawn(hello(hello_on, stopped.clone()));
        providers.spawn(calc(calc_on, stopped));
        let app = App::start(config).await.map_err(|e| e.to_string())?;
        print(&guide)?;
        app.run_until_signal().await;
        stop.send_replace(true);
        providers.join_all().await;
        Ok(())
    })
}

/// Says which port is taken before anything is started.
fn free_ports(config: &Config) -> Result<(), String> {
    let listen = config.listen.iter().map(|listen| ("REMORA_LISTEN='[\"127.0.0.1:9601\"]'", &listen.bind));
    for (way_out, bind) in listen.chain([("REMORA_ADMIN=127.0.0.1:9600", &config.admin)]) {
        let Bind::Tcp(at) = bind else { continue };
        if let Err(e) = StdListener::bind(at) {
            return Err(format!("{at}: {e}; choose another: {way_out} remora demo"));
        }
    }
    Ok(())
}

async fn anywhere() -> Result<(SocketAddr, TcpListener), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
    Ok((listener.local_addr().map_err(|e| e.to_string())?, listener))
}

/// The registry's entries, in layout `flat`.
fn entries(hello: SocketAddr, calc: SocketAddr) -> String {
    let entries = json!({
        "/service/hello": { "description": "greets, in JSON" },
        "/api/hello/greet": { "path": "/greet" },
        "/address/hello": { "addresses": [{ "address": hello }] },
        "/service/calc": { "description": "reckons, in Yar with msgpack" },
        "/api/calc/add": { "encoding": "yar-msgpack", "params": ["a", "b"] },
        "/address/calc": { "addresses": [{ "address": calc }] },
    });
    format!("{entries:#}\n")
}

/// What to try.
fn guide(config: &Config, script: &Path) -> String {
    let tcp = |bind: &Bind| matches!(bind, Bind::Tcp(_));
    let call = match config.listen.iter().map(|listen| &listen.bind).find(|bind| tcp(bind)) {
        Some(at) => format!("curl -s http://{at}"),
        None => "curl -s --unix-socket SOCKET http://remora".into(),
    };
    let base = call.trim_start_matches("curl -s ");
    let admin =
        if tcp(&config.admin) { format!("http://{}", config.admin) } else { config.admin.to_string() };
    let php = if in_path("php") {
        format!("  # PHP calls it by Yar\n  php {} {base}/calc add 1 2\n\n", script.display())
    } else {
        String::new()
    };
    format!(
        "The sidecar is ready, and behind it two services: hello (JSON) and calc (Yar with msgpack).\n\n  \
         # JSON to JSON\n  {call}/hello/greet -G -d name=Ada\n\n  \
         # JSON to Yar, and back\n  {call}/calc/add -d '[1,2]'\n  {call}/calc/add -d '{{\"a\":1.5,\"b\":2}}'\n\n\
         {php}  \
         # what the sidecar knows and counts\n  curl -s {admin}/services\n  curl -s {admin}/metrics\n\n\
         Ctrl-C ends all.\n"
    )
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// A directory of our own, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let name = format!("remora-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let dir = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Self(dir))
    }

    fn keep(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let file = self.0.join(name);
        std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // at worst a small directory stays
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Greets whom the query or the JSON body names.
pub(crate) async fn hello(listener: TcpListener, stop: watch::Receiver<bool>) {
    serve(listener, stop, "application/json", |query, body| {
        let name = if body.is_empty() {
            // positional, by name: ["Ada"]
            let list = form_to_params(query.as_bytes(), Wire::Json, &["name".into()], Options::default());
            list.ok().and_then(|list| serde_json::from_slice::<Vec<Value>>(&list).ok()?.pop())
        } else {
            let body = serde_json::from_slice::<Value>(body);
            body.ok().and_then(|body| body.get("name").cloned())
        };
        let greeting = json!({ "hello": name.unwrap_or_else(|| "world".into()) });
        (StatusCode::OK, greeting.to_string().into_bytes())
    })
    .await;
}

/// Adds two numbers, as a Yar server with any packager.
pub(crate) async fn calc(listener: TcpListener, stop: watch::Receiver<bool>) {
    serve(listener, stop, "application/octet-stream", |_, body| match calculated(body) {
        Ok(answer) => (StatusCode::OK, answer),
        Err(fault) => (StatusCode::BAD_REQUEST, format!("{fault}\n").into_bytes()),
    })
    .await;
}

fn calculated(message: &[u8]) -> Result<Vec<u8>, proto_adapters::Fault> {
    let header = Header::parse(message)?;
    let payload = message.get(HEAD..).unwrap_or_default();
    let request = yar::Request::read(header.packager, payload)?;
    let wire = header.packager.wire();
    let params = payload.get(request.params).filter(|params| !params.is_empty());
    let params = params.map(|params| transcode(wire, Wire::Json, params, "$.p", Options::default()));
    let params: Value = serde_json::from_slice(&params.transpose()?.unwrap_or_default()).unwrap_or_default();
    let outcome = match request.method.as_str() {
        "add" => sum(&params).ok_or("add takes two numbers"),
        _ => Err("there is only add"),
    };
    Ok(match outcome {
        Ok(sum) => {
            let sum = transcode(Wire::Json, wire, sum.to_string().as_bytes(), "$.r", Options::default())?;
            yar::encode_result(header.packager, header.id, &sum, None)
        }
        Err(reason) => {
            let (message, class) = (reason.to_owned(), "InvalidArgumentException".to_owned());
            let thrown = Exception { message, code: Code::Int(0), file: String::new(), line: 0, class };
            yar::encode_exception(header.packager, header.id, &thrown)
        }
    })
}

/// As PHP adds: integers stay integers until they overflow.
fn sum(params: &Value) -> Option<Value> {
    let [a, b] = params.as_array()?.as_slice() else {
        return None;
    };
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64())
        && let Some(sum) = a.checked_add(b)
    {
        return Some(sum.into());
    }
    Some(json!(a.as_f64()? + b.as_f64()?))
}

/// Answers with what `answer` makes of query and body, until `stop` turns true.
async fn serve<F>(listener: TcpListener, mut stop: watch::Receiver<bool>, kind: &'static str, answer: F)
where
    F: Fn(&str, &[u8]) -> (StatusCode, Vec<u8>) + Copy + Send + Sync + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        // what fails here is one client that left, or too many files open: the next may do better
        let Ok((stream, _)) = stream else { continue };
        let service = service_fn(move |request| reply(request, kind, answer));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
    }
}

async fn reply<F>(
    request: Request<Incoming>,
    kind: &'static str,
    answer: F,
) -> Result<Response<Full<Bytes>>, io::Error>
where
    F: Fn(&str, &[u8]) -> (StatusCode, Vec<u8>),
{
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(io::Error::other)?.to_bytes();
    let (status, bytes) = answer(head.uri.query().unwrap_or_default(), &body);
    let mut response = Response::new(Full::new(bytes.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_adapters::yar::Packager;

    fn added(packager: Packager, method: &str, params: &str) -> Value {
        let wire = packager.wire();
        let params = transcode(Wire::Json, wire, params.as_bytes(), "$", Options::default()).unwrap();
        let message = yar::encode_request(packager, 7, b"", b"", method, &params).unwrap();
        let answer = calculated(&message).unwrap();
        assert_eq!(Header::parse(&answer).unwrap().id, 7);
        let shown: Value = serde_json::from_str(&yar::describe(&answer, false).unwrap()).unwrap();
        shown["body"].clone()
    }

    #[test]
    fn calc_adds_as_php_does_in_the_packager_it_was_asked_in() {
        for packager in [Packager::Msgpack, Packager::Json, Packager::Php] {
            assert_eq!(added(packager, "add", "[1,2]")["r"], json!(3));
            assert_eq!(added(packager, "add", "[1.5,2]")["r"], json!(3.5));
            assert_eq!(added(packager, "add", "[9223372036854775807,1]")["r"], json!(9223372036854775808.0));
            assert_eq!(added(packager, "add", "[1]")["e"]["message"], "add takes two numbers");
            assert_eq!(added(packager, "sub", "[1,2]")["s"], 64);
        }
        assert!(calculated(b"no message").is_err());
    }

    #[tokio::test]
    async fn the_providers_answer_until_they_are_stopped() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (at, listener) = anywhere().await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let provider = tokio::spawn(hello(listener, stopped));
        let post = "POST /greet HTTP/1.0\r\ncontent-length: 16\r\n\r\n{\"name\":\"Grace\"}";
        for (request, answer) in [
            ("GET /greet?name=Ada%20L. HTTP/1.0\r\n\r\n", r#"{"hello":"Ada L."}"#),
            ("GET /greet HTTP/1.0\r\n\r\n", r#"{"hello":"world"}"#),
            (post, r#"{"hello":"Grace"}"#),
        ] {
            let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert!(text.ends_with(answer), "{text}");
        }
        stop.send_replace(true);
        provider.await.unwrap();
    }

    #[test]
    fn the_guide_has_commands_to_paste() {
        let config = crate::config::load(None, []).unwrap();
        let guide = guide(&config, Path::new("/tmp/yar-call.php"));
        assert!(guide.contains("curl -s http://127.0.0.1:9501/calc/add -d '[1,2]'\n"), "{guide}");
        assert!(guide.contains("curl -s http://127.0.0.1:9500/services\n"), "{guide}");
    }
}
