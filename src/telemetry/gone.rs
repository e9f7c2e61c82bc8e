//! Series of services that left: the SDK never drops one, so readers are not shown them any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahash::{HashMap, HashSet};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prometheus::proto::{Metric as Sample, MetricFamily};

use super::Telemetry;

/// How long series are shown after their service left the registry: one that comes back has them all along.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// The same after it left the view because nobody called it; one call a day keeps them.
const KEPT_IDLE: Duration = Duration::from_secs(25 * 3600);
/// Most services that are known to have left; series of further ones stay.
const MAX_SERVICES: usize = 50_000;
const LABEL: &str = "service";

/// From when on the series of services are not shown.
#[derive(Debug, Default)]
pub(super) struct Gone(Mutex<HashMap<Arc<str>, Instant>>);

/// Services whose series are not shown now.
#[derive(Debug)]
pub(super) struct Hidden(HashSet<Arc<str>>);

impl Telemetry {
    /// `service` is in the view.
    pub fn serves(&self, service: &str) {
        self.inner.gone.services().remove(service);
    }

    /// `service` left the registry.
    pub fn leaves(&self, service: Arc<str>, now: Instant) {
        self.inner.gone.goes(service, now + KEPT);
    }

    /// `service` left the view for want of calls: whether it leaves the registry, nobody hears.
    pub fn rests(&self, service: Arc<str>, now: Instant) {
        self.inner.gone.goes(service, now + KEPT_IDLE);
    }
}

impl Gone {
    fn services(&self) -> MutexGuard<'_, HashMap<Arc<str>, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes(&self, service: Arc<str>, shown_until: Instant) {
        let mut services = self.services();
        if services.len() < MAX_SERVICES || services.contains_key(&service) {
            services.insert(service, shown_until);
        }
    }

    /// `None`: all are shown.
    pub(super) fn hidden(&self, now: Instant) -> Option<Hidden> {
        let services = self.services();
        let hidden = services.iter().filter(|(_, shown_until)| now >= **shown_until);
        let hidden: HashSet<_> = hidden.map(|(service, _)| service.clone()).collect();
        (!hidden.is_empty()).then_some(Hidden(hidden))
    }
}

impl Hidden {
    /// Takes their series out of what becomes Prometheus text.
    pub(super) fn leave(&self, families: &mut Vec<MetricFamily>) {
        let is_of = |sample: &Sample| {
            sample.get_label().iter().any(|label| label.name() == LABEL && self.0.contains(label.value()))
        };
        for family in &mut *families {
            family.mut_metric().retain(|sample| !is_of(sample));
        }
        // a family of nothing can't be written
        families.retain(|family| !family.get_metric().is_empty());
    }

    /// Takes their points out of a metric for a collector.
    pub(super) fn leave_metric(&self, metric: &mut Metric) {
        let is_shown = |attributes: &[KeyValue]| !attributes.iter().any(|pair| self.names(pair));
        match &mut metric.data {
            Some(Data::Sum(sum)) => sum.data_points.retain(|point| is_shown(&point.attributes)),
            Some(Data::Gauge(gauge)) => gauge.data_points.retain(|point| is_shown(&point.attributes)),
            Some(Data::Histogram(many)) => many.data_points.retain(|point| is_shown(&point.attributes)),
            Some(Data::ExponentialHistogram(_) | Data::Summary(_)) | None => {}
        }
    }

    fn names(&self, pair: &KeyValue) -> bool {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        pair.key == LABEL && matches!(value, Some(Value::StringValue(name)) if self.0.contains(name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_leave_without_end_cost_bounded_memory() {
        let (gone, now) = (Gone::default(), Instant::now());
        (0..MAX_SERVICES + 10).for_each(|n| gone.goes(n.to_string().into(), now));
        assert_eq!(gone.services().len(), MAX_SERVICES);
        gone.goes("0".into(), now + KEPT);
        let hidden = gone.hidden(now).unwrap();
        assert!(!hidden.0.contains("0") && hidden.0.contains("1"), "those that are known still move");
    }
}
