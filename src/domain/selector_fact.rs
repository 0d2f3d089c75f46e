//! The facts that selectors ask for besides names, and that may be unknown.

use super::TextKind;

/// A condition of a selector on facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactCondition {
    /// `idle`: the use of the repository.
    Idle,
    /// `types`: the type of the artifact.
    Types,
    /// `annotations`: annotations of the manifest.
    Annotations,
    /// `labels`: labels of the image.
    Labels,
}

/// A fact that a selector asks for, and that is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnknownFact {
    /// The last push to the repository: some tag has no date, or something could not be read.
    LastPush,
    /// The last pull from the repository: its registry may not record pulls.
    LastPull,
    /// The use until Tagwarden removed tags from the repository, whose times went with them.
    UseBeforeRemovals,
    /// The type of the artifact: the registry does not list it, and it was not read.
    ArtifactType,
    /// An annotation: the manifest was not read, or the images of an index differ.
    Annotation,
    /// A label: the configuration was not read, or the images of an index differ.
    Label,
}

impl FactCondition {
    /// Returns the key in policy files.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Types => "types",
            Self::Annotations => TextKind::Annotation.label(),
            Self::Labels => TextKind::Label.label(),
        }
    }
}

impl UnknownFact {
    /// Returns the condition that asks for it.
    #[must_use]
    pub fn condition(self) -> FactCondition {
        match self {
            Self::LastPush | Self::LastPull | Self::UseBeforeRemovals => FactCondition::Idle,
            Self::ArtifactType => FactCondition::Types,
            Self::Annotation => FactCondition::Annotations,
            Self::Label => FactCondition::Labels,
        }
    }

    /// Returns the label used in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::LastPush => "last-push",
            Self::LastPull => "last-pull",
            Self::UseBeforeRemovals => "use-before-removals",
            Self::ArtifactType => "artifact-type",
            Self::Annotation => "annotation",
            Self::Label => "label",
        }
    }

    /// Returns true if the image itself tells it, so that a read can find it out.
    #[must_use]
    pub fn is_of_image(self) -> bool {
        matches!(self, Self::ArtifactType | Self::Annotation | Self::Label)
    }
}

impl From<TextKind> for FactCondition {
    fn from(kind: TextKind) -> Self {
        match kind {
            TextKind::Annotation => Self::Annotations,
            TextKind::Label => Self::Labels,
        }
    }
}

impl From<TextKind> for UnknownFact {
    fn from(kind: TextKind) -> Self {
        match kind {
            TextKind::Annotation => Self::Annotation,
            TextKind::Label => Self::Label,
        }
    }
}
