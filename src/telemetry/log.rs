//! The log on stderr: its lines, its level, and what nobody read.

use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, reload};

/// Lines that wait for a reader of the log; those beyond are dropped and counted.
const LINES_WAITING: usize = 8192;

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    level: reload::Handle<EnvFilter, tracing_subscriber::Registry>,
    dropped: ErrorCounter,
}

/// The log; lines that wait are written when it is dropped.
#[derive(Debug)]
pub struct OpenLog {
    _writer: WorkerGuard,
}

/// Starts the log on stderr, text on a terminal and JSON otherwise; `level` as in [`set_log_level`].
pub fn start_log(level: &str) -> Result<OpenLog, String> {
    let (filter, level) = reload::Layer::new(filter(level)?);
    let lines = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_WAITING);
    let (writer, guard) = lines.thread_name("log").finish(stderr());
    let dropped = writer.error_counter();
    let log = tracing_subscriber::registry().with(filter);
    let started = if stderr().is_terminal() {
        log.with(fmt::layer().with_writer(writer)).try_init()
    } else {
        log.with(fmt::layer().json().flatten_event(true).with_writer(writer)).try_init()
    };
    started.map_err(|e| e.to_string())?;
    // a second start fails above
    let _ = LOG.set(Log { level, dropped });
    Ok(OpenLog { _writer: guard })
}

/// Lines that were dropped because nobody read the log.
pub fn log_lines_dropped() -> u64 {
    LOG.get().map_or(0, |log| log.dropped.dropped_lines() as u64)
}

/// `error`, `warn`, `info`, `debug`, `trace`, or `off`; for parts `call=warn,remora=debug`.
pub fn set_log_level(level: &str) -> Result<(), String> {
    let filter = filter(level)?;
    let log = LOG.get().ok_or("the log was not started by this program")?;
    log.level.reload(filter).map_err(|e| e.to_string())
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    let bad = |e| {
        format!("\"{}\" is no log level such as info or call=warn,remora=debug: {e}", level.escape_default())
    };
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |part: &str| levels.contains(&part.rsplit('=').next().unwrap_or(part).trim());
    if let Some(part) = level.split(',').find(|part| !known(part)) {
        let part = part.trim().escape_default();
        return Err(format!(
            "\"{part}\" is no log level; known: {}, or call=warn,remora=debug",
            levels.join(", ")
        ));
    }
    EnvFilter::builder().parse(level).map_err(bad)
}
