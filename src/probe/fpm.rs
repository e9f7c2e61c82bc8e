//! php-fpm's status page: whether it lives, and whether calls wait there for a free process.

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use super::exchange;
use crate::names::Address;

/// Largest page, in bytes; one with `full` has a row for each process.
const MAX_PAGE: usize = 256 << 10;

/// Its processes, where calls wait for them: as many calls as it can answer at once, for now. fpm's page does
/// not tell `pm.max_children`, so that nothing is known while none waits. Where it can't see a queue, a static
/// pool without an idle process is taken for one where calls wait.
pub(super) async fn ask(address: &Address, path: &str) -> Result<Option<u32>, String> {
    let joint = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{joint}json");
    let page = exchange(address, &path, |answer| async {
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_PAGE).collect().await;
        let body = body.map_err(|e| format!("GET {path}: {e}"))?.to_bytes();
        if status == 200 { Ok(body) } else { Err(format!("GET {path} answered {status}")) }
    });
    read(&page.await?)
}

fn read(page: &Bytes) -> Result<Option<u32>, String> {
    let page: Value = serde_json::from_slice(page).unwrap_or_default();
    let field = |name: &str| {
        page[name].as_u64().ok_or_else(|| format!("no \"{name}\" in it: is it php-fpm's `pm.status_path`?"))
    };
    let (waiting, processes) = (field("listen queue")?, field("total processes")?);
    // Linux tells fpm nothing of the queue of a unix socket: both read 0 there, however many calls wait
    let is_blind = page["listen queue len"] == 0;
    let is_spent = page["process manager"] == "static" && page["idle processes"] == 0;
    let is_busy = waiting > 0 || (is_blind && is_spent);
    Ok(is_busy.then_some(processes.min(u64::from(u32::MAX)) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As php-fpm 8.2 writes it.
    fn page(waiting: u32) -> Bytes {
        let text = r#"{"pool":"www","process manager":"static","start time":1795666090,"start since":2,
            "accepted conn":2,"listen queue":WAITING,"max listen queue":3,"listen queue len":4096,
            "idle processes":0,"active processes":5,"total processes":5,"max active processes":5,
            "max children reached":0,"slow requests":0}"#;
        text.replace("WAITING", &waiting.to_string()).into()
    }

    #[test]
    fn a_pool_on_a_unix_socket_is_busy_when_it_is_static_and_none_is_idle() {
        let busy = String::from_utf8(page(0).to_vec()).unwrap().replace("4096", "0");
        assert_eq!(read(&busy.clone().into()), Ok(Some(5)));
        for other in
            [busy.replace("static", "dynamic"), busy.replace("\"idle processes\":0", "\"idle processes\":1")]
        {
            assert_eq!(read(&other.into()), Ok(None));
        }
    }

    #[test]
    fn its_processes_count_while_calls_wait_for_them() {
        assert_eq!(read(&page(3)), Ok(Some(5)));
        assert_eq!(read(&page(0)), Ok(None));
        for other in ["", "<html>", "{}", "{\"listen queue\":\"many\",\"total processes\":1}", "[]"] {
            assert!(read(&Bytes::from(other)).unwrap_err().contains("php-fpm"), "{other}");
        }
    }
}
