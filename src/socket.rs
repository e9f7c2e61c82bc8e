//! Sockets that calls and operators come in by, bound before anything runs.

use std::fs::Metadata;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use crate::config::Bind;

/// Connections the kernel holds until a worker takes them: PHP comes in bursts.
const BACKLOG: i32 = 4096;

/// A bound socket, not yet served by a runtime.
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// A connection of either kind.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix socket.
    Unix(UnixStream),
}

/// A socket served by this runtime.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix socket.
    Unix(UnixListener),
}

/// Binds one socket per worker to the same address; all fail if somebody else has it.
pub fn bind(bind: &Bind, workers: usize) -> io::Result<Vec<Bound>> {
    match bind {
        Bind::Tcp(address) => bind_tcp(*address, workers),
        Bind::Unix(path) => {
            let first = bind_unix(path)?;
            let mut all = Vec::with_capacity(workers);
            for _ in 1..workers {
                all.push(Bound::Unix(first.try_clone()?));
            }
            all.push(Bound::Unix(first));
            Ok(all)
        }
    }
}

/// Where a bound socket is reached: the port it really has, or what `bind` says.
pub fn address(bound: &Bound, bind: &Bind) -> String {
    match bound {
        Bound::Tcp(listener) => listener.local_addr().map_or_else(|_| bind.to_string(), |at| at.to_string()),
        Bound::Unix(_) => bind.to_string(),
    }
}

fn bind_tcp(address: SocketAddr, workers: usize) -> io::Result<Vec<Bound>> {
    // without SO_REUSEPORT first: a port that somebody else serves is an error, not shared; who listened here
    // would let callers in only to reset them
    drop(tcp(address, false)?);
    let mut all = Vec::with_capacity(workers);
    let mut address = address;
    for _ in 0..workers {
        let socket = tcp(address, true)?;
        socket.listen(BACKLOG)?;
        if let Some(actual) = socket.local_addr()?.as_socket() {
            address = actual;
        }
        all.push(Bound::Tcp(socket.into()));
    }
    Ok(all)
}

fn tcp(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // connections inherit it; a refused option costs latency, not the listener
    let _ = socket.set_tcp_nodelay(true);
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::net;
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            let what = format!("{} stands there, not a socket", kind_of(&found));
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        if net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        // left behind by a process that was killed
        std::fs::remove_file(path)?;
    }
    let listener = net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    // like the loopback port, it is open to every user of the host
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

fn kind_of(found: &Metadata) -> &'static str {
    if found.is_file() {
        "a file"
    } else if found.is_dir() {
        "a directory"
    } else if found.is_symlink() {
        "a symbolic link"
    } else {
        "something else"
    }
}

/// The file of a socket that this process bound; removed with it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device, inode and time of making: another process may have put its own there since, and
    /// inodes are used again.
    id: (u64, u64, i64, i64),
}

impl SocketFile {
    /// The file of a socket just bound; none for TCP.
    pub fn of(bind: &Bind) -> Option<Self> {
        let Bind::Unix(path) = bind else { return None };
        Some(Self { path: path.clone(), id: id_of(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if id_of(&self.path) == Some(self.id) {
            // the next start takes away what stays
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn id_of(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec()))
}

/// Waits for the word to stop, or for whoever would give it to be gone.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // the guard in the result must not be held
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Out of file descriptors is not the end: wait until some are back.
pub async fn pause_after(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::warn!(%error, "no connection can be taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Listener {
    /// Hands a bound socket to this runtime.
    pub fn adopt(socket: Bound) -> io::Result<Self> {
        Ok(match socket {
            Bound::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    /// The one address that all its connections reach, where that is so.
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().filter(|at| !at.ip().is_unspecified()),
            Self::Unix(_) => None,
        }
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?.0)),
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

impl Stream {
    /// The address the caller reached; `None` on a unix socket.
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// The user at the other end, by the kernel's word; `None` where it has none.
    pub fn user(&self) -> Option<u32> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(stream) => stream.peer_cred().ok().map(|peer| peer.uid()),
        }
    }

    /// Waits until the connection is found broken; a regular end of the other side is none.
    pub async fn broken(&self) {
        // an error here is one of the runtime: then nothing can be waited for
        let _ = match self {
            Self::Tcp(stream) => stream.ready(Interest::ERROR).await,
            Self::Unix(stream) => stream.ready(Interest::ERROR).await,
        };
    }

    /// Ends it so that the other side sees a failure, where the kind of socket can say so.
    pub fn abort(self) {
        if let Self::Tcp(stream) = &self {
            // without it the end just looks regular
            let _ = stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
