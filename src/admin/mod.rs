//! For operators and for kubelet: health, metrics, the view, drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::sync::watch;

use crate::directory::{Directory, Entry};
use crate::explain::Memory;
use crate::names::ServiceName;
use crate::registry::{self, Source};
use crate::socket::{Bound, Listener};
use crate::telemetry::{self, Telemetry};
use crate::upstream::Budget;

mod diff;
mod door;
mod page;
mod provider;

/// What the pages show.
#[derive(Debug)]
pub struct Admin {
    /// The view.
    pub directory: Arc<Directory>,
    /// Where the view comes from.
    pub source: Source,
    /// What is counted.
    pub telemetry: Telemetry,
    /// The configuration as resolved, without secrets.
    pub config: Value,
    /// Own providers leave and readiness ends when this becomes true.
    pub drain: watch::Sender<bool>,
    /// Whether the doors are open.
    pub listening: AtomicBool,
    /// Held while a page has the registry read: one reader at a time loads that.
    pub comparing: tokio::sync::Mutex<()>,
    /// Stories of calls.
    pub memory: Arc<Memory>,
    /// Room for bodies that are converted.
    pub buffers: Arc<Budget>,
}

/// Which pages a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// All of them, for this host's operators only.
    All,
    /// Health and metrics, for kubelet and Prometheus.
    Telemetry,
}

type Page = Response<Full<Bytes>>;

/// Serves the pages until `stop`.
pub async fn serve(admin: Arc<Admin>, socket: Bound, pages: Pages, stop: watch::Receiver<bool>) {
    let listener = match Listener::adopt(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the admin port can't be served"),
    };
    let answer = move |mut request: Request<Incoming>| {
        let admin = admin.clone();
        async move { admin.page(&mut request, pages).await }
    };
    door::serve(listener, answer, stop).await;
}

impl Admin {
    async fn page(&self, request: &mut Request<Incoming>, pages: Pages) -> Page {
        if pages == Pages::All && is_foreign(request) {
            return text(
                StatusCode::FORBIDDEN,
                "this port answers requests to localhost only; the Host or Origin of this one is another\n",
            );
        }
        let uri = request.uri().clone();
        let path = uri.path().trim_end_matches('/');
        let get = request.method() == Method::GET || request.method() == Method::HEAD;
        match (path, get, pages) {
            ("/drain", false, Pages::All) if request.method() == Method::POST => self.drain(),
            ("/log-level", false, Pages::All) if request.method() == Method::POST => log_level(request).await,
            ("/registry/trust", false, Pages::All) if request.method() == Method::POST => self.trust(),
            ("/drain" | "/log-level" | "/registry/trust", _, Pages::All) => not_allowed("POST"),
            (known, false, _) if PATHS.contains(&known) => not_allowed("GET"),
            ("/livez", ..) => text(StatusCode::OK, "alive\n"),
            ("/readyz", ..) => self.readiness(),
            ("/metrics", ..) => metrics(self.telemetry.prometheus(std::time::Instant::now())),
            (path, true, Pages::All) => self.operator_page(request, path).await,
            _ => text(StatusCode::NOT_FOUND, "pages: /livez /readyz /metrics\n"),
        }
    }

    async fn operator_page(&self, request: &Request<Incoming>, path: &str) -> Page {
        let json = request.uri().query().is_some_and(|q| q.split('&').any(|p| p == "format=json"));
        let mut status = StatusCode::OK;
        let shown = match path {
            "" => return text(StatusCode::OK, page::INDEX),
            "/services" => page::services(&self.directory),
            "/registry" => page::registry(&self.source),
            "/config" => self.config.clone(),
            "/cache/diff" => match self.difference().await {
                Ok((found, shown)) => {
                    status = found;
                    shown
                }
                Err(page) => return page,
            },
            "/explain" => page::stories(&self.memory),
            path => match self.one(path).await {
                Ok(shown) => shown,
                Err(page) => return page,
            },
        };
        if json {
            let body = serde_json::to_string_pretty(&shown).unwrap_or_default() + "\n";
            return with_type(status, "application/json", body);
        }
        text(status, &page::as_text(&shown))
    }

    /// A page on one of many.
    async fn one(&self, path: &str) -> Result<Value, Page> {
        match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
            Some(("services", name)) => self
                .entry(name)
                .await
                .map(|entry| page::service(&self.directory, &entry, &self.buffers, self.source.root())),
            Some(("quotas", name)) => self.quotas(name).await,
            Some(("explain", id)) => {
                self.story(id).map_err(|missing| text(StatusCode::NOT_FOUND, &format!("{missing}\n")))
            }
            Some(_) | None => Err(text(StatusCode::NOT_FOUND, page::INDEX)),
        }
    }

    fn story(&self, id: &str) -> Result<Value, String> {
        let id = id.trim_start_matches("urn:remora:call:").parse()?;
        let forgotten = "no story of that call is kept (any more), or it was one of many like it; /explain lists those that are";
        self.memory.get(id).map(|story| story.to_value(id)).ok_or_else(|| forgotten.into())
    }

    async fn difference(&self) -> Result<(StatusCode, Value), Page> {
        let Ok(_only_one) = self.comparing.try_lock() else {
            let busy = "the view is being compared already; ask again in a few seconds\n";
            return Err(text(StatusCode::SERVICE_UNAVAILABLE, busy));
        };
        Ok(match diff::page(&self.directory, &self.source).await {
            Ok(shown) => (StatusCode::OK, shown),
            Err(shown) => (StatusCode::SERVICE_UNAVAILABLE, shown),
        })
    }

    async fn quotas(&self, name: &str) -> Result<Value, Page> {
        let entry = self.entry(name).await?;
        let Ok(_only_one) = self.comparing.try_lock() else {
            let busy = "the registry is being read for another page already; ask again in a few seconds\n";
            return Err(text(StatusCode::SERVICE_UNAVAILABLE, busy));
        };
        Ok(registry::shown(&self.source, &entry).await)
    }

    async fn entry(&self, name: &str) -> Result<Arc<Entry>, Page> {
        let missing = |reason: String| text(StatusCode::NOT_FOUND, &(reason + "\n"));
        let name = ServiceName::new(name).map_err(|bad| missing(bad.to_string()))?;
        let deadline = std::time::Instant::now() + Duration::from_secs(2);
        match self.directory.load(&name, deadline).await {
            Ok(Some(entry)) => Ok(entry),
            Ok(None) => Err(missing(format!("service \"{name}\" is not in the registry"))),
            Err(unavailable) => Err(text(StatusCode::SERVICE_UNAVAILABLE, &(unavailable.0 + "\n"))),
        }
    }

    fn readiness(&self) -> Page {
        let (draining, ready) = (*self.drain.borrow(), self.source.ready());
        let unready = |why| text(StatusCode::SERVICE_UNAVAILABLE, why);
        if draining {
            return unready("draining\n");
        }
        if !self.listening.load(Relaxed) {
            return unready("not listening yet\n");
        }
        if !ready {
            return unready("the registry was not reached yet\n");
        }
        let status = self.source.status();
        let shown = match (status.connected, status.believed) {
            (true, _) => "ready\n",
            (false, true) => "ready, degraded: the registry can't be reached now\n",
            (false, false) => "ready, degraded: the registry is reached, but not believed; see /registry\n",
        };
        text(StatusCode::OK, shown)
    }

    fn trust(&self) -> Page {
        match self.source.trust() {
            Ok(()) => {
                tracing::warn!("the registry that is reached is believed, as asked at the admin port");
                text(StatusCode::OK, "the registry that is reached is believed from now on\n")
            }
            Err(why) => text(StatusCode::CONFLICT, &format!("nothing to trust: {why}\n")),
        }
    }

    fn drain(&self) -> Page {
        tracing::info!("draining, as asked at the admin port");
        self.drain.send_replace(true);
        text(
            StatusCode::OK,
            "draining: own providers leave the registry, calls go on until the process ends\n",
        )
    }
}

const PATHS: [&str; 9] =
    ["", "/livez", "/readyz", "/metrics", "/services", "/cache/diff", "/registry", "/config", "/explain"];

/// DNS rebinding: a page of another site has its own name in `Host`, or in `Origin`.
fn is_foreign(request: &Request<Incoming>) -> bool {
    let own = |value: &str| {
        let host = value.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let bare = host.map_or(value, |(host, _)| host).trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    let headers = request.headers();
    let host = headers.get(header::HOST).map(|host| host.to_str().is_ok_and(own));
    let origin = headers.get(header::ORIGIN).map(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_some_and(|(_, host)| own(host))
    });
    host == Some(false) || origin == Some(false)
}

/// The body is the level.
async fn log_level(request: &mut Request<Incoming>) -> Page {
    let body = Limited::new(request.body_mut(), 256).collect().await.map(http_body_util::Collected::to_bytes);
    let level = body.map(|body| String::from_utf8_lossy(&body).trim().to_owned()).unwrap_or_default();
    match telemetry::set_log_level(&level) {
        Ok(()) => text(StatusCode::OK, &format!("log level is {level}\n")),
        Err(reason) => text(StatusCode::BAD_REQUEST, &(reason + "; send the level as the body\n")),
    }
}

fn not_allowed(method: &'static str) -> Page {
    let mut page = text(StatusCode::METHOD_NOT_ALLOWED, &format!("this page is for {method}\n"));
    page.headers_mut().insert(header::ALLOW, HeaderValue::from_static(method));
    page
}

fn metrics(body: String) -> Page {
    with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
}

fn text(status: StatusCode, body: &str) -> Page {
    with_type(status, "text/plain; charset=utf-8", body.to_owned())
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Page {
    let mut page = Response::new(Full::new(Bytes::from(body)));
    *page.status_mut() = status;
    page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    page
}
