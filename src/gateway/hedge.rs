//! A second attempt at another peer while the first is under way: the first good answer wins.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use super::Record;
use super::attempt::Attempts;
use super::tried::Tried;
use crate::limits::Hedges;
use crate::model::{After, Hedge};
use crate::peer::InFlight;
use crate::upstream::{Outgoing, Spare};

impl Attempts<'_> {
    /// The attempt at `place`, or one that answers before it.
    pub(super) async fn first_answer(
        &self,
        place: InFlight,
        request: Outgoing,
        spare: Option<&Spare>,
        record: &mut Record,
    ) -> Tried {
        let mut first = pin!(self.one(place, request, spare));
        let route = &self.plan.route;
        let may = self.is_idempotent && record.tried.len() == 1;
        let (Some(hedge), Some(hedges), Some(spare), true) = (route.policy.hedge, &route.hedges, spare, may)
        else {
            return first.await;
        };
        hedges.allowance.count(record.started);
        let began = Instant::now();
        let tried = match delay(hedge, hedges) {
            // boxed: calls that never hedge hold no room for a second attempt
            Some(delay) => Box::pin(self.hedged(first.as_mut(), delay, spare, record)).await,
            None => first.as_mut().await,
        };
        // where the second won, the first would have taken longer than this
        if tried.is_good() {
            let asked = self.stall.came().map_or(began, |came| came.max(began));
            hedges.latencies.record(asked.elapsed());
        }
        tried
    }

    async fn hedged(
        &self,
        mut first: Pin<&mut impl Future<Output = Tried>>,
        delay: Duration,
        spare: &Spare,
        record: &mut Record,
    ) -> Tried {
        if let Ok(tried) = tokio::time::timeout(delay, first.as_mut()).await {
            return tried;
        }
        let Some((place, request)) = self.second(spare, record) else { return first.await };
        let mut second = pin!(self.one(place, request, Some(spare)));
        let (over, is_second) = tokio::select! {
            biased;
            tried = first.as_mut() => (tried, false),
            tried = second.as_mut() => (tried, true),
        };
        if over.serves() {
            self.won(is_second);
            return over;
        }
        // what failed fast is no reason to give up one that may do better
        let other = if is_second { first.await } else { second.await };
        self.won(!is_second && other.serves());
        let (kept, mut left) = if other.worth() >= over.worth() { (other, over) } else { (over, other) };
        record.settles(&mut left);
        kept
    }

    /// A place at another peer and the request for it, if the budget allows one.
    fn second(&self, spare: &Spare, record: &mut Record) -> Option<(InFlight, Outgoing)> {
        let route = &self.plan.route;
        let (hedge, hedges) = (route.policy.hedge?, route.hedges.as_ref()?);
        let place = self.pick(record, Instant::now()).ok()?;
        let request = spare.request()?;
        if !hedges.allowance.take(hedge.budget, 0, Instant::now()) {
            return None;
        }
        self.worker.telemetry.hedged(self.plan.service.as_str());
        record.goes_to(&place);
        Some((place, request))
    }

    fn won(&self, is_second: bool) {
        if is_second {
            self.worker.telemetry.hedge_won(self.plan.service.as_str());
        }
    }
}

/// How long the first attempt has for itself; `None`: it is not known yet what is long.
fn delay(hedge: Hedge, hedges: &Hedges) -> Option<Duration> {
    match hedge.after {
        After::P95 => hedges.latencies.p95(),
        After::Time(after) => Some(after),
    }
}
