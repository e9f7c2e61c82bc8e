//! How often one caller may call, as written and as meant.

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::written::{duration, object, unknown, whole, word};
use crate::{units, words};

/// Largest number of calls in a quota.
const MOST: u32 = 1_000_000_000;
/// A quota's period, and how long a burst may take to come back.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// What is beyond is told apart no more: a call would come in less than a microsecond.
const PER_SECOND: u128 = 1_000_000;

/// Whose calls a quota limits together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QuotaScope {
    /// Those from all hosts.
    Fleet,
    /// Those from each host by itself.
    Host,
}

/// What happens to a call beyond a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QuotaMode {
    /// It is refused.
    Enforce,
    /// It is counted.
    Shadow,
}

/// How often one caller may call a service, or in layout `tree` an API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// So many calls; 0 only in [`Quota::UNREAD`].
    pub rate: u32,
    /// In this time,
    pub per: Duration,
    /// and so many at once after a rest.
    pub burst: u32,
    /// Calls in that time that a sidecar keeps for itself while it has no share of a fleet's quota.
    pub floor: u32,
    /// Whose calls count together.
    pub scope: QuotaScope,
    /// What happens beyond.
    pub mode: QuotaMode,
}

impl Quota {
    /// Stands where a quota is written that can't be read, and none was known before: it admits nothing.
    pub const UNREAD: Self = Self {
        rate: 0,
        per: Duration::from_secs(1),
        burst: 0,
        floor: 0,
        scope: QuotaScope::Host,
        mode: QuotaMode::Enforce,
    };

    /// Every field a quota may have.
    pub const KNOWN: [&str; 6] = ["rate", "per", "burst", "scope", "mode", "floor"];

    /// Reads and checks it; fails with the first field that is wrong or one slip away from a known one, as `rate: …`.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let fields = object(value, "{\"rate\":100,\"per\":\"1s\"}")?;
        // any other field is a later version's, or somebody else's: the contract has these kept
        let mut others = fields.keys().filter(|field| !Self::KNOWN.contains(&field.as_str()));
        if let Some(slip) = others.find(|field| words::nearest(field, &Self::KNOWN).is_some()) {
            return Err(format!("{slip}: it {}", unknown(slip, &Self::KNOWN)));
        }
        let field = |name: &str| fields.get(name).filter(|value| !value.is_null());
        let count = |name: &str, least, most| {
            let read = field(name).map(|value| whole(value, least, most)).transpose();
            read.map_err(|reason| format!("{name}: {reason}"))
        };
        let rate = count("rate", 1, MOST)?.ok_or("rate: it is missing; write how many calls, such as 100")?;
        let per = field("per").map_or(Ok(Duration::from_secs(1)), |per| duration(per, 1));
        let per = per.map_err(|reason| format!("per: {reason}"))?;
        let scopes = [("fleet", QuotaScope::Fleet), ("host", QuotaScope::Host)];
        let scope = field("scope").map_or(Ok(QuotaScope::Fleet), |scope| word(scope, &scopes));
        let modes = [("enforce", QuotaMode::Enforce), ("shadow", QuotaMode::Shadow)];
        let mode = field("mode").map_or(Ok(QuotaMode::Enforce), |mode| word(mode, &modes));
        let quota = Self {
            rate,
            per,
            burst: count("burst", 1, MOST)?.unwrap_or(rate),
            floor: count("floor", 0, rate)?.unwrap_or(0),
            scope: scope.map_err(|reason| format!("scope: {reason}"))?,
            mode: mode.map_err(|reason| format!("mode: {reason}"))?,
        };
        quota.bounded()
    }

    fn bounded(self) -> Result<Self, String> {
        let shown = units::show_duration(self.per);
        if self.per > LONGEST {
            return Err(format!("per: {shown} is over 24h"));
        }
        if u128::from(self.rate) * 1_000_000_000 > self.per.as_nanos() * PER_SECOND {
            let rate = self.rate;
            return Err(format!("rate: {rate} per {shown} is over a million calls a second; leave it out"));
        }
        // what is rounded up from call to call adds up to a thousandth at most
        if self.apart() * u128::from(self.burst) > LONGEST.as_nanos() * 501 / 500 {
            return Err(format!("burst: {} calls take over 24h to come back at this rate", self.burst));
        }
        Ok(self)
    }

    /// Whether it says how often.
    pub fn is_read(&self) -> bool {
        self.rate > 0
    }

    /// Nanoseconds from one call to the next.
    pub fn apart(&self) -> u128 {
        self.per.as_nanos().div_ceil(u128::from(self.rate.max(1)))
    }

    /// Every field as it would be written.
    pub fn to_value(&self) -> Value {
        json!({
            "rate": self.rate,
            "per": units::show_duration(self.per),
            "burst": self.burst,
            "scope": self.scope,
            "mode": self.mode,
            "floor": self.floor,
        })
    }
}

impl Serialize for Quota {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_as_shown_is_read_back_and_has_every_field() {
        let all = json!({"rate": 5, "per": "2s", "burst": 7, "scope": "host", "mode": "shadow", "floor": 1});
        let quota = Quota::parse(&all).unwrap();
        assert_eq!((quota.rate, quota.per, quota.burst), (5, Duration::from_secs(2), 7));
        assert_eq!((quota.scope, quota.mode, quota.floor), (QuotaScope::Host, QuotaMode::Shadow, 1));
        let shown = quota.to_value();
        let fields: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, Quota::KNOWN);
        assert_eq!(shown, all);
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let quota = Quota::parse(&json!({"rate": 100, "per": null})).unwrap();
        assert_eq!((quota.per, quota.burst, quota.floor), (Duration::from_secs(1), 100, 0));
        assert_eq!((quota.scope, quota.mode), (QuotaScope::Fleet, QuotaMode::Enforce));
        assert!(Quota::parse(&json!({"rate": 1e9, "per": "1h"})).is_ok(), "as some libraries write it");
    }

    #[test]
    fn a_field_that_is_no_slip_is_somebody_elses() {
        let plain = Quota::parse(&json!({"rate": 1, "per": "1m"})).unwrap();
        for other in ["interval", "owner", "x-ticket", "", "burst_after_rest"] {
            let quota = json!({"rate": 1, "per": "1m", other: {"since": 2}});
            assert_eq!(Quota::parse(&quota), Ok(plain.clone()), "{other}");
        }
        for slip in ["Rate", "perr", "bursts", "mdoe", "scop", "flor"] {
            let told = Quota::parse(&json!({"rate": 1, slip: null})).unwrap_err();
            assert!(
                told.starts_with(&format!("{slip}: it is none of")) && told.contains("did you mean"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_bad_field_is_named_with_the_way_out() {
        let bad = |quota| Quota::parse(&quota).unwrap_err();
        assert_eq!(bad(json!(7)), "7 is not an object such as {\"rate\":100,\"per\":\"1s\"}");
        assert_eq!(bad(json!({"per": "1s"})), "rate: it is missing; write how many calls, such as 100");
        for rate in [json!(0), json!(-1), json!(0.5), json!("NaN"), json!(1e10), json!([])] {
            let told = format!("rate: {rate} is not a whole number from 1 to 1000000000");
            assert_eq!(bad(json!({ "rate": rate })), told);
        }
        let none = "it is none of rate, per, burst, scope, mode, floor";
        assert_eq!(bad(json!({"rate": 1, "brust": 2})), format!("brust: {none}; did you mean `burst`?"));
        assert_eq!(bad(json!({"rate": 1, "per": 5})), "per: 5 is not a duration such as 250ms or 10s");
        assert_eq!(bad(json!({"rate": 1, "per": "25h"})), "per: 90000s is over 24h");
        assert!(bad(json!({"rate": 1e9})).starts_with("rate: 1000000000 per 1s is over a million calls"));
        assert_eq!(bad(json!({"rate": 1, "scope": "galaxy"})), "scope: \"galaxy\" is none of fleet, host");
        assert_eq!(bad(json!({"rate": 1, "mode": "off"})), "mode: \"off\" is none of enforce, shadow");
        assert!(bad(json!({"rate": 1, "burst": 0})).starts_with("burst: 0 is not a whole number"));
        assert!(bad(json!({"rate": 1, "burst": 1e6})).contains("over 24h to come back"));
        assert!(
            bad(json!({"rate": 1, "floor": 2})).starts_with("floor: 2 is not a whole number from 0 to 1")
        );
    }
}
