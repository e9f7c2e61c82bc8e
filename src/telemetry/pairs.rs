//! Gauges that are told apart by two labels.

use opentelemetry::KeyValue;

use super::Telemetry;

impl Telemetry {
    /// Shows what `read` says whenever metrics are asked for, each value by its two labels.
    pub fn observe_pairs(
        &self,
        name: &'static str,
        description: &'static str,
        labels: [&'static str; 2],
        read: impl Fn() -> Vec<([String; 2], u64)> + Send + Sync + 'static,
    ) {
        let gauge = self.inner.meter.u64_observable_gauge(name).with_description(description);
        gauge
            .with_callback(move |observer| {
                for ([one, other], value) in read() {
                    let values = [KeyValue::new(labels[0], one), KeyValue::new(labels[1], other)];
                    observer.observe(value, &values);
                }
            })
            .build();
    }
}
