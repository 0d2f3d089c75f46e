//! Compose files: the images of their services.
//!
//! <https://docs.docker.com/reference/compose-file/services/#image>

use std::sync::Arc;

use super::super::document::{Node, Value};
use super::{Facts, scalar};

/// Parses a document that may be a compose file. Returns false if it is not one.
///
/// A service with a `build` section runs under its given name, and is pulled by it elsewhere.
pub(super) fn read(name: &Arc<str>, node: &Node, facts: &mut Facts) -> bool {
    let Some(Value::Map(services)) = node.get("services").map(|services| &services.value) else { return false };
    let mut images = services.iter().filter_map(|(_, _, service)| scalar(service, "image")).peekable();
    let is_compose = images.peek().is_some();
    for image in images {
        facts.add_runtime_use(name, image);
    }
    is_compose
}

#[cfg(test)]
mod tests {
    use super::super::tests::{claims_in, finish, read, shown};

    #[test]
    fn a_service_without_a_tag_runs_latest() {
        for (service, expected) in [
            ("{ image: contoso.azurecr.io/shop/api }", "2 shop/api:latest"),
            ("{ image: contoso.azurecr.io/shop/api, build: . }", "2 shop/api:latest"),
            // The text scan finds these.
            ("{ image: contoso.azurecr.io/shop/api:v1 }", ""),
            ("{ image: \"contoso.azurecr.io/shop/api:${TAG}\" }", ""),
            ("{ image: redis }", ""),
            ("{ build: . }", ""),
        ] {
            assert_eq!(claims_in("compose.yaml", &format!("services:\n  api: {service}\n")), expected, "{service}");
        }
    }

    #[test]
    fn a_service_leaves_nothing_open() {
        let text = "services:\n  api:\n    image: contoso.azurecr.io/shop/api\n";
        let findings = finish(read(&[("compose.yaml", text)]), Vec::new());
        assert_eq!(shown(&findings), ["compose.yaml:3 shop/api:latest"]);
        assert!(findings.resolved.covers("compose.yaml", 3, "shop/api"));
        assert!(!findings.resolved.covers("compose.yaml", 3, "shop/web"));
        assert!(!findings.resolved.covers("compose.yaml", 4, "shop/api"));
    }
}
