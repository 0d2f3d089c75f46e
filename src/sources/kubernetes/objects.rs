//! Objects of the API as they come, with only the fields that say something about images.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::super::document::Node;
use super::super::image_texts::{Seen, written};
use super::super::object_texts::{OpenReference, Spot, Spotted, from_json};
use super::super::reference_scan::KnownHosts;
use super::found::{Found, Object, OpenUse, Use};
use super::images::reported;
use super::templates::{TemplateImage, fingerprint, naming_of};
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
    #[serde(default)]
    pub(super) labels: Option<Json>,
    #[serde(default)]
    pub(super) annotations: Option<Json>,
}

#[derive(Deserialize)]
struct WireOwner {
    kind: String,
    name: String,
    #[serde(default)]
    controller: Option<bool>,
}

/// A built-in workload, whichever. What it says of pods is read as it comes: any string may name an image.
#[derive(Deserialize)]
pub(super) struct WireObject {
    pub(super) metadata: WireMeta,
    #[serde(default)]
    spec: Option<Box<RawValue>>,
    /// Of a pod template.
    #[serde(default)]
    template: Option<Box<RawValue>>,
    /// Of a controller revision.
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    status: Option<WireStatus>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    is_pod: bool,
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
        let is_pod = object.kind == "Pod";
        // A static pod belongs to its node, which is no workload.
        let controller = meta.owner_references.iter().find(|owner| owner.controller == Some(true));
        if let Some(owner) = controller.filter(|owner| owner.kind != "Node") {
            let (kind, name) = (owner.kind.clone(), owner.name.clone());
            let owner = Object { namespace: meta.namespace.clone(), kind, name };
            if is_pod {
                object = owner;
            } else {
                found.controllers.insert(object.clone(), owner);
            }
        }
        if !found.namespaces.contains(&meta.namespace) {
            found.namespaces.insert(meta.namespace.clone());
        }
        Reading { object, stand, hosts, found, is_pod }
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
                let text = what.split('`').nth(1).unwrap_or(&what).into();
                let reference = OpenReference { text, host, path, beside: [].into(), latest: None };
                self.leave_open(container, None, reference);
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

    /// Notes a reference that leaves open which image it means. `at` is the number of its value in the object, where forms
    /// may say more of it.
    pub(super) fn leave_open(&mut self, container: &str, at: Option<u32>, reference: OpenReference) {
        let (object, container) = (self.object.clone(), container.to_owned());
        self.found.open.insert(OpenUse { reference, object, container, at, stand: self.stand });
    }

    /// Notes what a person should know of a container.
    pub(super) fn tell(&mut self, container: &str, what: &str) {
        let note = format!("{}: {what}", self.place(container));
        self.found.notes.insert(note);
    }

    fn place(&self, container: &str) -> String {
        match container {
            "" => self.object.words(),
            container => format!("{}, {container}", self.object.words()),
        }
    }

    /// Notes a reference of a specification.
    pub(super) fn written(&mut self, container: &str, text: &str) {
        let seen = written(text, self.hosts);
        self.note(container, seen);
    }

    /// Adds the texts of a part of the object, and returns the images in them. `read` are the strings that were read as
    /// images before.
    pub(super) fn spots(&mut self, part: Node, read: &[&str]) -> Vec<Spot> {
        self.found.texts.read(&self.object, part, read, self.hosts)
    }

    /// Notes an image in a text.
    pub(super) fn spotted(&mut self, spot: Spot, at: Option<u32>) {
        let Spot { container, what, .. } = spot;
        match what {
            Spotted::Written(text) => self.written(&container, &text),
            Spotted::Image(image, naming) => self.add(&container, image, naming),
            Spotted::Open(open) => self.leave_open(&container, at, open),
            Spotted::Note(what) => self.tell(&container, &what),
        }
    }

    /// Notes everything that a built-in workload says.
    pub(super) fn workload(&mut self, wire: WireObject) {
        let WireObject { metadata, spec, template, data, status } = wire;
        let name = self.object.name.clone().into();
        let about: Json = [Some(name), metadata.labels, metadata.annotations].into_iter().flatten().collect();
        let spots = self.spots(from_json(about), &[]);
        for spot in spots {
            self.spotted(spot, None);
        }
        let images = self.templates([spec, template, data]);
        let Some(status) = &status else { return };
        let all = [&status.containers, &status.init, &status.ephemeral];
        for status in all.into_iter().flatten() {
            self.runs(&images, &status.name, &status.image_id, &status.image);
            for mount in &status.volume_mounts {
                if let Some(image) = mount.volume_status.as_ref().and_then(|status| status.image.as_ref()) {
                    self.runs(&images, &mount.name, &image.image_ref, "");
                }
            }
        }
    }

    /// Notes what the pod templates of a workload say, and returns their images. Pods of one template are read once.
    fn templates(&mut self, parts: [Option<Box<RawValue>>; 3]) -> Arc<[TemplateImage]> {
        let known = parts[0].as_ref().filter(|_| self.is_pod).and_then(|spec| fingerprint(&self.object, spec));
        if let Some(images) = known.and_then(|known| self.found.templates.get(&known)) {
            return Arc::clone(images);
        }
        let mut images: Vec<TemplateImage> = Vec::new();
        for part in parts.into_iter().flatten() {
            let part: Json = match serde_json::from_str(part.get()) {
                Ok(part) => part,
                Err(error) => {
                    self.note("", Seen::Problem(format!("its specification cannot be read: {error}")));
                    continue;
                }
            };
            for spot in self.spots(from_json(part), &[]) {
                if let Spotted::Written(text) = &spot.what {
                    images.push((spot.container.clone(), text.as_str().into()));
                }
                self.spotted(spot, None);
            }
        }
        let images: Arc<[TemplateImage]> = images.into();
        if let Some(known) = known {
            self.found.templates.insert(known, Arc::clone(&images));
        }
        images
    }

    /// Notes what the runtime says that a container or volume runs. An image id says little by itself, so the names that
    /// the specification and the status give that container go with it.
    fn runs(&mut self, images: &[TemplateImage], container: &str, image_id: &str, image: &str) {
        let seen = reported(image_id, image, self.hosts);
        let naming = match &seen {
            Seen::Image(seen) if seen.repository.is_none() => naming_of(images, container, image),
            _ => Naming::Written,
        };
        self.note_as(container, seen, naming);
    }
}
