//! Asks providers whether they live: those of this host (here), and those of the view.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::model::{Ask, Health};
use crate::names::Address;

mod fpm;
mod peers;

pub use peers::peers;

/// Longest pause while the provider is not healthy, so that a start is noticed soon.
const EAGER: Duration = Duration::from_millis(500);
/// Largest head of an answer; hyper asks for 8 KiB at least.
const MAX_HEAD: usize = 16 << 10;

/// Checks `address` again and again and tells `healthy` of every change; enough checks in a row decide
/// the first time too.
///
/// Ends when `stop` does, or when nobody listens to `healthy` any more.
pub async fn watch(
    address: Address,
    check: Health,
    healthy: watch::Sender<Option<bool>>,
    stop: impl Future<Output = ()>,
) {
    tokio::select! {
        never = check_forever(&address, &check, &healthy) => match never {},
        () = healthy.closed() => {}
        () = stop => {}
    }
}

async fn check_forever(
    address: &Address,
    check: &Health,
    healthy: &watch::Sender<Option<bool>>,
) -> Infallible {
    let mut state = Streak::new(check.rise, check.fall);
    loop {
        let outcome = timeout(check.timeout, ask(address, &check.ask)).await;
        let outcome = outcome.unwrap_or_else(|_| Err("no answer in time".into()));
        if state.note(outcome.is_ok()) {
            healthy.send_replace(state.healthy);
            match outcome {
                Ok(_) => tracing::info!(%address, "provider is healthy"),
                Err(reason) => tracing::warn!(%address, reason, "provider is not healthy"),
            }
        }
        sleep(pause(check.interval, state.healthy == Some(true), fastrand::f64())).await;
    }
}

/// One check over a connection of its own: how many calls it can take, where it says so; fails with the reason.
async fn ask(address: &Address, ask: &Ask) -> Result<Option<u32>, String> {
    let path = match ask {
        Ask::Http(path) => path,
        Ask::Tcp => return reach(address).await.map(|_| None),
        Ask::Fpm(path) => return fpm::ask(address, path).await,
    };
    exchange(address, path, |answer| async move {
        match answer.status().as_u16() {
            200..=399 => Ok(None),
            bad => Err(format!("GET {path} answered {bad}")),
        }
    })
    .await
}

/// GETs `path` over a connection of its own and reads the answer with `read`.
async fn exchange<T, R: Future<Output = Result<T, String>>>(
    address: &Address,
    path: &str,
    read: impl FnOnce(Response<Incoming>) -> R,
) -> Result<T, String> {
    let stream = reach(address).await?;
    let request = Request::get(path)
        .header(header::HOST, address.as_str())
        .header(header::USER_AGENT, "remora")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| format!("{path} can't be asked for: {e}"))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    // the answer may be there only after the connection has ended: its end alone decides nothing
    let drive = async {
        let _ = connection.await;
        pending::<Infallible>().await
    };
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|e| format!("it cut the check: {e}"))?;
        read(answer).await
    };
    tokio::select! {
        found = asked => found,
        never = drive => match never {},
    }
}

async fn reach(address: &Address) -> Result<TcpStream, String> {
    TcpStream::connect(address.as_str()).await.map_err(|e| format!("it can't be reached: {e}"))
}

/// `chance` is in 0..1; a tenth more or less keeps sidecars from asking in step.
fn pause(interval: Duration, healthy: bool, chance: f64) -> Duration {
    let base = if healthy { interval } else { interval.min(EAGER) };
    base.mul_f64(0.9 + 0.2 * chance)
}

/// Good or bad checks in a row, and the state that enough of them made.
#[derive(Debug)]
struct Streak {
    healthy: Option<bool>,
    last: bool,
    in_a_row: u32,
    rise: u32,
    fall: u32,
}

impl Streak {
    fn new(rise: u32, fall: u32) -> Self {
        Self { healthy: None, last: false, in_a_row: 0, rise, fall }
    }

    /// Notes one check; true when it changed the state.
    fn note(&mut self, good: bool) -> bool {
        self.in_a_row = if good == self.last { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = good;
        let enough = if good { self.rise } else { self.fall };
        let changes = self.in_a_row >= enough && self.healthy != Some(good);
        if changes {
            self.healthy = Some(good);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn quick(ask: Ask) -> Health {
        let (interval, timeout) = (Duration::from_millis(5), Duration::from_millis(200));
        Health { ask, interval, timeout, rise: 2, fall: 3 }
    }

    /// Answers each check with what `status` holds then; nothing where it is 0.
    async fn serve(listener: TcpListener, status: watch::Receiver<u16>) {
        let mut silent = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.unwrap();
            assert!(head[..read].starts_with(b"GET /health HTTP/1.1\r\n"));
            let status = *status.borrow();
            if status == 0 {
                silent.push(stream);
                continue;
            }
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    async fn provider(status: u16) -> (Address, watch::Sender<u16>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new(&listener.local_addr().unwrap().to_string()).unwrap();
        let (set, status) = watch::channel(status);
        tokio::spawn(serve(listener, status));
        (address, set)
    }

    #[test]
    fn the_state_changes_after_enough_in_a_row_and_not_before() {
        let mut streak = Streak::new(2, 3);
        let mut note = |checks: &[bool]| -> Vec<Option<bool>> {
            checks
                .iter()
                .map(|good| {
                    streak.note(*good);
                    streak.healthy
                })
                .collect()
        };
        let (good, bad) = (Some(true), Some(false));
        assert_eq!(note(&[true, false, true, true]), [None, None, None, good]);
        assert_eq!(note(&[false, false, true, false, false, false]), [good, good, good, good, good, bad]);
        assert_eq!(note(&[false, true, true]), [bad, bad, good]);
    }

    #[test]
    fn a_provider_that_never_answered_is_unhealthy_only_after_enough_checks() {
        let mut streak = Streak::new(2, 3);
        let changes: Vec<_> = (0..4).map(|_| streak.note(false)).collect();
        assert_eq!((changes.as_slice(), streak.healthy), (&[false, false, true, false][..], Some(false)));
    }

    #[test]
    fn a_pause_is_a_tenth_off_at_most_and_short_while_unhealthy() {
        let interval = Duration::from_secs(10);
        assert_eq!(pause(interval, true, 0.0), Duration::from_secs(9));
        assert_eq!(pause(interval, true, 1.0), Duration::from_secs(11));
        assert_eq!(pause(interval, false, 0.5), EAGER);
        assert_eq!(pause(Duration::from_millis(100), false, 0.5), Duration::from_millis(100));
    }

    #[tokio::test]
    async fn a_provider_that_answers_is_healthy_until_it_answers_badly_or_not_at_all() {
        let (address, set) = provider(204).await;
        let (healthy, mut seen) = watch::channel(None);
        let (_keep, stopped) = tokio::sync::oneshot::channel::<()>();
        let stop = async { drop(stopped.await) };
        let task = tokio::spawn(watch(address, quick(Ask::Http("/health".into())), healthy, stop));
        for (status, wanted) in [(302, true), (500, false), (200, true), (0, false)] {
            set.send_replace(status);
            seen.wait_for(|now| *now == Some(wanted)).await.unwrap();
        }
        drop(_keep);
        task.await.unwrap();
        assert!(seen.changed().await.is_err());
    }

    #[tokio::test]
    async fn a_port_that_opens_is_enough_for_tcp_and_a_closed_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new(&listener.local_addr().unwrap().to_string()).unwrap();
        assert_eq!(ask(&address, &Ask::Tcp).await, Ok(None));
        drop(listener);
        assert!(ask(&address, &Ask::Tcp).await.unwrap_err().starts_with("it can't be reached"));
    }

    #[tokio::test]
    async fn it_ends_when_nobody_listens() {
        let (address, _set) = provider(200).await;
        let (healthy, seen) = watch::channel(None);
        drop(seen);
        watch(address, quick(Ask::Tcp), healthy, pending()).await;
    }
}
