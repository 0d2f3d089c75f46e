//! The facts that selectors ask for besides names, and that may be unknown.

/// A condition of a selector on facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactCondition {
    /// `idle`: the use of the repository.
    Idle,
    /// `types`: the type of the artifact.
    Types,
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
}

impl FactCondition {
    /// Returns the key in policy files.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Types => "types",
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
        }
    }
}
