//! Containers in Kubernetes objects, wherever their kind has its pod template.

use std::sync::Arc;

use super::super::document::{Node, Value};
use super::kustomize::Kustomize;
use super::{Facts, scalar};

/// Parses the images of all containers in an object.
pub(super) fn read(name: &Arc<str>, node: &Node, facts: &mut Facts, kustomize: &mut Kustomize) {
    match &node.value {
        Value::List(nodes) => nodes.iter().for_each(|node| read(name, node, facts, kustomize)),
        Value::Map(entries) => {
            for (_, key, value) in entries {
                let are_containers = matches!(key.as_str(), "containers" | "initContainers" | "ephemeralContainers");
                if let Value::List(containers) = &value.value
                    && are_containers
                {
                    for image in containers.iter().filter_map(|container| scalar(container, "image")) {
                        facts.add_runtime_use(name, image);
                        kustomize.add_image(name, image);
                    }
                }
                read(name, value, facts, kustomize);
            }
        }
        Value::Null | Value::Literal(_) | Value::Text(_) => {}
    }
}
