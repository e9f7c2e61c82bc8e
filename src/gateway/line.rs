//! The first place of a call at a peer, waited for where all of them are full.

use std::time::Instant;

use super::attempt::Attempts;
use super::{Record, judge};
use crate::balance::Passed;
use crate::error::CallError;
use crate::peer::InFlight;

impl Attempts<'_> {
    /// A place at a peer; where all are full, or others wait for one, after a wait of at most `queue`.
    pub(super) async fn first_place(&self, record: &mut Record, now: Instant) -> Result<InFlight, CallError> {
        let (pool, waits) = (&self.plan.route.pool, !self.plan.route.policy.queue.is_zero());
        // nobody overtakes those who wait
        let picked = if waits && pool.has_line() { Err(Passed::Full) } else { self.pick(record, now) };
        match picked {
            // boxed: calls that find a place hold no room for the line
            Err(Passed::Full) if waits => Box::pin(self.in_line(record)).await,
            picked => picked.map_err(|passed| judge::passed(self.plan, passed)),
        }
    }

    async fn in_line(&self, record: &mut Record) -> Result<InFlight, CallError> {
        let plan = self.plan;
        let over = |line| CallError::Full(plan.service.to_string(), Some(line));
        let Some(waiting) = plan.route.pool.line_up() else {
            return Err(over("the line before them is full"));
        };
        let given_up = record.waits_until(plan);
        let place = async {
            loop {
                waiting.turn().await;
                match self.pick(record, Instant::now()) {
                    Err(Passed::Full) => {}
                    picked => return picked.map_err(|passed| judge::passed(plan, passed)),
                }
            }
        };
        match tokio::time::timeout_at(given_up.min(plan.deadline).into(), place).await {
            Ok(picked) => picked,
            Err(_) if plan.deadline <= given_up => Err(CallError::Deadline(plan.patience_ms)),
            Err(_) => Err(over("none of them ended within its `queue`")),
        }
    }
}
