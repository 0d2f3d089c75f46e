//! Objects of the API as they come, with only the fields that say something about images.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::reference_scan::KnownHosts;
use super::found::{Found, Object, OpenUse, Use};
use super::images::{Seen, name, pod_images, reported, written};
use crate::domain::{ImageReference, Naming};

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct WirePage<T> {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) metadata: WireListMeta,
    /// Go writes `null` for an empty list here and there.
    pub(super) items: Option<Vec<T>>,
}

#[derive(Deserialize, Default)]
pub(super) struct WireListMeta {
    #[serde(rename = "continue", default)]
    pub(super) next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireMeta {
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default, deserialize_with = "nullable")]
    owner_references: Vec<WireOwner>,
}

#[derive(Deserialize)]
struct WireOwner {
    kind: String,
    name: String,
    #[serde(default)]
    controller: Option<bool>,
}

/// A built-in workload, whichever: each has its pod specification in one of these places.
#[derive(Deserialize)]
pub(super) struct WireObject {
    pub(super) metadata: WireMeta,
    #[serde(default)]
    spec: Option<WireSpec>,
    /// Of a pod template.
    #[serde(default)]
    template: Option<WireTemplate>,
    /// Of a controller revision.
    #[serde(default)]
    data: Option<Value>,
    #[serde(default)]
    status: Option<WireStatus>,
}

#[derive(Deserialize)]
struct WireTemplate {
    #[serde(default)]
    spec: Option<WireSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSpec {
    #[serde(default, deserialize_with = "nullable")]
    containers: Vec<WireContainer>,
    #[serde(default, deserialize_with = "nullable")]
    init_containers: Vec<WireContainer>,
    #[serde(default, deserialize_with = "nullable")]
    ephemeral_containers: Vec<WireContainer>,
    #[serde(default, deserialize_with = "nullable")]
    volumes: Vec<WireVolume>,
    #[serde(default)]
    template: Option<Box<WireTemplate>>,
    #[serde(default)]
    job_template: Option<Box<WireTemplate>>,
}

#[derive(Deserialize)]
struct WireContainer {
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    image: String,
}

#[derive(Deserialize)]
struct WireVolume {
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: Option<WireImageVolume>,
}

#[derive(Deserialize)]
struct WireImageVolume {
    #[serde(default, deserialize_with = "nullable")]
    reference: String,
}

#[derive(Deserialize)]
struct WireStatus {
    #[serde(default, rename = "containerStatuses", deserialize_with = "nullable")]
    containers: Vec<WireContainerStatus>,
    #[serde(default, rename = "initContainerStatuses", deserialize_with = "nullable")]
    init: Vec<WireContainerStatus>,
    #[serde(default, rename = "ephemeralContainerStatuses", deserialize_with = "nullable")]
    ephemeral: Vec<WireContainerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContainerStatus {
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    image: String,
    #[serde(default, rename = "imageID", deserialize_with = "nullable")]
    image_id: String,
    #[serde(default, deserialize_with = "nullable")]
    volume_mounts: Vec<WireMount>,
}

/// Since Kubernetes 1.36 the kubelet says by which digest it mounted an image volume.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMount {
    #[serde(default)]
    name: String,
    #[serde(default)]
    volume_status: Option<WireVolumeStatus>,
}

#[derive(Deserialize)]
struct WireVolumeStatus {
    #[serde(default)]
    image: Option<WireMountedImage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMountedImage {
    #[serde(default, deserialize_with = "nullable")]
    image_ref: String,
}

fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Option::deserialize(input).map(Option::unwrap_or_default)
}

/// Whether an object runs, or is kept to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    Current,
    Kept,
}

/// One object while what it says is noted.
pub(super) struct Reading<'a> {
    pub(super) object: Object,
    pub(super) stand: Stand,
    pub(super) hosts: &'a KnownHosts,
    pub(super) found: &'a mut Found,
}

impl<'a> Reading<'a> {
    /// Begins to read an object of that kind, and notes its controller. A pod is its controller's from the beginning:
    /// of pods there are too many to hold each.
    pub(super) fn of(
        meta: &WireMeta,
        kind: &str,
        stand: Stand,
        hosts: &'a KnownHosts,
        found: &'a mut Found,
    ) -> Reading<'a> {
        let mut object = Object { namespace: meta.namespace.clone(), kind: kind.to_owned(), name: meta.name.clone() };
        // A static pod belongs to its node, which is no workload.
        let controller = meta.owner_references.iter().find(|owner| owner.controller == Some(true));
        if let Some(owner) = controller.filter(|owner| owner.kind != "Node") {
            let (kind, name) = (owner.kind.clone(), owner.name.clone());
            let owner = Object { namespace: meta.namespace.clone(), kind, name };
            if object.kind == "Pod" {
                object = owner;
            } else {
                found.controllers.insert(object.clone(), owner);
            }
        }
        if !found.namespaces.contains(&meta.namespace) {
            found.namespaces.insert(meta.namespace.clone());
        }
        Reading { object, stand, hosts, found }
    }

    /// Notes what was seen in a container.
    pub(super) fn note(&mut self, container: &str, seen: Seen) {
        self.note_as(container, seen, Naming::Written);
    }

    fn note_as(&mut self, container: &str, seen: Seen, naming: Naming) {
        match seen {
            Seen::Nothing => {}
            Seen::Foreign(what) => self.tell(container, &what),
            Seen::Problem(what) => drop(self.found.problems.insert(format!("{}: {what}", self.place(container)))),
            Seen::Corrected(image, what) => {
                self.tell(container, &what);
                self.add(container, image, Naming::Corrected);
            }
            Seen::Unresolved(host, path, what) => {
                self.tell(container, &what);
                let (object, container) = (self.object.clone(), container.to_owned());
                let text = what.split('`').nth(1).unwrap_or(&what).to_owned();
                self.found.open.insert(OpenUse { text, host, path, object, container });
            }
            Seen::Image(image) => self.add(container, image, naming),
        }
    }

    fn add(&mut self, container: &str, image: ImageReference, naming: Naming) {
        let one = Use { image, naming, object: self.object.clone(), container: container.to_owned() };
        match self.stand {
            Stand::Current => self.found.uses.insert(one),
            Stand::Kept => self.found.kept.insert(one),
        };
    }

    /// Notes what a person should know of a container.
    fn tell(&mut self, container: &str, what: &str) {
        let note = format!("{}: {what}", self.place(container));
        self.found.notes.insert(note);
    }

    fn place(&self, container: &str) -> String {
        let Object { namespace, kind, name } = &self.object;
        match container {
            "" => format!("{kind} {namespace}/{name}"),
            container => format!("{kind} {namespace}/{name}, {container}"),
        }
    }

    /// Notes a reference of a specification.
    pub(super) fn written(&mut self, container: &str, text: &str) {
        let seen = written(text, self.hosts);
        self.note(container, seen);
    }

    /// Notes everything that a built-in workload says.
    pub(super) fn workload(&mut self, wire: &WireObject) {
        let templates = [&wire.template].into_iter().flatten();
        for spec in wire.spec.iter().chain(templates.filter_map(|template| template.spec.as_ref())) {
            self.spec(spec);
        }
        if let Some(data) = &wire.data {
            pod_images(data, &mut |container, image| self.written(container, image));
        }
        let Some(status) = &wire.status else { return };
        let all = [&status.containers, &status.init, &status.ephemeral];
        for status in all.into_iter().flatten() {
            self.runs(wire, &status.name, &status.image_id, &status.image);
            for mount in &status.volume_mounts {
                if let Some(image) = mount.volume_status.as_ref().and_then(|status| status.image.as_ref()) {
                    self.runs(wire, &mount.name, &image.image_ref, "");
                }
            }
        }
    }

    /// Notes what the runtime says that a container or volume runs. An image id says little by itself, so the names that
    /// the specification and the status give that container go with it.
    fn runs(&mut self, wire: &WireObject, container: &str, image_id: &str, image: &str) {
        let seen = reported(image_id, image, self.hosts);
        let naming = match &seen {
            Seen::Image(seen) if seen.repository.is_none() => naming_of(wire.spec.as_ref(), container, image),
            _ => Naming::Written,
        };
        self.note_as(container, seen, naming);
    }

    fn spec(&mut self, spec: &WireSpec) {
        for container in [&spec.containers, &spec.init_containers, &spec.ephemeral_containers].into_iter().flatten() {
            self.written(&container.name, &container.image);
        }
        for volume in &spec.volumes {
            if let Some(image) = &volume.image {
                self.written(&volume.name, &image.reference);
            }
        }
        let inner = [&spec.template, &spec.job_template].into_iter().flatten();
        inner.filter_map(|template| template.spec.as_ref()).for_each(|spec| self.spec(spec));
    }
}

impl WireSpec {
    /// Name and image text of each container and image volume.
    fn images(&self) -> impl Iterator<Item = (&str, &str)> {
        let containers = [&self.containers, &self.init_containers, &self.ephemeral_containers].into_iter().flatten();
        let volumes =
            self.volumes.iter().filter_map(|volume| Some((&*volume.name, &*volume.image.as_ref()?.reference)));
        containers.map(|container| (&*container.name, &*container.image)).chain(volumes)
    }
}

/// The names that go with an image id: those of the container in the specification and in the status, else all of the
/// specification.
fn naming_of(spec: Option<&WireSpec>, container: &str, status: &str) -> Naming {
    let images = || spec.into_iter().flat_map(WireSpec::images);
    let names = |texts: &mut dyn Iterator<Item = &str>| -> Vec<ImageReference> {
        let mut names: Vec<ImageReference> = texts.filter_map(name).collect();
        names.sort();
        names.dedup();
        names
    };
    let own: Vec<&str> = images().filter(|(name, _)| *name == container).map(|(_, text)| text).collect();
    let paired = names(&mut own.iter().copied().chain([status]));
    if !own.is_empty() && !paired.is_empty() {
        return Naming::Paired(paired.into());
    }
    Naming::Unpaired(names(&mut images().map(|(_, text)| text).chain([status])).into())
}
