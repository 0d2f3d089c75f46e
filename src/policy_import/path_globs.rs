//! Globs of the library doublestar, which Harbor and zot use, as globs of policies.

/// A doublestar pattern as globs.
#[derive(Debug, Default)]
pub(super) struct PathGlobs {
    /// Those that match the same there and here.
    pub(super) inside: Vec<String>,
    /// The folders before a `/**` at the end, which newer versions of doublestar match as well.
    pub(super) folders: Vec<String>,
}

/// Reads a doublestar pattern on repositories. `None` for what globs here read in another way.
pub(super) fn path_globs(pattern: &str) -> Option<PathGlobs> {
    if pattern.is_empty() || pattern.contains(['\\', '!', '^']) {
        return None;
    }
    let mut found = PathGlobs::default();
    for one in alternatives(pattern)? {
        if one.contains("**") && one.split('/').any(|part| part.contains("**") && part != "**") {
            return None;
        }
        if let Some(folder) = one.strip_suffix("/**").filter(|folder| !folder.is_empty()) {
            if folder.contains("**") {
                return None;
            }
            found.folders.push(folder.to_owned());
        }
        found.inside.push(one);
    }
    Some(found)
}

/// `{a,b}` written out.
pub(super) fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let Some(open) = pattern.find('{') else { return (!pattern.contains('}')).then(|| vec![pattern.to_owned()]) };
    let close = open + pattern[open..].find('}')?;
    let inner = &pattern[open + 1..close];
    if inner.contains('{') {
        return None;
    }
    let mut found = Vec::new();
    for option in inner.split(',') {
        found.extend(alternatives(&format!("{}{option}{}", &pattern[..open], &pattern[close + 1..]))?);
        if found.len() > 64 {
            return None;
        }
    }
    Some(found)
}
