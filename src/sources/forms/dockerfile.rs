//! Dockerfiles: base images, and images that files are copied from.
//!
//! <https://docs.docker.com/reference/dockerfile/>

use std::collections::HashSet;
use std::sync::Arc;

use super::{Facts, Scalar};

/// Returns true for the name of a Dockerfile, without its folder.
pub(super) fn is_dockerfile(base: &str) -> bool {
    let base = base.to_ascii_lowercase();
    let (stem, ending) = base.split_once('.').unwrap_or((base.as_str(), ""));
    let named = |text: &str| matches!(text, "dockerfile" | "containerfile");
    named(stem) || named(ending) || base.rsplit_once('.').is_some_and(|(_, last)| named(last))
}

/// Parses the images that a build pulls. The name of an earlier stage is not an image.
pub(super) fn read(name: &Arc<str>, text: &str, facts: &mut Facts) {
    let mut stages: HashSet<String> = HashSet::new();
    let mut continued = false;
    for (line, number) in text.lines().zip(1..) {
        let begins = !continued;
        let comment = line.trim_start().starts_with('#');
        continued = (comment && continued) || !comment && line.trim_end().ends_with('\\');
        if comment {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let keyword = words.first().copied().unwrap_or_default();
        let mut image = |text: &str| {
            let is_stage =
                text.bytes().all(|byte| byte.is_ascii_digit()) || stages.contains(&text.to_ascii_lowercase());
            if !is_stage {
                facts.add_runtime_use(name, Scalar { text, line: number });
            }
        };
        if begins && keyword.eq_ignore_ascii_case("from") {
            let mut arguments = words[1..].iter().skip_while(|word| word.starts_with("--"));
            if let Some(text) = arguments.next() {
                image(text);
            }
            if arguments.next().is_some_and(|word| word.eq_ignore_ascii_case("as")) {
                stages.extend(arguments.next().map(|stage| stage.to_ascii_lowercase()));
            }
            continue;
        }
        // `COPY --from=IMAGE`, and `RUN --mount=type=bind,from=IMAGE`.
        for word in words.iter().filter(|word| word.starts_with("--")) {
            let options = word.trim_start_matches('-').split(',');
            options.filter_map(|option| option.strip_prefix("from=")).for_each(&mut image);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::claims_in;
    use super::is_dockerfile;

    #[test]
    fn base_images_without_a_tag_are_latest() {
        for (text, expected) in [
            ("FROM contoso.azurecr.io/shop/base\n", "1 shop/base:latest"),
            ("FROM --platform=$BUILDPLATFORM contoso.azurecr.io/shop/base AS build\n", "1 shop/base:latest"),
            ("# FROM contoso.azurecr.io/shop/base\n", ""),
            ("FROM contoso.azurecr.io/shop/base:v1\n", ""),
            ("FROM contoso.azurecr.io/shop/base:${TAG}\n", ""),
            ("FROM alpine\nCOPY --from=contoso.azurecr.io/shop/tools /a /b\n", "2 shop/tools:latest"),
            ("FROM alpine\nRUN --mount=type=bind,from=contoso.azurecr.io/shop/tools a\n", "2 shop/tools:latest"),
            ("FROM alpine AS contoso.azurecr.io/x\nFROM contoso.azurecr.io/x\n", ""),
            ("FROM alpine\nRUN echo \\\nfrom contoso.azurecr.io/shop/base\n", ""),
            ("FROM alpine AS build\nFROM scratch\nCOPY --from=build /a /b\nCOPY --from=0 /a /b\n", ""),
        ] {
            assert_eq!(claims_in("shop/Dockerfile", text), expected, "{text}");
        }
    }

    #[test]
    fn dockerfiles_have_many_names() {
        for (name, expected) in [
            ("Dockerfile", true),
            ("dockerfile", true),
            ("Dockerfile.prod", true),
            ("api.Dockerfile", true),
            ("api.v2.dockerfile", true),
            ("Containerfile", true),
            ("docker-compose.yaml", false),
            ("Dockerfiles", false),
        ] {
            assert_eq!(is_dockerfile(name), expected, "{name}");
        }
    }
}
