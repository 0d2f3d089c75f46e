//! What earlier runs and the journal know of manifests that no tag references.

use std::collections::BTreeMap;

use tagwarden::domain::{
    Manifest, ManifestDetail, Policy, Registry, RegistryName, RemovedTag, RepositoryName, UntaggedHistory,
    UntaggedManifest,
};

use super::{ManifestShape, RepositoryShape, Scenario, Scene};

impl Scenario {
    /// Fills in the past of manifests without a tag where policies speak of them and the registry lists them.
    pub(super) fn fill_past(&self, scene: &Scene<'_>, policies: &[Policy], registries: &mut [Registry]) {
        for registry in registries.iter_mut().filter(|registry| registry.lists_untagged) {
            let shapes = self.registries.get(registry.name.as_str());
            let shapes = shapes.map_or(&self.repositories, |shape| &shape.repositories);
            for repository in &mut registry.repositories {
                let asked = policies.iter().any(|one| one.deletes_untagged_in(&registry.name, &repository.name));
                if asked && repository.digests_without_tag().next().is_some() {
                    let history = scene.history(&shapes[repository.name.as_str()]);
                    repository.untagged_history = Some(Box::new(history));
                }
            }
        }
    }
}

impl Scene<'_> {
    fn history(&self, shape: &RepositoryShape) -> UntaggedHistory {
        let times = |times: &BTreeMap<String, String>| {
            times.iter().map(|(image, time)| (self.names.digest(image), self.time(time))).collect()
        };
        let tags = |tags: &Vec<String>| tags.iter().map(|tag| self.names.long(tag, "-").parse().unwrap()).collect();
        UntaggedHistory {
            read_at: self.now,
            free_since: times(&shape.free),
            changed_at: times(&shape.changed),
            former_tags: shape.former.iter().map(|(image, names)| (self.names.digest(image), tags(names))).collect(),
        }
    }

    pub(super) fn untagged(
        &self,
        (registry, repository): (RegistryName, RepositoryName),
        image: &str,
        tags: &[String],
        shape: &RepositoryShape,
    ) -> UntaggedManifest {
        let taken = |text: &String| {
            let words: Vec<&str> = text.split_whitespace().collect();
            let [name, policies, age, rest @ ..] = &words[..] else { panic!("a taken tag is a tag, a policy, a time") };
            RemovedTag {
                name: self.names.long(name, "-").parse().expect(name),
                at: self.time(age),
                policies: policies.split('+').filter(|name| *name != "?").map(|name| name.parse().unwrap()).collect(),
                restored: rest == ["back"],
            }
        };
        let known = shape.manifests.get(image);
        let manifest = Manifest {
            detail: ManifestDetail::Full,
            ..known.map_or_else(|| self.manifest(&ManifestShape::default()), |shape| self.manifest(shape))
        };
        let digest = self.names.digest(image);
        UntaggedManifest {
            registry,
            repository,
            digest,
            tags: tags.iter().map(taken).collect(),
            manifest: Some(manifest),
        }
    }
}
