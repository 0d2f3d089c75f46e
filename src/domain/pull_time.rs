//! The last pull of tags, as far as a registry records it.

use super::{CompactTime, Repository, TagName};

/// The last pull of a tag as recorded by the registry. A registry that records pulls of images alone has the same time for all
/// tags of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PullTime {
    /// No pull. The push counts in its place.
    Never,
    /// The time of the last pull.
    At(CompactTime),
}

impl PullTime {
    /// Returns the time of the pull; `None` if there was none.
    #[must_use]
    pub fn at(self) -> Option<CompactTime> {
        match self {
            Self::Never => None,
            Self::At(at) => Some(at),
        }
    }
}

impl Repository {
    /// Notes the last pull of a tag, as its registry lists it.
    pub fn set_pull_time(&mut self, tag: TagName, pulled: PullTime) {
        self.pull_times.insert(tag, pulled);
    }
}
