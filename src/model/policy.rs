//! Rules of a call as written (`PolicyPatch`) and as meant (`Policy`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto_adapters::{BytesAs, Charset, Empty};
use serde::Serialize;
use serde_json::{Value, json};

use super::rules::{Circuit, Health, Hedge};
use super::written::{duration, number, share_and_rate, word};
use crate::{units, words};

/// How a provider is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// By chance, by weight.
    Random,
    /// The less busy of two picked by chance.
    P2c,
    /// The same provider for the same value of `hash_on`, as long as it is not overloaded.
    Hash,
}

/// The part of a call that [`Balance::Hash`] looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// An HTTP header, in lower case.
    Header(String),
    /// A query parameter.
    Query(String),
    /// A Yar parameter, from 0.
    Param(usize),
}

/// What the data centre (机房) of this host means for the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    /// Providers of the own one first; the others as far as these are not well.
    Prefer,
    /// Providers of the own one only.
    Only,
    /// Nothing.
    Ignore,
}

/// How many further attempts the calls of a service may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of recent calls, in percent,
    pub share: u8,
    /// and so many a second beside.
    pub per_second: u32,
}

/// Most calls in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// As many.
    Fixed(u32),
    /// As many as it answers without growing slower.
    Auto,
}

/// Rules of a call, resolved: API over service over configuration over built-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// From the call's head to the answer's head.
    pub timeout: Duration,
    /// To connect to one provider.
    pub connect_timeout: Duration,
    /// Between bytes after the answer's head.
    pub idle_timeout: Duration,
    /// How a provider is chosen.
    pub balance: Balance,
    /// What [`Balance::Hash`] looks at.
    pub hash_on: Option<HashOn>,
    /// What the own data centre means for the choice.
    pub zone: Zone,
    /// How long a provider that has just come needs to take its whole weight.
    pub warmup: Duration,
    /// Further attempts.
    pub retries: u8,
    /// How many of them all calls together may cost.
    pub retry_budget: RetryBudget,
    /// A second attempt before the first has failed.
    pub hedge: Option<Hedge>,
    /// When a provider is left alone.
    pub circuit: Circuit,
    /// How providers are asked whether they live.
    pub health: Option<Health>,
    /// Most calls in flight, per sidecar and service.
    pub concurrency: Concurrency,
    /// How long a call waits for its place among them.
    pub queue: Duration,
    /// Largest request body, in bytes.
    pub max_body: u64,
    /// What bytes that are no text become in JSON.
    pub bytes: BytesAs,
    /// What an empty JSON object becomes in Yar.
    pub empty: Empty,
    /// The charset of the strings of providers that speak Yar.
    pub charset: Charset,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(4500),
            connect_timeout: Duration::from_millis(250),
            idle_timeout: Duration::from_secs(30),
            balance: Balance::P2c,
            hash_on: None,
            zone: Zone::Prefer,
            warmup: Duration::ZERO,
            retries: 1,
            retry_budget: RetryBudget { share: 20, per_second: 10 },
            hedge: None,
            circuit: Circuit::default(),
            health: None,
            concurrency: Concurrency::Fixed(1024),
            queue: Duration::ZERO,
            max_body: 10 << 20,
            bytes: BytesAs::Fail,
            empty: Empty::List,
            charset: Charset::Utf8,
        }
    }
}

impl Policy {
    /// Every field as it would be written.
    pub fn to_value(&self) -> Value {
        json!({
            "timeout": units::show_duration(self.timeout),
            "connect_timeout": units::show_duration(self.connect_timeout),
            "idle_timeout": units::show_duration(self.idle_timeout),
            "balance": self.balance,
            "hash_on": self.hash_on.as_ref().map(|hash_on| match hash_on {
                HashOn::Header(name) => format!("header:{name}"),
                HashOn::Query(name) => format!("query:{name}"),
                HashOn::Param(index) => format!("param:{index}"),
            }),
            "zone": self.zone,
            "warmup": units::show_duration(self.warmup),
            "retries": self.retries,
            "retry_budget": format!("{}%+{}", self.retry_budget.share, self.retry_budget.per_second),
            "hedge": self.hedge.map_or(json!("off"), |hedge| hedge.to_value()),
            "circuit": self.circuit.to_value(),
            "health": self.health.as_ref().map_or(json!("passive"), Health::to_value),
            "concurrency": match self.concurrency {
                Concurrency::Fixed(most) => json!(most),
                Concurrency::Auto => json!("auto"),
            },
            "queue": units::show_duration(self.queue),
            "max_body": units::show_size(self.max_body),
            "bytes": match self.bytes {
                BytesAs::Fail => "fail",
                BytesAs::Base64 => "base64",
            },
            "empty": match self.empty {
                Empty::List => "list",
                Empty::Map => "map",
            },
            "charset": match self.charset {
                Charset::Utf8 => "utf-8",
                Charset::Gbk => "gbk",
            },
        })
    }

    fn set(&mut self, field: &str, value: &Value) -> Result<(), String> {
        match field {
            "timeout" => self.timeout = duration(value, 1)?,
            "connect_timeout" => self.connect_timeout = duration(value, 1)?,
            "idle_timeout" => self.idle_timeout = duration(value, 1)?,
            "balance" => self.balance = word(value, &BALANCES)?,
            "hash_on" => self.hash_on = hash_on(value)?,
            "zone" => self.zone = word(value, &ZONES)?,
            "warmup" => self.warmup = duration(value, 0)?,
            "retries" => self.retries = number(value, 0, 3)? as u8,
            "retry_budget" => {
                let (share, per_second) = share_and_rate(value)?;
                self.retry_budget = RetryBudget { share, per_second };
            }
            "hedge" => self.hedge = Hedge::parse(value)?,
            "circuit" => self.circuit.patch(value)?,
            "health" => self.health = Health::parse(value)?,
            "concurrency" if value == "auto" => self.concurrency = Concurrency::Auto,
            "concurrency" => {
                let most = number(value, 1, 1 << 20).map_err(|reason| format!("{reason}, nor \"auto\""))?;
                self.concurrency = Concurrency::Fixed(most as u32);
            }
            "queue" => self.queue = duration(value, 0)?,
            "max_body" => {
                let text = value.as_str().ok_or_else(|| format!("{value} is not a size such as 10MiB"))?;
                self.max_body = units::size(text).map_err(|e| e.to_string())?;
            }
            "bytes" => self.bytes = word(value, &[("fail", BytesAs::Fail), ("base64", BytesAs::Base64)])?,
            "empty" => self.empty = word(value, &[("list", Empty::List), ("map", Empty::Map)])?,
            "charset" => {
                self.charset = word(value, &[("utf-8", Charset::Utf8), ("gbk", Charset::Gbk)])?;
            }
            other => {
                if let Some(meant) = words::nearest(other, &PolicyPatch::KNOWN) {
                    return Err(format!("no field has that name; did you mean `{meant}`?"));
                }
                // a later version's, or somebody else's: the contract has these kept
            }
        }
        Ok(())
    }
}

const BALANCES: [(&str, Balance); 4] = [
    ("round_robin", Balance::RoundRobin),
    ("random", Balance::Random),
    ("p2c", Balance::P2c),
    ("hash", Balance::Hash),
];
const ZONES: [(&str, Zone); 3] = [("prefer", Zone::Prefer), ("only", Zone::Only), ("ignore", Zone::Ignore)];

fn hash_on(value: &Value) -> Result<Option<HashOn>, String> {
    let wrong = || format!("{value} is none of header:NAME, query:NAME, param:N");
    if value.is_null() {
        return Ok(None);
    }
    let (kind, name) = value.as_str().and_then(|text| text.split_once(':')).ok_or_else(wrong)?;
    match kind {
        _ if name.is_empty() || name.len() > 128 => Err(wrong()),
        "header" => Ok(Some(HashOn::Header(name.to_ascii_lowercase()))),
        "query" => Ok(Some(HashOn::Query(name.to_owned()))),
        "param" => Ok(Some(HashOn::Param(name.parse::<u8>().map_err(|_| wrong())?.into()))),
        _ => Err(wrong()),
    }
}

/// A policy as written: what it leaves out comes from below.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct PolicyPatch(BTreeMap<String, Value>);

impl PolicyPatch {
    /// Every field a policy may have.
    pub const KNOWN: [&str; 18] = [
        "timeout",
        "connect_timeout",
        "idle_timeout",
        "balance",
        "hash_on",
        "zone",
        "warmup",
        "retries",
        "retry_budget",
        "hedge",
        "circuit",
        "health",
        "concurrency",
        "queue",
        "max_body",
        "bytes",
        "empty",
        "charset",
    ];

    /// Checks every field; fails with all that are wrong, as `timeout: …; zone: …`.
    pub fn parse(policy: &Value) -> Result<Self, String> {
        let Value::Object(fields) = policy else {
            return Err("it is not an object of fields such as {\"timeout\":\"2s\"}".into());
        };
        let mut scratch = Policy::default();
        let set = |(field, value): (&String, &Value)| {
            scratch.set(field, value).err().map(|reason| format!("{field}: {reason}"))
        };
        let mut wrong: Vec<_> = fields.iter().filter_map(set).collect();
        if scratch.balance == Balance::Hash && scratch.hash_on.is_none() && wrong.is_empty() {
            wrong.push("balance: \"hash\" needs hash_on beside it, such as header:X-User".into());
        }
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        Ok(Self(fields.iter().map(|(field, value)| (field.clone(), value.clone())).collect()))
    }

    /// `base` with this patch's fields in place.
    pub fn over(&self, base: &Policy) -> Policy {
        let mut policy = base.clone();
        for (field, value) in &self.0 {
            // every field was checked by `parse`
            let _ = policy.set(field, value);
        }
        policy
    }

    /// The same; where it says nothing, `base` itself.
    pub fn over_shared(&self, base: &Arc<Policy>) -> Arc<Policy> {
        if self.is_empty() { base.clone() } else { Arc::new(self.over(base)) }
    }

    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it says anything on that field.
    pub fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{After, Ask, Statuses};

    #[test]
    fn a_patch_lies_over_its_base_field_by_field() {
        let service = json!({"timeout": "2s", "balance": "random", "circuit": {"consecutive": 3}});
        let service = PolicyPatch::parse(&service).unwrap();
        let api = json!({"timeout": "1s", "zone": "only", "circuit": {"open": "2s"}});
        let api = PolicyPatch::parse(&api).unwrap();
        let policy = api.over(&service.over(&Policy::default()));
        assert_eq!(policy.timeout, Duration::from_secs(1));
        assert_eq!(policy.balance, Balance::Random);
        assert_eq!(policy.max_body, 10 << 20);
        let circuit = Circuit { consecutive: 3, open: Duration::from_secs(2), ..Circuit::default() };
        assert_eq!(policy.circuit, circuit);
        assert_eq!(policy.zone, Zone::Only);
    }

    #[test]
    fn a_policy_as_shown_is_read_back_and_has_every_field() {
        let written = Policy {
            retries: 3,
            charset: Charset::Gbk,
            circuit: Circuit { failures: Statuses::parse(&json!("502-504")).unwrap(), ..Circuit::default() },
            balance: Balance::Hash,
            hash_on: Some(HashOn::Param(1)),
            hedge: Some(Hedge { after: After::Time(Duration::from_millis(30)), budget: 7 }),
            health: Some(Health {
                ask: Ask::Fpm("/status".into()),
                interval: Duration::from_secs(5),
                timeout: Duration::from_secs(1),
                rise: 1,
                fall: 2,
            }),
            concurrency: Concurrency::Auto,
            ..Policy::default()
        };
        for policy in [written, Policy::default()] {
            let shown = policy.to_value();
            let fields: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(fields, PolicyPatch::KNOWN);
            assert_eq!(PolicyPatch::parse(&shown).unwrap().over(&Policy::default()), policy);
        }
    }

    #[test]
    fn a_bad_field_is_named_with_the_way_out() {
        let bad = |policy| PolicyPatch::parse(&policy).unwrap_err();
        assert_eq!(bad(json!({"timeout": 5})), "timeout: 5 is not a duration such as 250ms or 10s");
        let words = "round_robin, random, p2c, hash";
        assert_eq!(bad(json!({"balance": "best"})), format!("balance: \"best\" is none of {words}"));
        assert_eq!(bad(json!({"charset": "GB2312"})), "charset: \"GB2312\" is none of utf-8, gbk");
        assert_eq!(bad(json!({"retries": 1e9})), "retries: 1000000000.0 is not a number from 0 to 3");
        assert!(bad(json!({"balance": "hash"})).contains("needs hash_on"));
        assert_eq!(bad(json!({"retry_budget": "lots"})), "retry_budget: \"lots\" is not such as \"20%+10\"");
        assert_eq!(bad(json!({"circuit": {"good": -1}})), "circuit: good: -1 is not a share such as \"80%\"");
        assert!(
            bad(json!({"circuit": {"godo": "80%"}})).starts_with("circuit: godo: is none of consecutive")
        );
        assert!(bad(json!({"health": {"interval": "2s"}})).starts_with("health: give one of"));
        assert!(bad(json!({"health": {"tcp": true, "http": "/"}})).starts_with("health: give one of"));
        assert!(
            bad(json!({"hedge": {"after": "p50"}})).starts_with("hedge: after: \"p50\" is not a duration")
        );
        assert!(bad(json!({"concurrency": "lots"})).ends_with("nor \"auto\""));
        assert!(bad(json!([])).contains("not an object"));
        assert_eq!(bad(json!({"timeuot": "1s"})), "timeuot: no field has that name; did you mean `timeout`?");
        assert!(bad(json!({"circuit": {"godo": "80%"}})).ends_with("did you mean `good`?"));
        assert!(bad(json!({"hedge": {"afer": "p95"}})).ends_with("did you mean `after`?"));
        assert!(bad(json!({"health": {"http": "/", "rice": 1}})).ends_with("did you mean `rise`?"));
        assert!(PolicyPatch::parse(&json!({"mirror": "shop"})).is_ok(), "a later version's");
        let two = bad(json!({"zone": "all", "timeout": 5, "retries": 1}));
        assert_eq!(
            two,
            "zone: \"all\" is none of prefer, only, ignore; timeout: 5 is not a duration such as 250ms or 10s"
        );
    }
}
