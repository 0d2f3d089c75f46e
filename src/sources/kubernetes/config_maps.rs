//! `ConfigMap`s: settings of programs, which may start images that they name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::super::object_texts::from_json;
use super::super::reference_scan::KnownHosts;
use super::found::Found;
use super::objects::{Reading, Stand, WireMeta};

/// The certificate authority of the cluster, which Kubernetes puts into each namespace.
const AUTHORITY: &str = "kube-root-ca.crt";

/// A map with settings. Its binary data are not text.
#[derive(Deserialize)]
pub(super) struct WireConfigMap {
    metadata: WireMeta,
    #[serde(default)]
    data: Option<BTreeMap<String, Option<String>>>,
}

/// Notes the texts of a map.
pub(super) fn note(map: WireConfigMap, hosts: &KnownHosts, found: &mut Found) {
    let WireConfigMap { metadata, data } = map;
    let mut reading = Reading::of(&metadata, "ConfigMap", Stand::Current, hosts, found);
    if metadata.name == AUTHORITY {
        return;
    }
    let data: Map<String, Json> =
        data.unwrap_or_default().into_iter().filter_map(|(key, text)| Some((key, Json::String(text?)))).collect();
    let parts = [Some(metadata.name.into()), metadata.labels, metadata.annotations, Some(Json::Object(data))];
    let spots = reading.spots(from_json(parts.into_iter().flatten().collect()), &[]);
    for spot in spots {
        reading.spotted(spot, None);
    }
}
