//! Objects of the API, with only the fields that concern images.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::super::document::Node;
use super::super::image_field::{ImageField, parse_spec};
use super::super::known_hosts::KnownHosts;
use super::super::object_texts::{TextImage, TextImageKind, UnresolvedText, from_json};
use super::claims::{ClusterEvidence, ContainerUse, Object, UnresolvedUse};
use super::images::parse_status_image;
use super::templates::{TemplateImage, fingerprint, metadata_fingerprint, naming_of};
use crate::domain::{ImageReference, Naming, chain};

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct WirePage<T> {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) metadata: WireListMeta,
    /// Go writes `null` for some empty lists.
    pub(super) items: Option<Vec<T>>,
}

#[derive(Deserialize, Default)]
pub(super) struct WireListMeta {
    #[serde(rename = "continue", default)]
    pub(super) next: Option<String>,
}

/// The metadata of an object. `T` is the type of its labels and annotations.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireMeta<T = Json> {
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default, deserialize_with = "nullable")]
    owner_references: Vec<WireOwner>,
    #[serde(default)]
    pub(super) labels: Option<T>,
    #[serde(default)]
    pub(super) annotations: Option<T>,
}

#[derive(Deserialize)]
struct WireOwner {
    kind: String,
    name: String,
    #[serde(default)]
    controller: Option<bool>,
}

/// Any built-in workload. Its pod templates are kept as raw JSON: any string may name an image.
#[derive(Deserialize)]
pub(super) struct WireObject {
    pub(super) metadata: WireMeta<Box<RawValue>>,
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

/// Since Kubernetes 1.36 the kubelet reports the digest of a mounted image volume.
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

/// Current objects, or historic ones stored for rollbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RevisionState {
    Current,
    Historic,
}

/// One object while its evidence is recorded.
pub(super) struct ObjectReader<'a> {
    pub(super) object: Object,
    pub(super) revision_state: RevisionState,
    pub(super) hosts: &'a KnownHosts,
    pub(super) found: &'a mut ClusterEvidence,
    is_pod: bool,
}

impl<'a> ObjectReader<'a> {
    /// Starts reading an object of that kind, and records its controller. A pod counts as its controller: pods are too
    /// many to store each.
    pub(super) fn of<T>(
        meta: &WireMeta<T>,
        kind: &str,
        stand: RevisionState,
        hosts: &'a KnownHosts,
        found: &'a mut ClusterEvidence,
    ) -> ObjectReader<'a> {
        let mut object = Object { namespace: meta.namespace.clone(), kind: kind.to_owned(), name: meta.name.clone() };
        let is_pod = object.kind == "Pod";
        // A static pod belongs to its node, which is not a workload.
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
        ObjectReader { object, revision_state: stand, hosts, found, is_pod }
    }

    /// Records a finding in a container.
    pub(super) fn add_image(&mut self, container: &str, seen: ImageField) {
        self.add_image_as(container, seen, Naming::Written);
    }

    fn add_image_as(&mut self, container: &str, seen: ImageField, naming: Naming) {
        match seen {
            ImageField::Nothing => {}
            ImageField::Foreign(what) => self.add_note(container, &what),
            ImageField::Problem(what) => drop(self.found.problems.insert(format!("{}: {what}", self.place(container)))),
            ImageField::Corrected(image, what) => {
                self.add_note(container, &what);
                self.add_use(container, image, Naming::Corrected);
            }
            ImageField::Unresolved(host, path, what) => {
                self.add_note(container, &what);
                let text = what.split('`').nth(1).unwrap_or(&what).into();
                let reference = UnresolvedText { text, host, path, nearby_words: [].into(), latest: None };
                self.add_unresolved(container, None, reference);
            }
            ImageField::Image(image) => self.add_use(container, image, naming),
        }
    }

    fn add_use(&mut self, container: &str, image: ImageReference, naming: Naming) {
        let one = ContainerUse { image, naming, object: self.object.clone(), container: container.to_owned() };
        match self.revision_state {
            RevisionState::Current => self.found.current_uses.insert(one),
            RevisionState::Historic => self.found.historic_uses.insert(one),
        };
    }

    /// Records an unresolved reference. `at` is the number of its value in the object, if forms may say more about it.
    pub(super) fn add_unresolved(&mut self, container: &str, at: Option<u32>, reference: UnresolvedText) {
        let (object, container) = (self.object.clone(), container.to_owned());
        self.found.unresolved_uses.insert(UnresolvedUse {
            reference,
            object,
            container,
            value_number: at,
            revision_state: self.revision_state,
        });
    }

    /// Records a remark about a container for people.
    pub(super) fn add_note(&mut self, container: &str, what: &str) {
        let note = format!("{}: {what}", self.place(container));
        self.found.notes.insert(note);
    }

    fn place(&self, container: &str) -> String {
        match container {
            "" => self.object.display_name(),
            container => format!("{}, {container}", self.object.display_name()),
        }
    }

    /// Records a reference of a specification.
    pub(super) fn add_spec_image(&mut self, container: &str, text: &str) {
        let seen = parse_spec(text, self.hosts);
        self.add_image(container, seen);
    }

    /// Adds the texts of a part of the object, and returns the images in them. `read` are the strings that were parsed
    /// as images before.
    pub(super) fn add_texts(&mut self, part: Node, read: &[&str]) -> Vec<TextImage> {
        self.found.texts.read(&self.object, part, read, self.hosts)
    }

    /// Records an image in a text.
    pub(super) fn add_text_image(&mut self, spot: TextImage, at: Option<u32>) {
        let TextImage { container, kind: what, .. } = spot;
        match what {
            TextImageKind::SpecField(text) => self.add_spec_image(&container, &text),
            TextImageKind::Image(image, naming) => self.add_use(&container, image, naming),
            TextImageKind::Unresolved(open) => self.add_unresolved(&container, at, open),
            TextImageKind::Note(what) => self.add_note(&container, &what),
        }
    }

    /// Records all evidence in a built-in workload.
    pub(super) fn add_workload(&mut self, wire: WireObject) {
        let WireObject { metadata, spec, template, data, status } = wire;
        self.add_metadata(&metadata);
        let images = self.add_templates([spec, template, data]);
        let Some(status) = &status else { return };
        let all = [&status.containers, &status.init, &status.ephemeral];
        for status in all.into_iter().flatten() {
            self.add_status_image(&images, &status.name, &status.image_id, &status.image);
            for mount in &status.volume_mounts {
                if let Some(image) = mount.volume_status.as_ref().and_then(|status| status.image.as_ref()) {
                    self.add_status_image(&images, &mount.name, &image.image_ref, "");
                }
            }
        }
    }

    /// Records the labels and annotations of a workload. Pods of one template usually share them.
    fn add_metadata(&mut self, metadata: &WireMeta<Box<RawValue>>) {
        let parts: Vec<&RawValue> =
            [&metadata.labels, &metadata.annotations].into_iter().flatten().map(|part| &**part).collect();
        if self.is_pod && !self.found.metadata.insert(metadata_fingerprint(&self.object, &parts)) {
            return;
        }
        let parts = parts.into_iter().filter_map(|part| serde_json::from_str(part.get()).ok());
        let about: Json = std::iter::once(Json::from(self.object.name.clone())).chain(parts).collect();
        for spot in self.add_texts(from_json(about), &[]) {
            self.add_text_image(spot, None);
        }
    }

    /// Records the pod templates of a workload, and returns their images. Templates of several pods are read once.
    fn add_templates(&mut self, parts: [Option<Box<RawValue>>; 3]) -> Arc<[TemplateImage]> {
        let known = parts[0].as_ref().filter(|_| self.is_pod).and_then(|spec| fingerprint(&self.object, spec));
        if let Some(images) = known.and_then(|known| self.found.templates.get(&known)) {
            return Arc::clone(images);
        }
        let mut images: Vec<TemplateImage> = Vec::new();
        for part in parts.into_iter().flatten() {
            let part: Json = match serde_json::from_str(part.get()) {
                Ok(part) => part,
                Err(error) => {
                    self.add_image(
                        "",
                        ImageField::Problem(format!("its specification cannot be read: {}", chain(&error))),
                    );
                    continue;
                }
            };
            for spot in self.add_texts(from_json(part), &[]) {
                if let TextImageKind::SpecField(text) = &spot.kind {
                    images.push((spot.container.clone(), text.as_str().into()));
                }
                self.add_text_image(spot, None);
            }
        }
        let images: Arc<[TemplateImage]> = images.into();
        if let Some(known) = known {
            self.found.templates.insert(known, Arc::clone(&images));
        }
        images
    }

    /// Records the image that the runtime reports for a container or volume. An image id alone is ambiguous, so the
    /// names for that container in the specification and the status accompany it.
    fn add_status_image(&mut self, images: &[TemplateImage], container: &str, image_id: &str, image: &str) {
        let seen = parse_status_image(image_id, image, self.hosts);
        let naming = match &seen {
            ImageField::Image(seen) if seen.repository.is_none() => naming_of(images, container, image),
            _ => Naming::Written,
        };
        self.add_image_as(container, seen, naming);
    }
}
