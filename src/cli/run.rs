//! `remora run`: the sidecar.

use crate::app::App;
use crate::config::Config;

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(config: Config) -> Result<(), String> {
    let runtime = super::runtime()?;
    runtime.block_on(async {
        let app = App::start(config).await.map_err(|e| e.to_string())?;
        tracing::info!(listening = app.listening().join(" "), admin = app.admin_at(), "remora takes calls");
        app.run_until_signal().await;
        Ok(())
    })
}
