//! Why calls went as they did: told by the gateway, remembered for a while, shown at the admin port.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::model::{Policy, PolicyPatch};

/// Stories of failed calls that are kept,
const FAILURES: usize = 1024;
/// and of calls that went well.
const SUCCESSES: usize = 128;

/// Names one call; shown as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(u64);

/// How one call went, and why.
#[derive(Debug, Default)]
pub struct Story {
    /// When it was over.
    pub at: Option<SystemTime>,
    /// Who called, if known.
    pub caller: Option<String>,
    /// The service as called.
    pub service: String,
    /// The call was refused before it was known whether there is such a service: the name is anybody's.
    pub is_unknown: bool,
    /// The API as called.
    pub api: String,
    /// `ok` or the kind of the error.
    pub outcome: &'static str,
    /// The HTTP status the caller got.
    pub status: u16,
    /// What went wrong.
    pub detail: Option<String>,
    /// From the call's head to the end of the answer.
    pub took: Duration,
    /// What was decided on the way, in order.
    pub decided: Vec<String>,
    /// The rules in force, and where each comes from; `None` where no API was found.
    pub rules: Option<(Policy, Origins)>,
    /// Who could have been called.
    pub candidates: Vec<Candidate>,
    /// Candidates that are not listed, being too many.
    pub more_candidates: usize,
    /// Who was called.
    pub attempts: Vec<Attempt>,
}

/// Where a rule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The API's node.
    Api,
    /// The service's node.
    Service,
    /// `defaults` of the configuration.
    Configuration,
    /// Nobody set it.
    BuiltIn,
}

/// Where the fields of a policy come from, in the order of [`PolicyPatch::KNOWN`].
pub type Origins = [Origin; PolicyPatch::KNOWN.len()];

/// A provider that could have been called.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Where it listens.
    pub address: String,
    /// Why it is passed over, as things stood when the call was over; `None`: it takes calls.
    pub passed_over: Option<String>,
}

/// One try at one provider.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Where it listens.
    pub address: String,
    /// From the call's head until it began.
    pub after: Duration,
    /// Until it was decided; `None`: it was given up before.
    pub took: Option<Duration>,
    /// What came of it.
    pub how: String,
}

/// The stories that are kept.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// By service, those of unknown ones together; each with how many failed before it.
    failures: HashMap<String, VecDeque<(u64, Id, Arc<Story>)>>,
    /// How many failed in all, and how many of these are kept.
    failed: u64,
    count: usize,
    successes: VecDeque<(Id, Arc<Story>)>,
}

impl Id {
    /// One that no other call has, as far as chance goes.
    pub fn any() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let read = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        read.map(Self)
            .ok_or_else(|| "a call's id has 16 hex digits; /explain lists those that are kept".into())
    }
}

impl Memory {
    /// Keeps a story; an older one of the same kind may go for it.
    pub fn keep(&self, id: Id, story: Story) {
        let story = Arc::new(story);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = kept.keep(id, story);
        // all workers have this lock: a story with its fifty candidates is taken apart without it
        drop(kept);
        drop(forgotten);
    }

    /// What is kept of one call.
    pub fn get(&self, id: Id) -> Option<Arc<Story>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = kept.failures.values().flatten().map(|(_, known, story)| (known, story));
        let mut all = failures.chain(kept.successes.iter().map(|(known, story)| (known, story)));
        all.find(|(known, _)| **known == id).map(|(_, story)| story.clone())
    }

    /// All that is kept, the latest first: failures, then calls that went well.
    pub fn list(&self) -> Vec<(Id, Arc<Story>)> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failures: Vec<_> = kept.failures.values().flatten().cloned().collect();
        failures.sort_unstable_by_key(|(number, ..)| std::cmp::Reverse(*number));
        let failures = failures.into_iter().map(|(_, id, story)| (id, story));
        failures.chain(kept.successes.iter().rev().cloned()).collect()
    }
}

impl Kept {
    /// Gives the story that goes for it.
    fn keep(&mut self, id: Id, story: Arc<Story>) -> Option<Arc<Story>> {
        if story.outcome == "ok" {
            self.successes.push_back((id, story));
            let oldest = (self.successes.len() > SUCCESSES).then(|| self.successes.pop_front());
            return oldest.flatten().map(|(_, story)| story);
        }
        let service = if story.is_unknown { String::new() } else { story.service.clone() };
        self.failures.entry(service).or_default().push_back((self.failed, id, story));
        (self.failed, self.count) = (self.failed + 1, self.count + 1);
        if self.count > FAILURES { self.forget_one() } else { None }
    }

    /// The oldest failure of the service that has the most goes; of several such services, the oldest of all.
    fn forget_one(&mut self) -> Option<Arc<Story>> {
        let oldest = |stories: &VecDeque<(u64, Id, Arc<Story>)>| stories.front().map(|(number, ..)| *number);
        let most = self
            .failures
            .iter()
            .max_by_key(|(_, stories)| (stories.len(), std::cmp::Reverse(oldest(stories))));
        let service = most.map(|(service, _)| service.clone())?;
        let stories = self.failures.get_mut(&service)?;
        let forgotten = stories.pop_front();
        self.count -= usize::from(forgotten.is_some());
        if stories.is_empty() {
            self.failures.remove(&service);
        }
        forgotten.map(|(.., story)| story)
    }
}

impl Story {
    /// One line of it, for a list.
    pub fn summary(&self, id: Id) -> Value {
        json!({
            "id": id.to_string(),
            "ago_s": self.at.and_then(|at| at.elapsed().ok()).map_or(0, |ago| ago.as_secs()),
            "service": self.service,
            "api": self.api,
            "outcome": self.outcome,
            "detail": self.detail,
        })
    }

    /// All of it.
    pub fn to_value(&self, id: Id) -> Value {
        let rules = self.rules.as_ref().map(|(policy, origins)| rules(policy, origins));
        let candidate = |one: &Candidate| match &one.passed_over {
            Some(why) => json!({ "address": one.address, "passed_over": why }),
            None => json!({ "address": one.address }),
        };
        let attempt = |one: &Attempt| {
            json!({
                "address": one.address,
                "after_ms": millis(one.after),
                "took_ms": one.took.map(millis),
                "how": one.how,
            })
        };
        let mut shown = self.summary(id);
        let more = json!({
            "caller": self.caller,
            "status": self.status,
            "took_ms": millis(self.took),
            "decided": self.decided,
            "attempts": self.attempts.iter().map(attempt).collect::<Vec<_>>(),
            "candidates": self.candidates.iter().map(candidate).collect::<Vec<_>>(),
            "more_candidates": self.more_candidates,
            "rules": rules,
        });
        if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
            shown.extend(more);
        }
        shown
    }
}

/// Each as it would be written, and who set it.
fn rules(policy: &Policy, origins: &Origins) -> Value {
    let written = policy.to_value();
    let rule = |(field, origin): (&str, &Origin)| {
        (field.to_owned(), json!({ "value": written.get(field), "from": origin.told() }))
    };
    PolicyPatch::KNOWN.into_iter().zip(origins).map(rule).collect::<serde_json::Map<_, _>>().into()
}

impl Origin {
    fn told(self) -> &'static str {
        match self {
            Self::Api => "the api's policy",
            Self::Service => "the service's policy",
            Self::Configuration => "defaults of the configuration",
            Self::BuiltIn => "built in",
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(service: &str, outcome: &'static str) -> Story {
        Story { service: service.into(), outcome, ..Story::default() }
    }

    #[test]
    fn a_noisy_service_does_not_make_a_quiet_ones_failures_forgotten() {
        let memory = Memory::default();
        let quiet = Id::any();
        memory.keep(quiet, story("quiet", "cut"));
        for _ in 0..10 * FAILURES {
            memory.keep(Id::any(), story("noisy", "deadline"));
            memory.keep(Id::any(), story("noisy", "ok"));
        }
        assert_eq!(memory.get(quiet).unwrap().service, "quiet");
        assert_eq!(memory.list().len(), FAILURES + SUCCESSES);
        assert_eq!(memory.0.lock().unwrap().failures["noisy"].len(), FAILURES - 1);
    }

    #[test]
    fn many_noisy_services_leave_a_quiet_one_its_few() {
        let memory = Memory::default();
        let quiet: Vec<_> = (0..20).map(|_| Id::any()).collect();
        quiet.iter().for_each(|id| memory.keep(*id, story("quiet", "cut")));
        for n in 0..20 * FAILURES {
            memory.keep(Id::any(), story(&format!("noisy {}", n % 16), "deadline"));
            let made_up = Story { is_unknown: true, ..story(&n.to_string(), "no-service") };
            memory.keep(Id::any(), made_up);
        }
        assert!(quiet.iter().all(|id| memory.get(*id).is_some()));
        let list = memory.list();
        assert_eq!(list.len(), FAILURES);
        assert_eq!(list[0].1.outcome, "no-service", "the latest is the first");
        assert_eq!(list[FAILURES - 1].0, quiet[0]);
    }

    #[test]
    fn failures_of_a_million_services_cost_bounded_memory() {
        let memory = Memory::default();
        for n in 0..20_000 {
            memory.keep(Id::any(), story(&n.to_string(), "no-service"));
        }
        assert_eq!(memory.list().len(), FAILURES);
        assert_eq!(memory.0.lock().unwrap().failures.len(), FAILURES);
        assert_eq!(memory.list()[0].1.service, "19999");
    }

    #[test]
    fn an_id_is_read_as_it_is_shown() {
        let id = Id::any();
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "12", "+123456789abcdef", "xyz0123456789abc", "00000000000000000"] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }
}
