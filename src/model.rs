//! What the registry says, as plain data: service, api, provider, access, policy.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use proto_adapters::{BytesAs, Charset, Empty};
use serde::Serialize;
use serde_json::Value;

use crate::names::{Address, ApiName, CallerName};
use crate::units;

/// How the registry's nodes are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Service, address and API trees side by side.
    #[default]
    Flat,
    /// Categories with services below them.
    Tree,
}

/// Whether calls may go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Takes calls.
    #[default]
    On,
    /// Takes none.
    Off,
    /// Takes no new calls; those in flight end.
    Drain,
}

/// Who may call a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Anybody.
    #[default]
    Open,
    /// Callers with a key in the registry.
    Key,
}

/// One service with all that is known of it, in either layout.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Service {
    /// Of the service as a whole.
    pub state: State,
    /// Whether callers need a key.
    pub access: Access,
    /// Who answers for it; shown only.
    pub owner: Option<String>,
    /// Shown only.
    pub description: Option<String>,
    /// Over the configuration's defaults.
    pub policy: PolicyPatch,
    /// By name; `*` takes every name that is not listed.
    pub apis: BTreeMap<ApiName, Api>,
    /// Providers of every API that has none of its own (`flat`).
    pub providers: Vec<Provider>,
    /// Callers with keys; what one key opens, another of the same caller need not.
    pub callers: BTreeMap<CallerName, Vec<Grant>>,
    /// Nodes that could not be read.
    pub skipped: Vec<Skipped>,
}

/// How an API's providers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// HTTP with a JSON body.
    #[default]
    Json,
    /// Yar with the msgpack packager.
    YarMsgpack,
    /// Yar with the JSON packager.
    YarJson,
    /// Yar with the packager of PHP's `serialize`.
    YarPhp,
}

/// What carries a Yar call to its providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// HTTP.
    #[default]
    Http,
    /// TCP alone.
    Tcp,
}

/// One function of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Api {
    /// HTTP path of a JSON API, endpoint of a Yar one; starts with `/`.
    pub path: String,
    /// Replaces the caller's HTTP method.
    pub method: Option<String>,
    /// How its providers speak.
    pub encoding: Encoding,
    /// What carries a Yar call to them; a JSON one always goes over HTTP.
    pub transport: Transport,
    /// Of this API alone.
    pub state: State,
    /// Names of positional parameters.
    pub params: Vec<String>,
    /// May run twice.
    pub idempotent: bool,
    /// Over the service's policy.
    pub policy: PolicyPatch,
    /// Its own providers (`tree`); `None` where the service's serve it (`flat`).
    pub providers: Option<Vec<Provider>>,
    /// Shown only.
    pub description: Option<String>,
    /// Kept and shown.
    pub schema: Option<Value>,
}

/// One address that serves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provider {
    /// Where it listens.
    pub address: Address,
    /// 0 to 1000; 0 takes no calls.
    pub weight: u16,
    /// Data centre (机房).
    pub idc: Option<String>,
    /// Of this provider alone.
    pub state: State,
    /// Shown only.
    pub tags: Option<Value>,
    /// Most calls at once.
    pub max_connections: Option<u32>,
    /// Whether it announced itself with an ephemeral node.
    pub ephemeral: bool,
    /// Whether it stands in the service's list (`flat`).
    pub listed: bool,
    /// Gone from the registry with many others; kept as a last resort.
    pub held: bool,
}

/// What one caller may do.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Grant {
    /// `off` refuses the caller.
    pub state: State,
    /// Any of them opens.
    pub keys: Vec<Key>,
    /// API names; `*` at the end stands for any rest.
    pub apis: Vec<String>,
    /// Kept and shown.
    pub quota: Option<Value>,
}

/// A caller's key, hashed.
#[derive(Clone, PartialEq)]
pub struct Key {
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// From then on it opens nothing.
    pub expires: Option<SystemTime>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str("…")
    }
}

/// A registry node that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Skipped {
    /// Its path in the registry.
    pub path: String,
    /// What is wrong, with the way out.
    pub reason: String,
}

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
    /// Further attempts where the first provider was never reached.
    pub retries: u8,
    /// Most calls in flight, per sidecar and service.
    pub concurrency: u32,
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
            retries: 1,
            concurrency: 1024,
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
        serde_json::json!({
            "timeout": units::show_duration(self.timeout),
            "connect_timeout": units::show_duration(self.connect_timeout),
            "idle_timeout": units::show_duration(self.idle_timeout),
            "balance": self.balance,
            "retries": self.retries,
            "concurrency": self.concurrency,
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
}

/// A policy as written: what it leaves out comes from below.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct PolicyPatch(BTreeMap<String, Value>);

impl PolicyPatch {
    /// Every field a policy may have, those not in force in this version included.
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

    /// Checks every field; fails with the first that is wrong, as `timeout: …`.
    pub fn parse(policy: &Value) -> Result<Self, String> {
        let Value::Object(fields) = policy else {
            return Err("it is not an object of fields such as {\"timeout\":\"2s\"}".into());
        };
        let mut scratch = Policy::default();
        for (field, value) in fields {
            set(&mut scratch, field, value).map_err(|reason| format!("{field}: {reason}"))?;
        }
        Ok(Self(fields.iter().map(|(field, value)| (field.clone(), value.clone())).collect()))
    }

    /// `base` with this patch's fields in place.
    pub fn over(&self, base: &Policy) -> Policy {
        let mut policy = base.clone();
        for (field, value) in &self.0 {
            // every field was checked by `parse`
            let _ = set(&mut policy, field, value);
        }
        policy
    }

    /// Whether it limits the calls in flight.
    pub fn has_concurrency(&self) -> bool {
        self.0.contains_key("concurrency")
    }

    /// Fields that are known but not in force in this version.
    pub fn not_in_force(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|field| LATER.contains(field))
    }
}

/// Fields of the contract that this version reads over.
const LATER: [&str; 8] = ["hash_on", "zone", "warmup", "retry_budget", "hedge", "circuit", "health", "queue"];

fn set(policy: &mut Policy, field: &str, value: &Value) -> Result<(), String> {
    match field {
        "timeout" => policy.timeout = duration(value, 1)?,
        "connect_timeout" => policy.connect_timeout = duration(value, 1)?,
        "idle_timeout" => policy.idle_timeout = duration(value, 1)?,
        "balance" => {
            policy.balance = word(
                value,
                &[("round_robin", Balance::RoundRobin), ("random", Balance::Random), ("p2c", Balance::P2c)],
            )?
        }
        "retries" => policy.retries = number(value, 0, 3)? as u8,
        "concurrency" => policy.concurrency = number(value, 1, 1 << 20)? as u32,
        "max_body" => {
            let text = value.as_str().ok_or_else(|| format!("{value} is not a size such as 10MiB"))?;
            policy.max_body = units::size(text).map_err(|e| e.to_string())?;
        }
        "bytes" => policy.bytes = word(value, &[("fail", BytesAs::Fail), ("base64", BytesAs::Base64)])?,
        "empty" => policy.empty = word(value, &[("list", Empty::List), ("map", Empty::Map)])?,
        "charset" => {
            policy.charset = word(value, &[("utf-8", Charset::Utf8), ("gbk", Charset::Gbk)])?;
        }
        // kept for a later version, or somebody else's
        _ => {}
    }
    Ok(())
}

fn duration(value: &Value, least_ms: u64) -> Result<Duration, String> {
    let text = value.as_str().ok_or_else(|| format!("{value} is not a duration such as 250ms or 10s"))?;
    let found = units::duration(text).map_err(|e| e.to_string())?;
    if found < Duration::from_millis(least_ms) {
        return Err(format!("{text} is below {least_ms}ms"));
    }
    Ok(found)
}

fn number(value: &Value, least: u64, most: u64) -> Result<u64, String> {
    value
        .as_u64()
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| format!("{value} is not a number from {least} to {most}"))
}

fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| value.as_str() == Some(*word));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("{value} is none of {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_lies_over_its_base_field_by_field() {
        let service = PolicyPatch::parse(&json!({"timeout": "2s", "balance": "random"})).unwrap();
        let api = PolicyPatch::parse(&json!({"timeout": "1s", "zone": "only"})).unwrap();
        let policy = api.over(&service.over(&Policy::default()));
        assert_eq!(policy.timeout, Duration::from_secs(1));
        assert_eq!(policy.balance, Balance::Random);
        assert_eq!(policy.max_body, 10 << 20);
        assert_eq!(api.not_in_force().collect::<Vec<_>>(), ["zone"]);
    }

    #[test]
    fn a_policy_as_shown_is_read_back_and_has_only_known_fields() {
        let shown = Policy { retries: 3, charset: Charset::Gbk, ..Policy::default() }.to_value();
        let fields = shown.as_object().unwrap();
        assert!(fields.keys().all(|field| PolicyPatch::KNOWN.contains(&field.as_str())));
        assert_eq!(PolicyPatch::parse(&shown).unwrap().over(&Policy::default()).to_value(), shown);
        assert_eq!(fields.len() + LATER.len(), PolicyPatch::KNOWN.len());
    }

    #[test]
    fn a_bad_field_is_named_with_the_way_out() {
        let bad = |policy| PolicyPatch::parse(&policy).unwrap_err();
        assert_eq!(bad(json!({"timeout": 5})), "timeout: 5 is not a duration such as 250ms or 10s");
        assert_eq!(bad(json!({"balance": "best"})), "balance: \"best\" is none of round_robin, random, p2c");
        assert_eq!(bad(json!({"charset": "GB2312"})), "charset: \"GB2312\" is none of utf-8, gbk");
        assert_eq!(bad(json!({"retries": 9})), "retries: 9 is not a number from 0 to 3");
        assert!(bad(json!([])).contains("not an object"));
    }
}
