//! The labels of annotations.

/// Each label with its meaning.
const RULES: [(&str, &str); 31] = [
    ("another-dialect", "A glob is written as a regular expression"),
    ("command-failed", "The command could not do its work"),
    ("evidence-missing", "A file of evidence is missing here, so a run would keep what it may protect"),
    ("failed-test", "The policies decide otherwise than a test expects"),
    ("host-in-repository", "A glob of repositories begins with a host or the name of a registry"),
    ("invalid-evidence", "A release record or another file of evidence cannot be read, so its source would fail"),
    ("invalid-policy", "A policy file is invalid"),
    ("invalid-settings", "The settings are invalid"),
    ("invalid-test", "A test of policies is invalid"),
    ("labels-not-readable", "A policy selects by labels where no registry lets configurations be read"),
    ("matches-nothing", "A rule matched nothing in the last plan"),
    ("never-expires", "A rule keeps everything that its policy selects"),
    ("newly-enforced", "Tags that were only reported would now be removed"),
    ("newly-expired", "Tags expire that did not before"),
    ("newly-refused", "Removals would be refused that were not before"),
    ("no-longer-expired", "Tags are kept that expired before"),
    ("one-repository", "A protecting glob names one repository alone"),
    ("overlap", "Policies may select the same tags"),
    ("pattern-names-one-tag", "A pattern is written as a search and names one tag alone"),
    ("pulls-not-recorded", "A rule goes by pulls where no registry records them"),
    ("registry-kind", "A registry is of another kind than the settings say"),
    ("registry-unreachable", "A registry does not answer"),
    ("rule-without-effect", "A rule keeps nothing that another one would not keep"),
    ("selects-nothing", "A policy selected nothing in the last plan"),
    ("settings-warning", "The settings are valid and probably not meant so"),
    ("shadowed", "Another policy keeps everything that this one lets expire"),
    ("then-without-effect", "A policy deletes manifests where none is ever left"),
    ("uncertain-evidence", "A release record leaves open which image it means"),
    ("unread-policies", "A file holds policies and is not read, because of its name"),
    ("untagged-without-window", "Manifests without a tag may be deleted while images are pushed"),
    ("untagged-without-effect", "A policy deletes manifests without a tag where none is listed"),
];

/// Returns the meaning of a label.
#[must_use]
pub fn describe_rule(rule: &str) -> Option<&'static str> {
    RULES.iter().find(|(name, _)| *name == rule).map(|(_, meaning)| *meaning)
}
