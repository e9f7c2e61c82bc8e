//! Ports, signals, and waiting for what happens in other processes.

use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Polls something outside this process until it holds; panics with `what` at the deadline.
pub fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    eventually_some(what, within, || holds().then_some(()));
}

/// As `eventually`, for a condition that gives a value.
pub fn eventually_some<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(value) = ask() {
            return value;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A TCP port that no other test takes while this value lives.
///
/// Listeners with `SO_REUSEPORT` would share a port without an error, so a UDP socket on the
/// same number is the lock. The range lies below the ports which the kernel gives to clients.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _lock: UdpSocket,
}

impl Port {
    pub fn free() -> Port {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        const FIRST: u16 = 10_000;
        const SPAN: u16 = 20_000;
        let offset = (std::process::id().wrapping_mul(613) % u32::from(SPAN)) as u16;
        for _ in 0..SPAN {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (offset.wrapping_add(step)) % SPAN;
            let Ok(lock) = UdpSocket::bind(("127.0.0.1", number)) else {
                continue;
            };
            // Not by listening on it: a child that another thread starts just then would hold that
            // listener until it executes, and be taken for the program that is waited for.
            if TcpStream::connect(("127.0.0.1", number)).is_err() {
                return Port { number, _lock: lock };
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + SPAN);
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

/// Sends a signal by the shell's own `kill`; a pid with `-` before it means its group.
pub fn signal(name: &str, pid: &str) {
    let _ =
        Command::new("sh").arg("-c").arg(format!("kill -s {name} -- {pid}")).stderr(Stdio::null()).status();
}
