//! What was found so far: who uses which image, each said once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::domain::{Claim, Holder, ImageReference};

/// An object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Object {
    pub(super) namespace: String,
    pub(super) kind: String,
    pub(super) name: String,
}

/// A container of an object that uses an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Use {
    pub(super) image: ImageReference,
    pub(super) object: Object,
    /// The container or volume; empty where that is not known.
    pub(super) container: String,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What runs, or would if it were scaled up or its hour came.
    pub(super) uses: HashSet<Use>,
    /// What the cluster keeps to go back to, or from what is over.
    pub(super) kept: HashSet<Use>,
    /// The controller of an object, where it has one.
    pub(super) controllers: HashMap<Object, Object>,
    /// What could not be understood: each of these may be an image without protection.
    pub(super) problems: BTreeSet<String>,
    /// What a person should know although it protects nothing.
    pub(super) notes: BTreeSet<String>,
    /// How many objects were read in each namespace.
    pub(super) objects: HashMap<String, usize>,
}

/// A pod belongs to a replica set that belongs to a deployment that may belong to something else; no further.
const MOST_CONTROLLERS: usize = 5;

impl Found {
    /// Adds what another list found.
    pub(super) fn merge(&mut self, other: Self) {
        self.uses.extend(other.uses);
        self.kept.extend(other.kept);
        self.controllers.extend(other.controllers);
        self.problems.extend(other.problems);
        self.notes.extend(other.notes);
        for (namespace, count) in other.objects {
            *self.objects.entry(namespace).or_default() += count;
        }
    }

    /// What people know an object by: the last of its controllers.
    fn known_as<'a>(&'a self, object: &'a Object) -> &'a Object {
        let next = |object: &&'a Object| self.controllers.get(*object);
        std::iter::successors(Some(object), next).take(MOST_CONTROLLERS).last().unwrap_or(object)
    }

    /// The claims of all of it. What a controller uses right now is told once, as its own; what is only kept to go back
    /// to is told as what keeps it, such as a replica set.
    pub(super) fn claims(&self, cluster: &str) -> Vec<Claim> {
        let mut told: HashSet<(&ImageReference, &Object, &str)> = HashSet::with_capacity(self.uses.len());
        for one in &self.uses {
            told.insert((&one.image, self.known_as(&one.object), &one.container));
        }
        let current = |one: &&Use| !told.contains(&(&one.image, self.known_as(&one.object), &*one.container));
        let kept: Vec<&Use> = self.kept.iter().filter(current).collect();
        let mut holders: HashMap<(&Object, &str), Arc<Holder>> = HashMap::new();
        let kept = kept.into_iter().map(|one| (&one.image, &one.object, &*one.container));
        let mut claims = Vec::with_capacity(told.len());
        for (image, object, container) in told.iter().copied().chain(kept) {
            let holder = holders.entry((object, container)).or_insert_with(|| {
                Arc::new(Holder::Workload {
                    place: cluster.to_owned(),
                    namespace: object.namespace.clone(),
                    kind: object.kind.clone(),
                    name: object.name.clone(),
                    container: container.to_owned(),
                })
            });
            claims.push(Claim { image: image.clone(), holder: Arc::clone(holder) });
        }
        claims
    }
}
