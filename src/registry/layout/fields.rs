//! The data of one node, field by field.

use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::model::{Access, Api, Encoding, Grant, Key, PolicyPatch, Quota, State, Transport};
use crate::words;

/// Most data a node may hold, in bytes.
pub(super) const MAX_DATA: usize = 64 << 10;

pub(super) type Fields = Map<String, Value>;

/// Fields of a service's or a category's node, each by itself: one slip opens nothing.
pub(super) struct ServiceFields {
    pub(super) state: Result<State, String>,
    pub(super) access: Result<Access, String>,
    pub(super) owner: Result<Option<String>, String>,
    pub(super) description: Result<Option<String>, String>,
    /// `tree`: in front of the path of every API; empty or starting with `/`.
    pub(super) context: Result<String, String>,
}

impl ServiceFields {
    /// Fails with the first field that is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        self.state.as_ref().map_err(Clone::clone)?;
        self.access.as_ref().map_err(Clone::clone)?;
        self.owner.as_ref().map_err(Clone::clone)?;
        self.description.as_ref().map_err(Clone::clone)?;
        self.context.as_ref().map_err(Clone::clone).map(|_| ())
    }
}

/// What a node or a list says of a provider; `None` where it says nothing.
#[derive(Default)]
pub(super) struct ProviderFields {
    pub(super) weight: Option<u16>,
    pub(super) idc: Option<Box<str>>,
    pub(super) state: Option<State>,
    pub(super) tags: Option<Box<Value>>,
    pub(super) max_connections: Option<u32>,
}

/// A grant without its quota, the quota, and those of its keys that are none.
pub(super) struct GrantFields {
    pub(super) grant: Grant,
    pub(super) quota: Result<Option<Quota>, String>,
    pub(super) bad_keys: Vec<(usize, String)>,
}

pub(super) fn too_much(bytes: usize) -> String {
    format!(
        "{bytes} bytes are more than the {MAX_DATA} a node may hold; shorten it, or give each address a node of its own"
    )
}

/// The fields of a node; no data, no fields.
pub(super) fn object(data: &[u8]) -> Result<Fields, String> {
    read(data, false)
}

/// The same of a caller's node: somebody may have written the key itself, so nothing of it is shown.
pub(super) fn secret_object(data: &[u8]) -> Result<Fields, String> {
    read(data, true)
}

fn read(data: &[u8], secret: bool) -> Result<Fields, String> {
    if data.len() > MAX_DATA {
        return Err(too_much(data.len()));
    }
    if data.trim_ascii().is_empty() {
        return Ok(Fields::new());
    }
    match serde_json::from_slice(data) {
        Ok(Value::Object(fields)) => refuse_tls(&fields).map(|()| fields),
        Ok(_) if secret => Err("it is not a JSON object such as {\"state\":\"on\"}".into()),
        Ok(other) => Err(format!("{} is not a JSON object such as {{\"state\":\"on\"}}", shown(&other))),
        Err(error) => Err(words::not_json(data, &error, secret)),
    }
}

pub(super) fn service(fields: &Fields) -> ServiceFields {
    let accesses = [("open", Access::Open), ("key", Access::Key)];
    ServiceFields {
        state: state(fields).map(Option::unwrap_or_default),
        access: word(fields, "access", &accesses).map(Option::unwrap_or_default),
        owner: text(fields, "owner"),
        description: text(fields, "description"),
        context: context(fields),
    }
}

fn context(fields: &Fields) -> Result<String, String> {
    if let Some(path) = text(fields, "healthPath")? {
        path_of("healthPath", path)?;
    }
    match text(fields, "contextPath")? {
        Some(path) => Ok(path_of("contextPath", path)?.trim_end_matches('/').to_owned()),
        None => Ok(String::new()),
    }
}

/// An API without its policy; its path is `/` where none is written.
pub(super) fn api(fields: &Fields) -> Result<Api, String> {
    let encodings = [
        ("json", Encoding::Json),
        ("yar-msgpack", Encoding::YarMsgpack),
        ("yar-json", Encoding::YarJson),
        ("yar-php", Encoding::YarPhp),
    ];
    let path = match text(fields, "path")? {
        Some(path) => path_of("path", path)?,
        None => "/".into(),
    };
    let encoding = word(fields, "encoding", &encodings)?.unwrap_or_default();
    Ok(Api {
        path,
        method: method(fields)?,
        encoding,
        transport: transport(fields, encoding)?,
        state: state(fields)?.unwrap_or_default(),
        params: texts(fields, "params")?.unwrap_or_default(),
        idempotent: word_bool(fields, "idempotent")?.unwrap_or_default(),
        policy: PolicyPatch::default(),
        providers: None,
        description: text(fields, "description")?,
        schema: present(fields, "schema").cloned(),
    })
}

fn transport(fields: &Fields, encoding: Encoding) -> Result<Transport, String> {
    let transports = [("http", Transport::Http), ("tcp", Transport::Tcp)];
    match (word(fields, "transport", &transports)?.unwrap_or_default(), encoding) {
        (Transport::Tcp, Encoding::Json) => {
            Err("transport: \"tcp\" carries Yar; give the encoding too, such as yar-msgpack".into())
        }
        (transport, _) => Ok(transport),
    }
}

/// The policy of a service's or an API's node; fails as `policy.timeout: …`.
pub(super) fn policy(fields: &Fields) -> Result<PolicyPatch, String> {
    let health = present(fields, "healthPath");
    let written = match (present(fields, "policy"), health) {
        (None, None) => return Ok(PolicyPatch::default()),
        (Some(policy), None) => policy.clone(),
        (policy, Some(path)) => {
            let mut policy = policy.cloned().unwrap_or_else(|| Value::Object(Fields::new()));
            if let Value::Object(policy) = &mut policy {
                policy.entry("health").or_insert_with(|| serde_json::json!({ "http": path }));
            }
            policy
        }
    };
    let dot = if written.is_object() { "." } else { ": " };
    PolicyPatch::parse(&written).map_err(|reason| format!("policy{dot}{reason}"))
}

pub(super) fn provider(fields: &Fields) -> Result<ProviderFields, String> {
    Ok(ProviderFields {
        weight: number(fields, "weight", 0, 1000)?.map(|n| n as u16),
        idc: text(fields, "idc")?.map(String::into_boxed_str),
        state: state(fields)?,
        tags: present(fields, "tags").cloned().map(Box::new),
        max_connections: number(fields, "max_connections", 1, u32::MAX.into())?.map(|n| n as u32),
    })
}

pub(super) fn grant(fields: &Fields) -> Result<GrantFields, String> {
    let (mut keys, mut bad_keys) = (Vec::new(), Vec::new());
    for (index, item) in array(fields, "keys")?.iter().enumerate() {
        match key(item) {
            Ok(key) => keys.push(key),
            Err(reason) => bad_keys.push((index, reason)),
        }
    }
    let apis = texts(fields, "apis")?.unwrap_or_else(|| vec!["*".into()]);
    let quota = present(fields, "quota").map(|quota| {
        let dot = if quota.is_object() { "." } else { ": " };
        Quota::parse(quota).map_err(|reason| format!("quota{dot}{reason}"))
    });
    let grant = Grant { state: state(fields)?.unwrap_or_default(), keys, apis, quota: None, of_api: None };
    Ok(GrantFields { grant, quota: quota.transpose(), bad_keys })
}

fn key(item: &Value) -> Result<Key, String> {
    // the value is never shown: somebody may have written the key itself
    let wrong = || "a key is {\"sha256\":\"64 hex digits\",\"expires\":\"2030-01-01T00:00:00Z\"}".to_owned();
    let fields = item.as_object().ok_or_else(wrong)?;
    let hex = fields.get("sha256").and_then(Value::as_str).ok_or_else(wrong)?;
    let sha256 =
        unhex(hex).ok_or_else(|| format!("sha256: {} bytes that are not 64 hex digits", hex.len()))?;
    let expires = match text(fields, "expires")? {
        Some(text) => Some(moment(&text)?),
        None => None,
    };
    Ok(Key { sha256, expires })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digit = |b: u8| char::from(b).to_digit(16);
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (digit(*high)? * 16 + digit(*low)?) as u8;
    }
    Some(bytes)
}

fn moment(text: &str) -> Result<SystemTime, String> {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .map(SystemTime::from)
        .map_err(|_| format!("expires: {} is no time such as 2030-01-01T00:00:00Z", shown(&text.into())))
}

fn refuse_tls(fields: &Fields) -> Result<(), String> {
    let https = |value: &Value| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("https"));
    let named = match fields.get("schema") {
        Some(Value::Array(items)) => items.iter().any(https),
        Some(value) => https(value),
        None => false,
    };
    let wanted = match (named, fields.get("tls")) {
        (true, _) => "schema: \"https\"",
        (false, Some(Value::Bool(true))) => "tls: true",
        (false, _) => return Ok(()),
    };
    Err(format!("{wanted} needs providers over TLS, which this version can't call; serve it over http"))
}

fn method(fields: &Fields) -> Result<Option<String>, String> {
    let Some(method) = text(fields, "method")? else { return Ok(None) };
    if (1..=32).contains(&method.len()) && method.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-') {
        return Ok(Some(method.to_ascii_uppercase()));
    }
    Err(format!("method: {} is no HTTP method such as GET", shown(&method.into())))
}

/// Checks that `path` can stand in a request line.
fn path_of(field: &str, path: String) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&b);
    let rooted = path.starts_with('/') || (path.is_empty() && field == "contextPath");
    if !rooted {
        return Err(format!("{field}: {} does not start with /", shown(&path.into())));
    }
    if !path.bytes().all(allowed) {
        let path = shown(&path.into());
        return Err(format!("{field}: {path} has characters that must be percent-encoded"));
    }
    Ok(path)
}

/// A field that is there; `null` is as good as left out.
fn present<'a>(fields: &'a Fields, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

pub(super) fn text(fields: &Fields, name: &str) -> Result<Option<String>, String> {
    match present(fields, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("{name}: {} is not a text", shown(other))),
    }
}

/// A list; empty where the field is left out.
pub(super) fn array<'a>(fields: &'a Fields, name: &str) -> Result<&'a [Value], String> {
    match present(fields, name) {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(format!("{name}: {} is not a list", shown(other))),
    }
}

fn texts(fields: &Fields, name: &str) -> Result<Option<Vec<String>>, String> {
    if present(fields, name).is_none() {
        return Ok(None);
    }
    let text = |item: &Value| match item.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("{name}: {} in it is not a text", shown(item))),
    };
    array(fields, name)?.iter().map(text).collect::<Result<_, _>>().map(Some)
}

fn word_bool(fields: &Fields, name: &str) -> Result<Option<bool>, String> {
    match present(fields, name) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(format!("{name}: {} is neither true nor false", shown(other))),
    }
}

fn number(fields: &Fields, name: &str, least: u64, most: u64) -> Result<Option<u64>, String> {
    let Some(value) = present(fields, name) else { return Ok(None) };
    match value.as_u64().filter(|n| (least..=most).contains(n)) {
        Some(n) => Ok(Some(n)),
        None => Err(format!("{name}: {} is not a whole number from {least} to {most}", shown(value))),
    }
}

fn state(fields: &Fields) -> Result<Option<State>, String> {
    word(fields, "state", &[("on", State::On), ("off", State::Off), ("drain", State::Drain)])
}

fn word<T: Copy>(fields: &Fields, name: &str, words: &[(&str, T)]) -> Result<Option<T>, String> {
    let Some(value) = present(fields, name) else { return Ok(None) };
    let found = words.iter().find(|(word, _)| value.as_str() == Some(*word));
    found.map(|(_, meaning)| Some(*meaning)).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("{name}: {} is none of {}", shown(value), known.join(", "))
    })
}

/// A value as JSON, cut short for messages.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}
