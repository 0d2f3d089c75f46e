//! What was found so far: who uses which image, each said once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::domain::{Claim, Holder, ImageReference, Naming, PathPattern, UnresolvedReference};

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
    pub(super) naming: Naming,
    pub(super) object: Object,
    /// The container or volume; empty where that is not known.
    pub(super) container: String,
}

/// A container of an object whose image has an open tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OpenUse {
    pub(super) text: String,
    pub(super) host: Option<String>,
    pub(super) path: PathPattern,
    pub(super) object: Object,
    pub(super) container: String,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What runs, or would if it were scaled up or its hour came.
    pub(super) uses: HashSet<Use>,
    /// What the cluster keeps to go back to, or from what is over.
    pub(super) kept: HashSet<Use>,
    /// Images of a repository whose tag is left open.
    pub(super) open: HashSet<OpenUse>,
    /// The controller of an object, where it has one; those of pods stand in their uses already.
    pub(super) controllers: HashMap<Object, Object>,
    /// What could not be understood: each of these may be an image without protection.
    pub(super) problems: BTreeSet<String>,
    /// What a person should know although it protects nothing.
    pub(super) notes: BTreeSet<String>,
    /// The namespaces of all objects that were read.
    pub(super) namespaces: HashSet<String>,
}

/// A pod belongs to a replica set that belongs to a deployment that may belong to something else; no further.
const MOST_CONTROLLERS: usize = 5;

impl Found {
    /// Adds what another list found.
    pub(super) fn merge(&mut self, other: Self) {
        self.uses.extend(other.uses);
        self.kept.extend(other.kept);
        self.open.extend(other.open);
        self.controllers.extend(other.controllers);
        self.problems.extend(other.problems);
        self.notes.extend(other.notes);
        self.namespaces.extend(other.namespaces);
    }

    /// The claims of all of it. What a controller uses right now is told once, as its own; what is only kept to go back
    /// to is told as what keeps it, such as a replica set.
    pub(super) fn claims(self, cluster: &str) -> (Vec<Claim>, Vec<UnresolvedReference>) {
        let Self { uses, kept, open, controllers, .. } = self;
        let current: HashSet<Use> =
            uses.into_iter().map(|one| Use { object: known_as(&controllers, one.object), ..one }).collect();
        let only_kept = |one: &Use| {
            let object = known_as(&controllers, one.object.clone());
            !current.contains(&Use { object, ..one.clone() })
        };
        let kept: Vec<Use> = kept.into_iter().filter(only_kept).collect();
        let mut holders: HashMap<(Object, String), Arc<Holder>> = HashMap::new();
        let mut holder = |object: Object, container: String| {
            let holder = holders.entry((object, container)).or_insert_with_key(|(object, container)| {
                Arc::new(Holder::Workload {
                    place: cluster.to_owned(),
                    namespace: object.namespace.clone(),
                    kind: object.kind.clone(),
                    name: object.name.clone(),
                    container: container.clone(),
                })
            });
            Arc::clone(holder)
        };
        let claims = current.into_iter().chain(kept).map(|Use { image, naming, object, container }| Claim {
            naming,
            ..Claim::new(image, holder(object, container))
        });
        let claims = claims.collect();
        let unresolved = open.into_iter().map(|OpenUse { text, host, path, object, container }| {
            let object = known_as(&controllers, object);
            UnresolvedReference { text: text.into(), host, path, beside: [].into(), holder: holder(object, container) }
        });
        (claims, unresolved.collect())
    }
}

/// What people know an object by: the last of its controllers.
fn known_as(controllers: &HashMap<Object, Object>, mut object: Object) -> Object {
    for _ in 0..MOST_CONTROLLERS {
        match controllers.get(&object) {
            Some(controller) => object = controller.clone(),
            None => break,
        }
    }
    object
}
