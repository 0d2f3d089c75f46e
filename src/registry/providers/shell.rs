//! Commands for a POSIX shell, as reports show them.

use std::borrow::Cow;

use crate::domain::{Registry, Removal};

/// Returns the command that pulls a removal's manifest and shows its digest, for registries in general.
pub(super) fn skopeo_commands(registry: &Registry, removal: &Removal) -> Vec<String> {
    let image = format!("docker://{}/{}:{}", host(registry), removal.repository, removal.tag);
    vec![format!("skopeo inspect --raw {} | sha256sum", quote(&image))]
}

/// Returns a registry's host, with its port.
pub(super) fn host(registry: &Registry) -> &str {
    registry.endpoint.split_once("://").map_or(registry.endpoint.as_str(), |(_, host)| host)
}

/// Returns a word of a command line as a POSIX shell reads it back.
pub(super) fn quote(word: &str) -> Cow<'_, str> {
    let plain = |found: char| found.is_ascii_alphanumeric() || "._-/:@".contains(found);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_word_and_nothing_else() {
        assert_eq!(quote("shop/api:v1@sha256:0"), "shop/api:v1@sha256:0");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("my registry"), "'my registry'");
        assert_eq!(quote("a'; rm -rf $HOME #"), r"'a'\''; rm -rf $HOME #'");
    }
}
