//! One reader of all metrics for `/metrics` and for collectors: a second one would make each be counted twice.

use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    Instrument, InstrumentKind, Pipeline, SdkMeterProvider, Stream, Temporality,
};
use prometheus::Registry;

/// Sets of labels an instrument tells apart.
const MAX_SERIES: usize = 50_000;
/// The meter of instruments without labels: room for all series is made at once, 2 MiB for each instrument.
pub(super) const PLAIN: &str = "remora.plain";

/// What reads the metrics, and whom they are made by.
pub(super) struct Reading {
    /// For Prometheus text.
    pub(super) registry: Registry,
    pub(super) reader: Shared,
    pub(super) provider: SdkMeterProvider,
}

/// The reader, as its provider and whoever collects from it have it.
#[derive(Debug, Clone)]
pub(super) struct Shared(pub(super) Arc<PrometheusExporter>);

impl Reading {
    /// For metrics of who has these attributes.
    pub(super) fn of(resource: [(&'static str, String); 4]) -> Result<Self, String> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|e| e.to_string())?;
        let reader = Shared(Arc::new(exporter));
        let resource = resource.map(|(key, value)| KeyValue::new(key, value));
        let resource = Resource::builder_empty().with_attributes(resource).build();
        let roomy = |instrument: &Instrument| {
            let most = if instrument.scope().name() == PLAIN { 1 } else { MAX_SERIES };
            Stream::builder().with_cardinality_limit(most).build().ok()
        };
        let provider = SdkMeterProvider::builder().with_resource(resource).with_reader(reader.clone());
        Ok(Self { registry, reader, provider: provider.with_view(roomy).build() })
    }
}

impl MetricReader for Shared {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, all: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(all)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
