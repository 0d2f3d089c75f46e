//! The daemon's metrics as OTLP: the same families that a scrape finds, by the compatibility rules of OpenTelemetry
//! (<https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>).

use std::collections::BTreeMap;

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource as WireResource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;

use super::SCOPE;
use super::openmetrics::{self, MetricFamily, Sample};

/// Translates metrics. Counters and histograms begin at `started`.
pub(super) struct MetricExporter {
    resource: WireResource,
    started: u64,
}

impl MetricExporter {
    pub(super) fn new(resource: &Resource, now: Timestamp) -> Self {
        let attributes = ResourceAttributesWithSchema::from(resource).attributes.0;
        Self { resource: WireResource { attributes, ..WireResource::default() }, started: nanoseconds(now) }
    }

    /// Returns the request with all families of a page in the OpenMetrics text format.
    pub(super) fn request(&self, page: &str, now: Timestamp) -> ExportMetricsServiceRequest {
        let now = nanoseconds(now);
        let families = openmetrics::parse(page);
        let metrics = families.iter().filter_map(|family| self.metric(family, now)).collect();
        let scope = InstrumentationScope {
            name: SCOPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
        let resource = Some(self.resource.clone());
        let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
        ExportMetricsServiceRequest { resource_metrics }
    }

    /// Returns `None` for a family without samples.
    fn metric(&self, family: &MetricFamily, now: u64) -> Option<Metric> {
        if family.samples.is_empty() {
            return None;
        }
        let numbers = |suffix: &str| -> Vec<NumberDataPoint> {
            let samples = family.samples.iter().filter(|sample| sample.suffix == suffix);
            samples.map(|sample| self.number(sample, now)).collect()
        };
        let cumulative = AggregationTemporality::Cumulative.into();
        let data = match &*family.kind {
            "counter" => Data::Sum(Sum {
                data_points: numbers("_total"),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            "histogram" => Data::Histogram(Histogram {
                data_points: self.histograms(family, now),
                aggregation_temporality: cumulative,
            }),
            "info" => Data::Gauge(Gauge { data_points: numbers("_info") }),
            _ => Data::Gauge(Gauge { data_points: numbers("") }),
        };
        Some(Metric {
            name: family.name.clone(),
            description: family.help.clone(),
            data: Some(data),
            ..Metric::default()
        })
    }

    fn number(&self, sample: &Sample, now: u64) -> NumberDataPoint {
        NumberDataPoint {
            attributes: attributes(&sample.labels),
            start_time_unix_nano: self.started,
            time_unix_nano: now,
            value: Some(number_data_point::Value::AsDouble(sample.value)),
            ..NumberDataPoint::default()
        }
    }

    /// Returns one point for each set of labels. The buckets of the text format are cumulative, those of OTLP are not.
    fn histograms(&self, family: &MetricFamily, now: u64) -> Vec<HistogramDataPoint> {
        let mut points: BTreeMap<BTreeMap<String, String>, (HistogramDataPoint, u64)> = BTreeMap::new();
        for sample in &family.samples {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le");
            let (point, below) = points.entry(labels.clone()).or_insert_with(|| {
                let point = HistogramDataPoint {
                    attributes: attributes(&labels),
                    start_time_unix_nano: self.started,
                    time_unix_nano: now,
                    ..HistogramDataPoint::default()
                };
                (point, 0)
            });
            match (&*sample.suffix, bound) {
                ("_sum", _) => point.sum = Some(sample.value),
                ("_count", _) => point.count = count(sample.value),
                ("_bucket", Some(bound)) => {
                    let up_to = count(sample.value);
                    point.bucket_counts.push(up_to.saturating_sub(*below));
                    *below = up_to;
                    if let Some(bound) = bound.parse().ok().filter(|bound: &f64| bound.is_finite()) {
                        point.explicit_bounds.push(bound);
                    }
                }
                _ => {}
            }
        }
        points.into_values().map(|(point, _)| point).collect()
    }
}

fn attributes(labels: &BTreeMap<String, String>) -> Vec<KeyValue> {
    let attribute = |(key, value): (&String, &String)| KeyValue {
        key: key.clone(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.clone())) }),
        ..KeyValue::default()
    };
    labels.iter().map(attribute).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole and not negative")]
fn count(value: f64) -> u64 {
    value as u64
}

fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_becomes_its_counterpart() {
        let page = "# HELP a_removals Tags.\n# TYPE a_removals counter\na_removals_total{registry=\"r\"} 3\n\
                    # HELP a_ready Ready.\n# TYPE a_ready gauge\na_ready 1\n\
                    # HELP a_unused Unused.\n# TYPE a_unused gauge\n\
                    # HELP a_took Took.\n# TYPE a_took histogram\na_took_sum{kind=\"run\"} 8.5\na_took_count{kind=\"run\"} 4\n\
                    a_took_bucket{le=\"1.0\",kind=\"run\"} 1\na_took_bucket{le=\"5.0\",kind=\"run\"} 3\n\
                    a_took_bucket{le=\"+Inf\",kind=\"run\"} 4\n# EOF\n";
        let resource =
            Resource::builder_empty().with_attribute(opentelemetry::KeyValue::new("service.name", "x")).build();
        let exporter = MetricExporter::new(&resource, Timestamp::UNIX_EPOCH);
        let request = exporter.request(page, Timestamp::from_second(9).unwrap());
        let all = &request.resource_metrics[0];
        assert_eq!(all.resource.as_ref().unwrap().attributes[0].key, "service.name");
        let metrics = &all.scope_metrics[0].metrics;
        let names: Vec<_> = metrics.iter().map(|metric| &*metric.name).collect();
        assert_eq!(names, ["a_removals", "a_ready", "a_took"]);
        let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{:?}", metrics[0]) };
        assert!(sum.is_monotonic);
        assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsDouble(3.0)));
        assert_eq!(sum.data_points[0].time_unix_nano, 9_000_000_000);
        let Some(Data::Histogram(histogram)) = &metrics[2].data else { panic!("{:?}", metrics[2]) };
        let [point] = &*histogram.data_points else { panic!("{histogram:?}") };
        assert_eq!((point.count, point.sum), (4, Some(8.5)));
        assert_eq!(point.explicit_bounds, [1.0, 5.0]);
        assert_eq!(point.bucket_counts, [1, 2, 1]);
    }
}
