//! `[sources.<name>]` of the kind `kubernetes`.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::SettingsReader;
use crate::policy::{Entry, Fields, Node, Value, fields};
use crate::sources::{Access, CustomResource, FieldPath, Helm, KubernetesSettings, Preset};

const HELM: [(&str, Helm); 3] = [("if-allowed", Helm::IfAllowed), ("always", Helm::Always), ("never", Helm::Never)];

/// The folder of a pod's service account (Kubernetes: "Accessing the Kubernetes API from a Pod").
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Parses a cluster by its keys. Its name is its context, else the name of the source.
pub(super) fn kubernetes(
    fields: &mut Fields<'_>,
    entry: &Entry,
    reader: &mut SettingsReader,
) -> Option<Box<KubernetesSettings>> {
    let context = fields.get("context").map(|node| fields::text("context", node, &mut reader.problems));
    let context = context.map_or(Some(None), |text| text.map(|text| Some(text.to_owned())));
    let file = fields.get("kubeconfig").map(|node| fields::text("kubeconfig", node, &mut reader.problems));
    let file = file.map_or(Some(None), |text| text.map(|text| Some(reader.folder.join(text))));
    let namespaces = fields.get("namespaces").map_or(Some(Vec::new()), |node| namespaces(node, reader));
    let helm = fields
        .get("helm")
        .map_or(Some(Helm::default()), |node| fields::choice("helm", node, &HELM, &mut reader.problems));
    let custom = fields.get("custom").map_or(Some(CustomSettings::default()), |node| custom(node, reader));
    let configmaps =
        fields.get("configmaps").map_or(Some(false), |node| fields::boolean("configmaps", node, &mut reader.problems));
    let timeout = fields
        .get("timeout")
        .map_or(Some(Duration::from_secs(30)), |node| fields::duration("timeout", node, &mut reader.problems));
    let (context, CustomSettings { kinds, presets }) = (context?, custom?);
    Some(Box::new(KubernetesSettings {
        cluster: context.clone().unwrap_or_else(|| entry.key.clone()),
        access: access(file?, context, reader),
        namespaces: namespaces?,
        helm: helm?,
        custom: kinds,
        presets,
        configmaps: configmaps?,
        timeout: timeout?,
    }))
}

/// Returns the access to a cluster: a context without a file is one that `kubectl` would find; without both it is the
/// pod's own account.
fn access(file: Option<PathBuf>, context: Option<String>, reader: &SettingsReader) -> Access {
    match (file, &context) {
        (Some(file), _) => Access::Kubeconfig { files: vec![file], context },
        (None, Some(_)) => {
            let named = reader.variable("KUBECONFIG").map(|list| std::env::split_paths(list).collect::<Vec<_>>());
            let home = reader.variable("HOME").map(PathBuf::from).unwrap_or_default();
            let files = named.unwrap_or_else(|| vec![home.join(".kube/config")]);
            let files = files.into_iter().filter(|file| !file.as_os_str().is_empty()).collect();
            Access::Kubeconfig { files, context }
        }
        (None, None) => Access::ServiceAccount {
            server: reader.variable("KUBERNETES_SERVICE_HOST").map(|host| {
                let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                let port = reader.variable("KUBERNETES_SERVICE_PORT").unwrap_or("443");
                format!("https://{host}:{port}")
            }),
            folder: SERVICE_ACCOUNT.into(),
        },
    }
}

/// Parses names of namespaces: DNS labels (RFC 1123). They become part of a path.
fn namespaces(node: &Node, reader: &mut SettingsReader) -> Option<Vec<String>> {
    let (texts, mut sound) = fields::texts("namespaces", node, &mut reader.problems)?;
    let mut names = Vec::new();
    for (text, at) in texts {
        if !is_dns_name(&text, false) {
            let problem = format!("invalid namespace `{text}`");
            reader.problems.add(&at, problem).help("write whole names; leave `namespaces` out to read all of them");
            sound = false;
        }
        names.push(text);
    }
    names.sort();
    names.dedup();
    sound.then_some(names)
}

fn is_dns_name(text: &str, dots: bool) -> bool {
    let label = |label: &str| {
        let inside = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        !label.is_empty() && label.len() <= 63 && inside && !label.starts_with('-') && !label.ends_with('-')
    };
    if dots { text.split('.').all(label) } else { label(text) }
}

/// The entries of `custom`: kinds, and names of presets.
#[derive(Default)]
struct CustomSettings {
    kinds: Vec<CustomResource>,
    presets: Vec<Preset>,
}

fn custom(node: &Node, reader: &mut SettingsReader) -> Option<CustomSettings> {
    let nodes = fields::list("custom", node, &mut reader.problems)?;
    let presets = Preset::ALL.map(|preset| (preset.label(), preset));
    let mut custom = CustomSettings::default();
    let mut sound = true;
    for node in nodes.iter() {
        if matches!(node.value, Value::Map(_)) {
            match custom_resource(node, reader) {
                Some(kind) => custom.kinds.push(kind),
                None => sound = false,
            }
        } else {
            match fields::choice("preset", node, &presets, &mut reader.problems) {
                Some(preset) => custom.presets.push(preset),
                None => sound = false,
            }
        }
    }
    custom.presets.sort();
    custom.presets.dedup();
    sound.then_some(custom)
}

fn custom_resource(node: &Node, reader: &mut SettingsReader) -> Option<CustomResource> {
    let mut fields = Fields::of(node, "custom resource", &mut reader.problems)?;
    let at = fields.at();
    let mut word = |key: &'static str, legal: fn(&str) -> bool, reader: &mut SettingsReader| {
        let node = reader.required(&mut fields, key, at)?;
        let text = fields::text(key, node, &mut reader.problems)?;
        if legal(text) {
            return Some(text.to_owned());
        }
        let help = "write group, version and kind as the `apiVersion` and `kind` of its objects have them";
        reader.problems.add(&node.at, format!("`{text}` is not a valid API {key}")).help(help);
        None
    };
    let group = word("group", |text| is_dns_name(text, true), reader);
    let version = word("version", |text| is_dns_name(text, false), reader);
    let kind = word("kind", |text| text.bytes().all(|b| b.is_ascii_alphanumeric()), reader);
    let paths = reader.required(&mut fields, "paths", at).and_then(|node| paths(node, reader));
    let optional =
        fields.get("optional").map_or(Some(false), |node| fields::boolean("optional", node, &mut reader.problems));
    fields.finish(
        |key| (key == "plural" || key == "resource").then_some("write its `kind`; the cluster says the rest"),
        &mut reader.problems,
    );
    Some(CustomResource { group: group?, version: version?, kind: kind?, paths: paths?, optional: optional? })
}

/// Parses the paths of fields under a key.
pub(super) fn paths(node: &Node, reader: &mut SettingsReader) -> Option<Vec<FieldPath>> {
    let (texts, mut sound) = fields::texts("paths", node, &mut reader.problems)?;
    let mut paths = Vec::new();
    for (text, at) in texts {
        match text.parse::<FieldPath>() {
            Ok(path) => paths.push(path),
            Err(error) => {
                reader.problems.add(&at, error.to_string());
                sound = false;
            }
        }
    }
    sound.then_some(paths)
}
