//! The commands of the `remora` binary.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::config::{self, Config, Problems};
use crate::{registry as source, telemetry, tls};

mod check;
mod demo;
mod registry;
mod remove;
mod run;
mod transfer;
mod yar;

/// A sidecar for PHP hosts: calls services over JSON and Yar, with ZooKeeper as the registry.
#[derive(Debug, Parser)]
#[command(name = "remora", version, arg_required_else_help = true)]
struct Remora {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar
    Run(ConfigFile),
    /// Run the sidecar with two small providers, and show what to try
    Demo,
    /// Tell what is wrong with a configuration
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// Also reach the registry and read what stands in it
        #[arg(long)]
        connect: bool,
    },
    /// Read and write the registry's entries
    Registry(registry::Args),
    /// Look into Yar messages, make them, call Yar servers
    #[command(subcommand)]
    Yar(yar::Command),
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration; without it every default holds
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command the arguments name: exit code 0 for done, 1 for failed, 2 for wrong usage.
pub fn main() -> ExitCode {
    tls::install();
    // wrong usage ends in here, with 2
    let outcome = match Remora::parse().command {
        Command::Run(file) => logged("info", || configuration(file.config.as_deref()).and_then(run::run)),
        Command::Demo => logged("warn,call=info", demo::run),
        Command::Check { file, connect } => check::run(file.config.as_deref(), connect),
        Command::Registry(args) => registry::run(args),
        Command::Yar(command) => yar::run(&command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            tell(&reason);
            ExitCode::FAILURE
        }
    }
}

/// Runs what keeps running, with its log on stderr.
fn logged(level: &str, run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let _log = telemetry::start_log(level)?;
    run()
}

/// The configuration in `file`, with this process's environment over it.
pub(crate) fn configuration(file: Option<&Path>) -> Result<Config, String> {
    load(file).map_err(|problems| format!("the configuration can't be used\n{problems}"))
}

/// The same, the files it names looked into as well.
fn load(file: Option<&Path>) -> Result<Config, Problems> {
    let config = config::load(file, config::environment())?;
    source::verify(&config.registry)?;
    Ok(config)
}

/// The runtime of everything but calls.
pub(crate) fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|e| format!("no runtime: {e}"))
}

/// Says on stderr what is no result.
pub(crate) fn tell(note: &str) {
    // nobody to tell where stderr is closed
    let _ = writeln!(io::stderr(), "remora: {note}");
}

/// Writes a result to stdout; a reader that left, as `head` does, is no failure.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(format!("stdout: {e}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_do_not_contradict_each_other() {
        Remora::command().debug_assert();
    }
}
