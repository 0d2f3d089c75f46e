//! Names of texts that are versions of a file: the file, `@`, and the start of a commit's id.

/// Digits of a commit's id in the name of a text.
pub(super) const COMMIT_DIGITS: usize = 10;

/// Returns the file that a text is a version of: `deploy/api.yaml` for `deploy/api.yaml@1a2b3c4d5e`.
pub(super) fn file_of(name: &str) -> &str {
    version_of(name).map_or(name, |(file, _)| file)
}

/// Returns the file and the commit in the name of a text.
pub(super) fn version_of(name: &str) -> Option<(&str, &str)> {
    let (file, commit) = name.rsplit_once('@')?;
    let is_commit = commit.len() == COMMIT_DIGITS && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then_some((file, commit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_version_says_its_file() {
        for (name, file) in [
            ("deploy/api.yaml@1a2b3c4d5e", "deploy/api.yaml"),
            ("deploy/api.yaml", "deploy/api.yaml"),
            ("a@1a2b3c4d5e@1a2b3c4d5e", "a@1a2b3c4d5e"),
            ("api@1.2.3", "api@1.2.3"),
            ("api@1a2b3c4d5e6f", "api@1a2b3c4d5e6f"),
            ("api@release-12", "api@release-12"),
        ] {
            assert_eq!(file_of(name), file);
        }
    }
}
