//! A network between clients and servers that a test can break and mend.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// What happens to the bytes of every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// They arrive.
    Passes,
    /// No new connection is taken.
    Refuses,
    /// They wait; new connections are taken and wait too.
    Stalls,
    /// They vanish without a word, in the directions that are true.
    Loses { to_server: bool, to_client: bool },
}

const LOSES_ANSWERS: Flow = Flow::Loses { to_server: false, to_client: true };

/// What becomes of a connection that lost bytes, once bytes arrive again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It is reset, as by a server that knows nothing of it.
    Reset,
    /// It stays silent for ever, as behind a firewall that forgot it.
    Silent,
}

#[derive(Debug, Clone, Copy)]
struct State {
    flow: Flow,
    lost: Lost,
    /// Grows when every connection of before is to end.
    ended: u64,
    by_reset: bool,
    /// Once these bytes are on their way to a server, this is how it goes on.
    turn: Option<(&'static [u8], Flow)>,
}

type Network = watch::Sender<State>;

/// One port per server; all share one fate. Gone when dropped.
pub struct TcpProxy {
    state: Network,
    taken: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TcpProxy {
    /// Carries what comes to the first address of each pair to the second.
    pub fn start(pairs: Vec<(SocketAddr, SocketAddr)>) -> TcpProxy {
        let healthy = State { flow: Flow::Passes, lost: Lost::Reset, ended: 0, by_reset: false, turn: None };
        let state = Network::new(healthy);
        let taken = Arc::<AtomicUsize>::default();
        let (stop, stopped) = oneshot::channel();
        let (network, counter) = (state.clone(), taken.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut doors = JoinSet::new();
                for (own, server) in pairs {
                    doors.spawn(door(own, server, network.clone(), counter.clone()));
                }
                let _ = stopped.await;
            });
        });
        TcpProxy { state, taken, stop: Some(stop), thread: Some(thread) }
    }

    /// So many connections were taken so far, whatever became of them.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Ends every connection as by the server, and takes no new one.
    pub fn cut(&self) {
        self.end(false);
    }

    /// Ends every connection with a reset, and takes no new one.
    pub fn reset(&self) {
        self.end(true);
    }

    fn end(&self, by_reset: bool) {
        self.state.send_modify(|state| {
            *state = State { flow: Flow::Refuses, ended: state.ended + 1, by_reset, ..*state };
        });
    }

    pub fn stall(&self) {
        self.state.send_modify(|state| state.flow = Flow::Stalls);
    }

    pub fn lose(&self, to_server: bool, to_client: bool, lost: Lost) {
        self.state.send_modify(|state| {
            *state = State { flow: Flow::Loses { to_server, to_client }, lost, ..*state };
        });
    }

    /// The next bytes to a server that hold `request` arrive, and nothing reaches clients after them.
    pub fn lose_answers_after(&self, request: &'static [u8]) {
        self.state.send_modify(|state| state.turn = Some((request, LOSES_ANSWERS)));
    }

    /// Whether the request of `lose_answers_after` or `heal_until` passed.
    pub fn loses_answers(&self) -> bool {
        self.state.borrow().flow == LOSES_ANSWERS
    }

    /// The next bytes to a server that hold `request` arrive, and answers to them wait.
    pub fn stall_after(&self, request: &'static [u8]) {
        self.state.send_modify(|state| state.turn = Some((request, Flow::Stalls)));
    }

    pub fn stalls(&self) -> bool {
        self.state.borrow().flow == Flow::Stalls
    }

    pub fn heal(&self) {
        self.state.send_modify(|state| *state = State { flow: Flow::Passes, turn: None, ..*state });
    }

    /// Bytes arrive again, until some that hold `request` did: nothing reaches clients after them.
    pub fn heal_until(&self, request: &'static [u8]) {
        let turn = Some((request, LOSES_ANSWERS));
        self.state.send_modify(|state| *state = State { flow: Flow::Passes, turn, ..*state });
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn door(own: SocketAddr, server: SocketAddr, network: Network, taken: Arc<AtomicUsize>) {
    let mut state = network.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let Ok(_) = state.wait_for(|state| state.flow != Flow::Refuses).await else { return };
        // just closed, it may be held for a moment by a process that is being started
        let Ok(listener) = TcpListener::bind(own).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let mut refusing = state.clone();
        loop {
            tokio::select! {
                _ = refusing.wait_for(|state| state.flow == Flow::Refuses) => break,
                Some(_) = connections.join_next() => {}
                Ok((client, _)) = listener.accept() => {
                    // taken with the count as it is now: what ends the others later ends this one too
                    let ended = state.borrow().ended;
                    taken.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(carry(client, server, network.clone(), ended));
                }
            }
        }
    }
}

/// Why a connection ends.
enum End {
    /// One side closed, or it was cut.
    Closed,
    Reset,
}

async fn carry(client: TcpStream, server: SocketAddr, network: Network, ended: u64) {
    let mut upstream = None;
    if let End::Reset = exchange(&client, server, &mut upstream, &network, ended).await {
        for stream in [Some(&client), upstream.as_ref()].into_iter().flatten() {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

async fn exchange(
    client: &TcpStream,
    server: SocketAddr,
    upstream: &mut Option<TcpStream>,
    network: &Network,
    ended: u64,
) -> End {
    let _ = client.set_nodelay(true);
    let mut state = network.subscribe();
    let (mut up, mut down) = (Half { spied: Some(network), ..Half::default() }, Half::default());
    loop {
        let now = *state.borrow_and_update();
        if now.ended != ended {
            return if now.by_reset { End::Reset } else { End::Closed };
        }
        let lossy = up.lossy || down.lossy;
        (up.loses, down.loses) = match now.flow {
            Flow::Passes if lossy && now.lost == Lost::Reset => return End::Reset,
            // silent until it is given up
            Flow::Passes if lossy => (true, true),
            Flow::Passes | Flow::Refuses => (false, false),
            Flow::Loses { to_server, to_client } => (to_server, to_client),
            Flow::Stalls => {
                // nothing is read meanwhile, not even an end
                if state.changed().await.is_err() {
                    return End::Closed;
                }
                continue;
            }
        };
        if upstream.is_none() && !up.loses {
            let Ok(stream) = TcpStream::connect(server).await else { return End::Closed };
            let _ = stream.set_nodelay(true);
            *upstream = Some(stream);
        }
        let over = tokio::select! {
            changed = state.changed() => changed.is_err(),
            over = up.pass(Some(client), upstream.as_ref()) => over,
            over = down.pass(upstream.as_ref(), Some(client)) => over,
        };
        if over || (up.ended && (down.ended || upstream.is_none())) {
            return End::Closed;
        }
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Half<'n> {
    /// Whose state the bytes of this direction may change.
    spied: Option<&'n Network>,
    /// Read, but not written yet.
    ahead: Vec<u8>,
    loses: bool,
    /// It lost something, if only the word that there is no more.
    lossy: bool,
    ended: bool,
}

impl Half<'_> {
    /// Passes some bytes on, or loses them; true where the connection is over. May be given up at any
    /// time: what was read and not written stays in `ahead`.
    async fn pass(&mut self, from: Option<&TcpStream>, to: Option<&TcpStream>) -> bool {
        let Some(from) = from.filter(|_| !self.ended) else { return std::future::pending().await };
        match self.step(from, to).await {
            Ok(true) => false,
            // that it ended is lost too
            Ok(false) | Err(_) if self.loses => {
                (self.lossy, self.ended) = (true, true);
                false
            }
            Ok(false) | Err(_) => true,
        }
    }

    /// Before the bytes are written: no answer to them can be on its way yet.
    fn spy(&self) {
        let Some(network) = self.spied else { return };
        let holds = |request: &[u8]| self.ahead.windows(request.len()).any(|part| part == request);
        network.send_if_modified(|state| {
            let turn = state.turn.take_if(|(request, _)| holds(request));
            if let Some((_, flow)) = turn {
                *state = State { flow, lost: Lost::Reset, ..*state };
            }
            turn.is_some()
        });
    }

    /// False at the end of the stream.
    async fn step(&mut self, from: &TcpStream, to: Option<&TcpStream>) -> io::Result<bool> {
        if self.ahead.is_empty() {
            from.readable().await?;
            let mut part = vec![0; 64 << 10];
            match from.try_read(&mut part) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    self.ahead.extend_from_slice(&part[..n]);
                    self.spy();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        let Some(to) = to.filter(|_| !self.loses) else {
            self.ahead.clear();
            self.lossy = true;
            return Ok(true);
        };
        while !self.ahead.is_empty() {
            to.writable().await?;
            match to.try_write(&self.ahead) {
                Ok(written) => drop(self.ahead.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
