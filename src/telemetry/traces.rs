//! Spans for the collector.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;

use super::collector::Collector;
use crate::domain::chain;

/// Sends batches of spans. The batches come from a thread of their own; the requests are made on the runtime.
#[derive(Debug)]
pub(super) struct SpanSender {
    collector: Arc<Collector>,
    resource: ResourceAttributesWithSchema,
    runtime: Handle,
}

impl SpanSender {
    /// Must be called within a Tokio runtime.
    pub(super) fn new(collector: Arc<Collector>, resource: &Resource) -> Self {
        Self { collector, resource: resource.into(), runtime: Handle::current() }
    }
}

impl SpanExporter for SpanSender {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let collector = Arc::clone(&self.collector);
        let sending = self
            .runtime
            .spawn(async move { collector.send("traces", &ExportTraceServiceRequest { resource_spans }).await });
        match sending.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let why = chain(&error);
                tracing::warn!("traces were not sent: {why}");
                Err(OTelSdkError::InternalFailure(why))
            }
            // The runtime has ended.
            Err(_) => Err(OTelSdkError::AlreadyShutdown),
        }
    }
}
