//! Lifecycle policies of repositories: rules by which Amazon ECR itself deletes images.

use serde::Deserialize;
use serde_json::Value;

/// The document of a lifecycle policy.
#[derive(Debug, Deserialize)]
struct WirePolicy {
    rules: Vec<WireRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRule {
    #[serde(default)]
    rule_priority: Value,
    selection: WireSelection,
    #[serde(default)]
    action: WireAction,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSelection {
    tag_status: String,
    #[serde(default)]
    count_type: String,
    #[serde(default)]
    count_number: u64,
}

#[derive(Debug, Default, Deserialize)]
struct WireAction {
    #[serde(default, rename = "type")]
    kind: String,
}

/// Returns the first rule that may delete an image with a tag, in words. Such an image may go at any time, whatever its tags
/// are. A document that is not understood may say anything.
pub(super) fn rule_on_tagged_images(document: &str) -> Option<String> {
    let Ok(policy) = serde_json::from_str::<WirePolicy>(document) else {
        return Some("its document is not understood, so it may delete images with tags".to_owned());
    };
    let on_tagged = policy
        .rules
        .into_iter()
        .find(|rule| rule.selection.tag_status != "untagged" && rule.action.kind != "transition")?;
    let WireSelection { tag_status, count_type, count_number } = on_tagged.selection;
    let images = if tag_status == "any" { "images" } else { "images with tags" };
    let condition = match count_type.as_str() {
        "imageCountMoreThan" => format!("beyond the newest {count_number}"),
        "sinceImagePushed" => format!("{count_number} days after their push"),
        "sinceImagePulled" => format!("{count_number} days after their last pull"),
        other => format!("by its condition {other}"),
    };
    Some(format!("its rule {} deletes {images} {condition}", on_tagged.rule_priority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_may_delete_images_with_tags_are_named() {
        let policy = |selection: &str, action: &str| {
            format!(r#"{{"rules":[{{"rulePriority":7,"selection":{{{selection}}},"action":{{"type":"{action}"}}}}]}}"#)
        };
        for (document, expected) in [
            (
                policy(
                    r#""tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":14"#,
                    "expire",
                ),
                None,
            ),
            (
                policy(
                    r#""tagStatus":"tagged","tagPrefixList":["v"],"countType":"imageCountMoreThan","countNumber":30"#,
                    "expire",
                ),
                Some("its rule 7 deletes images with tags beyond the newest 30"),
            ),
            (
                policy(
                    r#""tagStatus":"any","countType":"sinceImagePushed","countUnit":"days","countNumber":90"#,
                    "expire",
                ),
                Some("its rule 7 deletes images 90 days after their push"),
            ),
            (
                policy(
                    r#""tagStatus":"tagged","tagPatternList":["*"],"countType":"sinceImagePulled","countUnit":"days","countNumber":30"#,
                    "expire",
                ),
                Some("its rule 7 deletes images with tags 30 days after their last pull"),
            ),
            (policy(r#""tagStatus":"any","countType":"sinceImagePulled","countNumber":90"#, "transition"), None),
            ("nonsense".to_owned(), Some("its document is not understood, so it may delete images with tags")),
        ] {
            assert_eq!(rule_on_tagged_images(&document).as_deref(), expected, "{document}");
        }
    }
}
