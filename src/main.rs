//! The `remora` binary.

fn main() -> std::process::ExitCode {
    remora::cli::main()
}
