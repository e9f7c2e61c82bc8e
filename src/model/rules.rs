//! Rules of a policy that have fields of their own: hedge, circuit, health.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Statuses;
use super::written::{duration, number, object, percent, unknown};
use crate::units;

const CIRCUIT: [&str; 8] =
    ["consecutive", "min_calls", "window", "good", "open", "max_open", "max_ejected", "failures"];
const HEALTH: [&str; 7] = ["http", "tcp", "fpm", "interval", "timeout", "rise", "fall"];

/// A second attempt while the first one is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    /// When.
    pub after: After,
    /// Most of them, in percent of the calls.
    pub budget: u8,
}

/// When a hedge begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// When 95 of 100 calls of the API would have been answered.
    P95,
    /// So long after the call.
    Time(Duration),
}

/// When a provider is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circuit {
    /// After so many failures in a row.
    pub consecutive: u32,
    /// Or, after at least so many calls
    pub min_calls: u32,
    /// in so long,
    pub window: Duration,
    /// where fewer than this were good, in percent.
    pub good: u8,
    /// For so long the first time; twice as long each further time,
    pub open: Duration,
    /// at most this.
    pub max_open: Duration,
    /// Most of a service's providers that `good` may open, in percent.
    pub max_ejected: u8,
    /// Answers that are failures.
    pub failures: Statuses,
}

/// How providers are asked whether they live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub ask: Ask,
    /// How often.
    pub interval: Duration,
    /// For how long an answer is waited for.
    pub timeout: Duration,
    /// So many good answers in a row make it well.
    pub rise: u32,
    /// So many bad ones in a row make it ill.
    pub fall: u32,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ask {
    /// GET of a path answers 2xx or 3xx.
    Http(String),
    /// It takes a connection.
    Tcp,
    /// GET of php-fpm's status page, which also says how busy it is.
    Fpm(String),
}

impl Default for Circuit {
    fn default() -> Self {
        Self {
            consecutive: 5,
            min_calls: 20,
            window: Duration::from_secs(10),
            good: 80,
            open: Duration::from_secs(1),
            max_open: Duration::from_secs(60),
            max_ejected: 50,
            failures: Statuses::ALL,
        }
    }
}

impl Hedge {
    /// `off`, or an object.
    pub(super) fn parse(value: &Value) -> Result<Option<Self>, String> {
        if value.is_null() || value == "off" {
            return Ok(None);
        }
        let mut hedge = Self { after: After::P95, budget: 5 };
        for (field, value) in object(value, "{\"after\":\"p95\",\"budget\":\"5%\"}, or \"off\"")? {
            match field.as_str() {
                "after" if value == "p95" => {
                    hedge.after = After::P95;
                    Ok(())
                }
                "after" => duration(value, 1).map(|after| hedge.after = After::Time(after)),
                "budget" => percent(value, 1).map(|budget| hedge.budget = budget),
                _ => Err(unknown(field, &["after", "budget"])),
            }
            .map_err(|reason| format!("{field}: {reason}"))?;
        }
        Ok(Some(hedge))
    }

    pub(super) fn to_value(self) -> Value {
        let after = match self.after {
            After::P95 => "p95".into(),
            After::Time(after) => units::show_duration(after),
        };
        json!({ "after": after, "budget": format!("{}%", self.budget) })
    }
}

impl Circuit {
    /// Fields that are left out stay as they are.
    pub(super) fn patch(&mut self, value: &Value) -> Result<(), String> {
        for (field, value) in object(value, "{\"consecutive\":5,\"open\":\"1s\"}")? {
            match field.as_str() {
                "consecutive" => number(value, 1, 10_000).map(|n| self.consecutive = n as u32),
                "min_calls" => number(value, 1, 1_000_000).map(|n| self.min_calls = n as u32),
                "window" => duration(value, 100).map(|window| self.window = window),
                "good" => percent(value, 0).map(|good| self.good = good),
                "open" => duration(value, 1).map(|open| self.open = open),
                "max_open" => duration(value, 1).map(|most| self.max_open = most),
                "max_ejected" => percent(value, 0).map(|most| self.max_ejected = most),
                "failures" => Statuses::parse(value).map(|failures| self.failures = failures),
                _ => Err(unknown(field, &CIRCUIT)),
            }
            .map_err(|reason| format!("{field}: {reason}"))?;
        }
        Ok(())
    }

    pub(super) fn to_value(self) -> Value {
        json!({
            "consecutive": self.consecutive,
            "min_calls": self.min_calls,
            "window": units::show_duration(self.window),
            "good": format!("{}%", self.good),
            "open": units::show_duration(self.open),
            "max_open": units::show_duration(self.max_open),
            "max_ejected": format!("{}%", self.max_ejected),
            "failures": self.failures.written(),
        })
    }
}

impl Health {
    /// `passive`, or an object that says what is asked.
    pub(super) fn parse(value: &Value) -> Result<Option<Self>, String> {
        if value.is_null() || value == "passive" {
            return Ok(None);
        }
        let second = Duration::from_secs(1);
        let mut health = Self { ask: Ask::Tcp, interval: 2 * second, timeout: second, rise: 2, fall: 3 };
        let mut asked = 0;
        for (field, value) in object(value, "{\"http\":\"/health\"} or {\"tcp\":true}, or \"passive\"")? {
            asked += usize::from(matches!(field.as_str(), "http" | "tcp" | "fpm"));
            match field.as_str() {
                "http" => path(value).map(|path| health.ask = Ask::Http(path)),
                "fpm" => path(value).map(|path| health.ask = Ask::Fpm(path)),
                "tcp" if *value == Value::Bool(true) => {
                    health.ask = Ask::Tcp;
                    Ok(())
                }
                "tcp" => Err(format!("{value} is not true")),
                "interval" => duration(value, 100).map(|interval| health.interval = interval),
                "timeout" => duration(value, 1).map(|timeout| health.timeout = timeout),
                "rise" => number(value, 1, 100).map(|n| health.rise = n as u32),
                "fall" => number(value, 1, 100).map(|n| health.fall = n as u32),
                _ => Err(unknown(field, &HEALTH)),
            }
            .map_err(|reason| format!("{field}: {reason}"))?;
        }
        match asked {
            1 => Ok(Some(health)),
            _ => Err("give one of \"http\":\"/path\", \"tcp\":true, \"fpm\":\"/status\"".into()),
        }
    }

    /// As it would be written.
    pub fn to_value(&self) -> Value {
        let (field, asked) = match &self.ask {
            Ask::Http(path) => ("http", json!(path)),
            Ask::Tcp => ("tcp", json!(true)),
            Ask::Fpm(path) => ("fpm", json!(path)),
        };
        let mut written = Map::new();
        written.insert(field.into(), asked);
        written.insert("interval".into(), units::show_duration(self.interval).into());
        written.insert("timeout".into(), units::show_duration(self.timeout).into());
        written.insert("rise".into(), self.rise.into());
        written.insert("fall".into(), self.fall.into());
        written.into()
    }
}

fn path(value: &Value) -> Result<String, String> {
    let fits = |path: &&str| path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
    let path = value.as_str().filter(fits);
    path.map(str::to_owned).ok_or_else(|| format!("{value} is not a path such as /health"))
}
