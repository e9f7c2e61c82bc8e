//! Real PHP providers that are killed, that hang, and that come back, under load.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use support::php::Php;
use support::{Remora, eventually, service_with};

const SOON: Duration = Duration::from_secs(60);
const APIS: [(&str, &str); 2] = [("get", "{ path: /user/get }"), ("buy", "{ path: /echo, method: POST }")];
/// Callers of either kind: at most so many calls of it are under way at once.
const CALLERS: usize = 4;

#[derive(Default)]
struct Tally {
    calls: AtomicUsize,
    reads_failed: AtomicUsize,
    writes_failed: AtomicUsize,
    stop: AtomicBool,
}

impl Tally {
    /// Callers that read (GET) and that buy (POST, which may not run twice), until told to stop.
    fn caller(&self, remora: &Remora, reads: bool) {
        let mut conn = remora.conn();
        while !self.stop.load(SeqCst) {
            let answer = match reads {
                true => conn.request("GET", "/user/get?id=1", &[], b"").unwrap(),
                false => conn.request("POST", "/user/buy", &[], b"{\"n\":1}").unwrap(),
            };
            if answer.status != 200 {
                let id = answer.header("x-remora-call").unwrap_or_default();
                eprintln!("{}\n{}", answer.text(), remora.admin("GET", &format!("/explain/{id}")).text());
                if reads { &self.reads_failed } else { &self.writes_failed }.fetch_add(1, SeqCst);
            }
            self.calls.fetch_add(1, SeqCst);
        }
    }

    fn more(&self, calls: usize) {
        let than = self.calls.load(SeqCst) + calls;
        eventually("more calls", SOON, || self.calls.load(SeqCst) >= than);
    }

    fn failed(&self) -> (usize, usize) {
        (self.reads_failed.load(SeqCst), self.writes_failed.load(SeqCst))
    }
}

fn sidecar(policy: &str, providers: &[&Php]) -> Remora {
    let addresses: Vec<_> = providers.iter().map(|php| php.address.as_str()).collect();
    let data = format!("access: open, policy: {{ balance: round_robin, {policy} }}");
    Remora::embedded(&service_with("user", &data, &APIS, &addresses)).start()
}

/// Sets it when dropped, also where a test fails.
struct Stop<'t>(&'t AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// What `during` does while callers of both kinds call without a pause.
fn under_load(remora: &Remora, during: impl FnOnce(&Tally)) -> Tally {
    let tally = Tally::default();
    std::thread::scope(|scope| {
        for caller in 0..2 * CALLERS {
            let tally = &tally;
            scope.spawn(move || tally.caller(remora, caller % 2 == 0));
        }
        let _stop = Stop(&tally.stop);
        tally.more(200);
        during(&tally);
    });
    tally
}

fn circuits(remora: &Remora) -> Vec<String> {
    let page = remora.page("/services/user");
    let providers = page["providers"].as_array().unwrap().clone();
    providers.iter().map(|provider| provider["circuit"]["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn kill_9_under_load_costs_no_call_that_reads_and_no_more_than_those_in_flight_of_others() {
    let (stays, mut dies) = (Php::json(), Php::json());
    let remora = sidecar("", &[&stays, &dies]);
    let tally = under_load(&remora, |tally| {
        dies.kill();
        tally.more(500);
    });
    let (reads, writes) = tally.failed();
    assert_eq!(reads, 0, "of {}", tally.calls.load(SeqCst));
    assert!(writes <= CALLERS, "{writes} of {}", tally.calls.load(SeqCst));
}

#[test]
fn a_provider_that_hangs_is_left_alone_and_called_again_when_it_goes_on() {
    let (stays, hangs) = (Php::json(), Php::json());
    let policy = "timeout: 1s, circuit: { consecutive: 3, open: 500ms, max_open: 1s }";
    let remora = sidecar(policy, &[&stays, &hangs]);
    let tally = under_load(&remora, |_| {
        hangs.signal("STOP");
        eventually("it is left alone", SOON, || circuits(&remora).iter().any(|circuit| circuit != "closed"));
        hangs.signal("CONT");
        eventually("it is well again", SOON, || circuits(&remora) == ["closed", "closed"]);
    });
    // each caller has one call there at a time, and each of these fails once before three in a row are seen
    let (reads, writes) = tally.failed();
    assert!(reads + writes <= 8 * CALLERS, "{reads} and {writes}");
    let tally = under_load(&remora, |tally| tally.more(200));
    assert_eq!(tally.failed(), (0, 0), "both are well");
}

#[test]
fn half_dead_all_dead_and_back_again() {
    let mut providers: Vec<_> = (0..4).map(|_| Php::json()).collect();
    // a call may meet both of the dead ones, and a third attempt costs what a burst of such calls may cost
    let policy =
        "retries: 2, retry_budget: \"100%+100\", circuit: { consecutive: 2, open: 300ms, max_open: 500ms }";
    let remora = sidecar(policy, &providers.iter().collect::<Vec<_>>());
    let tally = under_load(&remora, |tally| {
        providers.iter_mut().take(2).for_each(Php::kill);
        tally.more(300);
    });
    assert_eq!(tally.failed().0, 0, "half of them still serve every call that reads");

    providers.iter_mut().skip(2).for_each(Php::kill);
    eventually("nobody is left", SOON, || remora.get("/user/get").kind().as_deref() == Some("circuit-open"));
    providers.iter_mut().for_each(Php::come_back);
    eventually("all are well again", SOON, || {
        remora.get("/user/get");
        circuits(&remora).iter().all(|circuit| circuit == "closed")
    });
    let tally = under_load(&remora, |tally| tally.more(100));
    assert_eq!(tally.failed(), (0, 0));
}
