//! The usage of an image at its reference.

use super::image_outputs;
use super::mapping::{Entry, Frame, MOST_KEYS};
use super::units::{MOST_AROUND, end_of};
use crate::sources::document::Value;

/// The usage of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::sources) enum Usage {
    /// Named, without evidence of what completes the reference.
    #[default]
    Named,
    /// Resolved by a runtime, which takes `latest` if no tag is written.
    Run,
    /// Built, moved or removed there.
    Output,
}

/// Lists of containers.
const LISTS: [&str; 7] =
    ["containerDefinitions", "containers", "docker", "ephemeralContainers", "initContainers", "sidecars", "steps"];

/// Single containers.
const CONTAINERS: [&str; 3] = ["container", "script", "stepTemplate"];

/// Words in the names of variables that contain a registry or an image.
const REGISTRY_WORDS: [&str; 10] =
    ["acr", "container", "docker", "helm", "host", "image", "login", "oci", "registry", "repo"];

/// Ends of names of variables that contain a folder.
const FOLDER_WORDS: [&str; 9] = ["cwd", "dir", "directory", "folder", "home", "localpath", "path", "pwd", "workspace"];

impl Usage {
    /// Returns the usage of an image in a command or a line; `before` is the text before the reference.
    pub(super) fn in_command(before: &str) -> Self {
        if image_outputs::in_command(before) {
            Self::Output
        } else if is_base(before) || image_outputs::is_run(before) {
            Self::Run
        } else {
            Self::Named
        }
    }

    /// Returns the usage of an image in a document. `frames` lead to the reference, and `name` is the document's.
    pub(super) fn in_mapping(frames: &[Frame<'_>], name: &str) -> Self {
        if image_outputs::in_mapping(frames, name) {
            Self::Output
        } else if is_run(frames, name) {
            Self::Run
        } else {
            Self::Named
        }
    }
}

/// Returns true for `FROM` and `COPY --from=` of a Dockerfile.
fn is_base(before: &str) -> bool {
    // The beginning of a longer line is too distant.
    if before.len() > MOST_AROUND {
        return false;
    }
    let line = before.trim_start();
    let is_from = line.strip_prefix("FROM").is_some_and(|rest| rest.starts_with([' ', '\t']) && is_options(rest));
    is_from || line.starts_with("COPY ") && line.ends_with("--from=")
}

fn is_options(text: &str) -> bool {
    text.split_whitespace().all(|word| word.starts_with("--"))
}

/// Returns true if a runtime reads this value as an image.
fn is_run(frames: &[Frame<'_>], name: &str) -> bool {
    let key = |up: usize| frames.iter().rev().nth(up).map_or("", |frame| frame.key);
    let Some(own) = frames.last() else { return false };
    let file = name.rsplit('/').next().unwrap_or(name);
    let is_gitlab = || file.contains("gitlab-ci") || has(own.entries, "script");
    match key(0) {
        "image" => {
            LISTS.contains(&key(1))
                || CONTAINERS.contains(&key(1))
                || key(2) == "services" && !file.contains("values")
                || is_gitlab()
                || frames[0].entries.iter().take(MOST_KEYS).any(|(_, key, node)| {
                    let is_template = |text: &str| text.contains("deploymentTemplate");
                    key == "$schema" && matches!(&node.value, Value::Text(text) if is_template(text))
                })
        }
        "container" => has(own.entries, "steps"),
        "name" => {
            key(1) == "image" && (file.contains("gitlab-ci") || frames.iter().any(|frame| has(frame.entries, "script")))
        }
        _ => false,
    }
}

fn has(entries: &[Entry], key: &str) -> bool {
    entries.iter().take(MOST_KEYS).any(|(_, name, _)| name == key)
}

/// Returns true for a key whose value is expected to be an image.
pub(super) fn is_image_key(key: &str) -> bool {
    let key: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let key = ["name", "ref", "reference", "uri", "url"].iter().find_map(|end| key.strip_suffix(end)).unwrap_or(&key);
    key.ends_with("image")
}

/// Returns true if an image is expected after the text before a reference in its line: `image: `, `--image=`.
pub(super) fn expects_image(before: &str) -> bool {
    let before = end_of(before).trim_end_matches(['"', '\'', ' ', '\t']);
    let key = before.trim_end_matches([':', '=']).trim_end_matches(['"', '\'', ' ', '\t']);
    let is_given = key.len() < before.len() || key.ends_with("--image");
    let start = key.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').map_or(0, |at| at + 1);
    is_given && key.is_char_boundary(start) && is_image_key(&key[start..])
}

/// Returns true for the name of a variable that contains a registry rather than a folder.
pub(super) fn is_registry_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !FOLDER_WORDS.iter().any(|word| name.ends_with(word)) && REGISTRY_WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_say_which_part_an_image_plays() {
        for (before, expected) in [
            ("FROM ", Usage::Run),
            ("FROM --platform=linux/amd64 ", Usage::Run),
            ("COPY --from=", Usage::Run),
            ("docker run --rm -e A=b ", Usage::Run),
            ("docker pull ", Usage::Run),
            ("docker pull -a ", Usage::Named),
            ("docker build -t ", Usage::Output),
            ("FROM x AS ", Usage::Named),
            ("We take it from ", Usage::Named),
            ("kubectl set image deployment/api api=", Usage::Named),
        ] {
            assert_eq!(Usage::in_command(before), expected, "{before}");
        }
    }

    #[test]
    fn names_say_what_is_expected() {
        for (before, expected) in [
            ("image: ", true),
            ("  \"image\": \"", true),
            ("API_IMAGE=", true),
            ("imageName = '", true),
            ("kubectl run x --image ", true),
            ("kubectl run x --image=", true),
            ("  image          = \"", true),
            ("the image ", false),
            ("images: ", false),
            ("name: ", false),
            ("", false),
        ] {
            assert_eq!(expects_image(before), expected, "{before}");
        }
        for (name, expected) in [
            ("REGISTRY", true),
            ("acrName", true),
            ("azurerm_container_registry.acr.login_server", true),
            (".Values.image.registry", true),
            ("Build.Repository.LocalPath", false),
            ("CI_PROJECT_DIR", false),
            ("PREFIX", false),
        ] {
            assert_eq!(is_registry_name(name), expected, "{name}");
        }
    }
}
