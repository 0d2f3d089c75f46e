//! The findings so far: uses of images, each recorded once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::super::forms::{FormEvidence, ResolvedOccurrences};
use super::super::object_texts::{ObjectTexts, UnresolvedText, filter_unresolved};
use super::super::text::TextSettings;
use super::super::{SourceEvidence, truncate_messages};
use super::objects::RevisionState;
use super::templates::TemplateImage;
use crate::domain::{Claim, Holder, ImageReference, Naming, UnresolvedReference};

/// An object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Object {
    pub(super) namespace: String,
    pub(super) kind: String,
    pub(super) name: String,
}

/// A container of an object that uses an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ContainerUse {
    pub(super) image: ImageReference,
    pub(super) naming: Naming,
    pub(super) object: Object,
    /// The container or volume; empty if unknown.
    pub(super) container: String,
}

/// A container of an object, or an object, that names a repository without identifying an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct UnresolvedUse {
    pub(super) reference: UnresolvedText,
    pub(super) object: Object,
    pub(super) container: String,
    /// The number of the value in its object that contains it, if forms may say more about it.
    pub(super) value_number: Option<u32>,
    pub(super) revision_state: RevisionState,
}

/// The evidence read from a cluster.
#[derive(Debug, Default)]
pub(super) struct ClusterEvidence {
    /// Images that run, or would run if a workload were scaled up or a schedule fired.
    pub(super) current_uses: HashSet<ContainerUse>,
    /// Images that the cluster stores for rollbacks, or from completed workloads.
    pub(super) historic_uses: HashSet<ContainerUse>,
    /// Images of a repository without an identified tag.
    pub(super) unresolved_uses: HashSet<UnresolvedUse>,
    /// The texts of all objects; those of a pod belong to its controller.
    pub(super) texts: ObjectTexts<Object>,
    /// The images of the pod templates read so far, by a hash of their controller and their content.
    pub(super) templates: HashMap<u64, Arc<[TemplateImage]>>,
    /// Hashes of the labels and annotations of pods read so far, with their controllers.
    pub(super) metadata: HashSet<u64>,
    /// The controller of an object, if it has one; those of pods are in their uses already.
    pub(super) controllers: HashMap<Object, Object>,
    /// Parts that are not understood: each may be an image without protection.
    pub(super) problems: BTreeSet<String>,
    /// Remarks for people that protect nothing.
    pub(super) notes: BTreeSet<String>,
    /// The namespaces of all objects that were read.
    pub(super) namespaces: HashSet<String>,
}

/// A pod belongs to a replica set that belongs to a deployment that may have an owner itself; no further.
const MOST_CONTROLLERS: usize = 5;

impl Object {
    /// Returns the object as reports and notes name it.
    pub(super) fn display_name(&self) -> String {
        let Self { namespace, kind, name } = self;
        format!("{kind} {namespace}/{name}")
    }

    /// Parses the output of [`Object::display_name`].
    fn parse_display_name(words: &str) -> Self {
        let (place, name) = words.rsplit_once('/').unwrap_or(("", words));
        let (kind, namespace) = place.rsplit_once(' ').unwrap_or((place, ""));
        let [namespace, kind, name] = [namespace, kind, name].map(str::to_owned);
        Self { namespace, kind, name }
    }
}

impl ClusterEvidence {
    /// Adds the findings of another list.
    pub(super) fn merge(&mut self, other: Self) {
        self.current_uses.extend(other.current_uses);
        self.historic_uses.extend(other.historic_uses);
        self.unresolved_uses.extend(other.unresolved_uses);
        self.texts.merge(other.texts);
        self.controllers.extend(other.controllers);
        self.problems.extend(other.problems);
        self.notes.extend(other.notes);
        self.namespaces.extend(other.namespaces);
    }

    /// Converts it into claims, unresolved references and texts, with those of the forms in it. Current uses of a
    /// controller are reported once, as its own; historic uses are reported for the object that stores them, such as a
    /// replica set.
    pub(super) fn into_evidence(self, cluster: &str, settings: &TextSettings, forms: FormEvidence) -> SourceEvidence {
        let Self {
            current_uses: mut uses,
            historic_uses: mut kept,
            unresolved_uses: open,
            texts,
            controllers,
            mut notes,
            ..
        } = self;
        let mut holders = Holders { cluster, holders: HashMap::new() };

        let open: Vec<UnresolvedUse> = open.into_iter().filter(|open| !open.is_resolved(&forms.resolved)).collect();
        for open in &open {
            let Some(image) = open.reference.latest.clone() else { continue };
            let (object, container) = (open.object.clone(), open.container.clone());
            let one = ContainerUse { image, naming: Naming::Written, object, container };
            match open.revision_state {
                RevisionState::Current => uses.insert(one),
                RevisionState::Historic => kept.insert(one),
            };
        }
        let current: HashSet<ContainerUse> = uses
            .into_iter()
            .map(|one| ContainerUse { object: top_controller(&controllers, one.object), ..one })
            .collect();
        let only_kept = |one: &ContainerUse| {
            let object = top_controller(&controllers, one.object.clone());
            !current.contains(&ContainerUse { object, ..one.clone() })
        };
        let kept: Vec<ContainerUse> = kept.into_iter().filter(only_kept).collect();
        let mut claims: Vec<Claim> = Vec::with_capacity(current.len() + kept.len());
        for ContainerUse { image, naming, object, container } in current.into_iter().chain(kept) {
            claims.push(Claim { naming, ..Claim::new(image, holders.of(object, container)) });
        }

        let mut unresolved = Vec::new();
        for UnresolvedUse { reference, object, container, .. } in open {
            let UnresolvedText { text, host, path, nearby_words: beside, .. } = reference;
            let holder = holders.of(top_controller(&controllers, object), container);
            unresolved.push(UnresolvedReference { text, host, path, adjacent_words: beside, holder });
        }

        let FormEvidence { claims: formed, unresolved: unformed, notes: more, .. } = forms;
        let mut of_form = |holder: &Arc<Holder>| match &**holder {
            Holder::File { path, .. } => holders.of(Object::parse_display_name(path), String::new()),
            _ => Arc::clone(holder),
        };
        claims.extend(formed.into_iter().map(|claim| Claim { holder: of_form(&claim.holder), ..claim }));
        unresolved
            .extend(unformed.into_iter().map(|open| UnresolvedReference { holder: of_form(&open.holder), ..open }));
        notes.extend(more);

        notes.extend(filter_unresolved(&mut unresolved, settings));
        let (texts, reported) =
            texts.index(settings, |object| holders.of(top_controller(&controllers, object), String::new()));
        let notes = truncate_messages(notes.into_iter().collect());
        SourceEvidence { claims, unresolved, texts, report_only_texts: reported, notes, ..SourceEvidence::default() }
    }
}

impl UnresolvedUse {
    fn is_resolved(&self, settled: &ResolvedOccurrences) -> bool {
        let mut paths = self.reference.path.parts();
        match (self.value_number, paths.next(), paths.next()) {
            (Some(at), Some(path), None) => settled.covers(&self.object.display_name(), at, path),
            _ => false,
        }
    }
}

/// One holder for each object and container.
struct Holders<'a> {
    cluster: &'a str,
    holders: HashMap<(Object, String), Arc<Holder>>,
}

impl Holders<'_> {
    fn of(&mut self, object: Object, container: String) -> Arc<Holder> {
        let cluster = self.cluster;
        let holder = self.holders.entry((object, container)).or_insert_with_key(|(object, container)| {
            Arc::new(Holder::Workload {
                place: cluster.to_owned(),
                namespace: object.namespace.clone(),
                kind: object.kind.clone(),
                name: object.name.clone(),
                container: container.clone(),
            })
        });
        Arc::clone(holder)
    }
}

/// Returns the object that people know: the topmost controller.
fn top_controller(controllers: &HashMap<Object, Object>, mut object: Object) -> Object {
    for _ in 0..MOST_CONTROLLERS {
        match controllers.get(&object) {
            Some(controller) => object = controller.clone(),
            None => break,
        }
    }
    object
}
