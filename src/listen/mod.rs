//! Doors for callers: the accept loop, the drain.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::gateway::Worker;
use crate::socket::{Bound, Listener, pause_after, stopped};

mod caller;
pub mod http;

/// How long and how much of a rejected body is read away after the answer, so that the answer arrives.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 << 20;

/// Accepts on all of a worker's sockets until `stop`, then ends when the last connection does.
///
/// No more connections than `seats` are open at once, those of other workers included.
pub async fn serve(
    worker: Arc<Worker>,
    sockets: Vec<Bound>,
    seats: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
) {
    let mut loops = JoinSet::new();
    for socket in sockets {
        match Listener::adopt(socket) {
            Ok(listener) => {
                loops.spawn(accept_loop(worker.clone(), listener, seats.clone(), stop.clone()));
            }
            Err(error) => tracing::error!(%error, "a listener can't be served"),
        }
    }
    while loops.join_next().await.is_some() {}
}

async fn accept_loop(
    worker: Arc<Worker>,
    listener: Listener,
    seats: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let each_stop = stop.clone();
    // a seat comes first: without one the kernel's queue is the better place to wait
    let next = async || {
        let seat = seats.clone().acquire_owned().await;
        listener.accept().await.map(|stream| (seat, stream))
    };
    let take = |(seat, stream), connections: &mut JoinSet<()>| {
        let served = http::serve(worker.clone(), stream, each_stop.clone());
        connections.spawn(async move {
            served.await;
            drop(seat);
        });
    };
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            accepted = next() => match accepted {
                Ok(accepted) => take(accepted, &mut connections),
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    // callers that the kernel has let in already are served, not reset
    loop {
        tokio::select! {
            biased;
            Ok(accepted) = next() => take(accepted, &mut connections),
            () = std::future::ready(()) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Reads away what the caller still sends: closing at once would reset the connection and lose the answer.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let drain = async {
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut buffer = vec![0; 16 << 10];
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    // a caller that keeps sending for longer has had its answer by now
    let _ = tokio::time::timeout(LINGER, drain).await;
}
