//! `ConfigMap`s: settings of programs, which may start images that they name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::super::known_hosts::KnownHosts;
use super::super::object_texts::from_json;
use super::claims::ClusterEvidence;
use super::objects::{ObjectReader, RevisionState, WireMeta};

/// The certificate authority of the cluster, which Kubernetes puts into each namespace.
const AUTHORITY: &str = "kube-root-ca.crt";

/// A map with settings. Its binary data are not text.
#[derive(Deserialize)]
pub(super) struct WireConfigMap {
    metadata: WireMeta,
    #[serde(default)]
    data: Option<BTreeMap<String, Option<String>>>,
}

/// Records the texts of a map.
pub(super) fn add_config_map(map: WireConfigMap, hosts: &KnownHosts, found: &mut ClusterEvidence) {
    let WireConfigMap { metadata, data } = map;
    let mut reading = ObjectReader::of(&metadata, "ConfigMap", RevisionState::Current, hosts, found);
    if metadata.name == AUTHORITY {
        return;
    }
    let data: Map<String, Json> =
        data.unwrap_or_default().into_iter().filter_map(|(key, text)| Some((key, Json::String(text?)))).collect();
    let parts = [Some(metadata.name.into()), metadata.labels, metadata.annotations, Some(Json::Object(data))];
    let spots = reading.add_texts(from_json(parts.into_iter().flatten().collect()), &[]);
    for spot in spots {
        reading.add_text_image(spot, None);
    }
}
