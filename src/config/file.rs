//! The configuration as written: every key optional, nothing checked but its type.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde_json::{Map, Value};

use super::Acl;
use crate::model::Layout;
use crate::units;

/// A whole file.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) registry: Option<RegistryFile>,
    pub(super) listen: Option<Vec<Option<ListenFile>>>,
    pub(super) admin: Option<Text>,
    pub(super) telemetry: Option<Text>,
    pub(super) access_log: Option<Text>,
    pub(super) otlp: Option<OtlpFile>,
    pub(super) host: Option<HostFile>,
    pub(super) caller: Option<CallerFile>,
    pub(super) providers: Option<Vec<Option<ProviderFile>>>,
    pub(super) defaults: Option<Map<String, Value>>,
    pub(super) drain: Option<Time>,
    pub(super) workers: Option<Count>,
    pub(super) connections: Option<Count>,
    pub(super) buffers: Option<Size>,
    pub(super) explain: Option<ExplainFile>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RegistryFile {
    pub(super) zookeeper: Option<ZooKeeperFile>,
    pub(super) embedded: Option<EmbeddedFile>,
    pub(super) layout: Option<Layout>,
    pub(super) root: Option<Text>,
    pub(super) snapshot: Option<Text>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ZooKeeperFile {
    pub(super) connect: Option<Text>,
    pub(super) session_timeout: Option<Time>,
    pub(super) auth: Option<AuthFile>,
    pub(super) acl: Option<Acl>,
    pub(super) tls: Option<TlsFile>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AuthFile {
    pub(super) user: Option<Text>,
    pub(super) password_file: Option<Text>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsFile {
    pub(super) ca_file: Option<Text>,
    pub(super) cert_file: Option<Text>,
    pub(super) key_file: Option<Text>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EmbeddedFile {
    pub(super) file: Option<Text>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HostFile {
    pub(super) name: Option<Text>,
    pub(super) idc: Option<Text>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CallerFile {
    pub(super) name: Option<Text>,
    pub(super) key_file: Option<Text>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OtlpFile {
    pub(super) endpoint: Option<Text>,
    pub(super) headers: Option<BTreeMap<String, Text>>,
    pub(super) timeout: Option<Time>,
    pub(super) interval: Option<Text>,
    pub(super) traces: Option<TracesFile>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TracesFile {
    pub(super) sample: Option<Text>,
    pub(super) queue: Option<Count>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ExplainFile {
    pub(super) callers: Option<Vec<Text>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ProviderFile {
    pub(super) service: Option<Text>,
    pub(super) address: Option<Text>,
    pub(super) weight: Option<Count>,
    pub(super) health: Option<HealthFile>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HealthFile {
    pub(super) http: Option<Text>,
    pub(super) tcp: Option<bool>,
    pub(super) interval: Option<Time>,
    pub(super) timeout: Option<Time>,
    pub(super) rise: Option<Count>,
    pub(super) fall: Option<Count>,
}

/// A listener: an address alone, or an object around it.
#[derive(Debug, Default)]
pub(super) struct ListenFile {
    pub(super) address: Option<Text>,
    pub(super) service: Option<Text>,
    /// By user id.
    pub(super) callers: Option<BTreeMap<String, Text>>,
    /// Whether it was written as an object, so that messages can name the key.
    pub(super) is_object: bool,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListenObject {
    address: Option<Text>,
    service: Option<Text>,
    callers: Option<BTreeMap<String, Text>>,
}

impl<'de> Deserialize<'de> for ListenFile {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ListenFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as 127.0.0.1:9501 or unix:/run/remora.sock")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ListenFile, E> {
                Ok(ListenFile { address: Some(Text(text.into())), ..ListenFile::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ListenFile, A::Error> {
                let ListenObject { address, service, callers } =
                    ListenObject::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ListenFile { address, service, callers, is_object: true })
            }
        }
        d.deserialize_any(Either)
    }
}

/// A text; a bare number or truth value counts as the text it was written as.
#[derive(Debug, Clone)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match Value::deserialize(d)? {
            Value::String(text) => Ok(Self(text)),
            scalar @ (Value::Number(_) | Value::Bool(_)) => Ok(Self(scalar.to_string())),
            other @ (Value::Null | Value::Array(_) | Value::Object(_)) => Err(wanted(&other, "a text")),
        }
    }
}

/// A duration with its unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub(super) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(d)?;
        let Some(text) = value.as_str() else {
            return Err(wanted(&value, "a duration such as 250ms, 10s or 5m"));
        };
        units::duration(text).map(Self).map_err(de::Error::custom)
    }
}

/// A number of bytes with its unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(d)?;
        let Some(text) = value.as_str() else {
            return Err(wanted(&value, "a size such as 64KiB or 10MiB"));
        };
        units::size(text).map(Self).map_err(de::Error::custom)
    }
}

/// A whole number that isn't negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count(pub(super) u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(d)?;
        value.as_u64().map(Self).ok_or_else(|| wanted(&value, "a whole number"))
    }
}

fn wanted<E: de::Error>(found: &Value, wanted: &str) -> E {
    let found: String = found.to_string().chars().take(60).collect();
    E::custom(format_args!("{found} is not {wanted}"))
}
