//! Markdown of a plan begins with the decision.

use tagwarden::report::markdown;

use super::sample::{kept, plan};

#[test]
fn markdown_begins_with_the_decision_and_ends_with_the_basis() {
    let text = markdown(&plan());
    let places: Vec<usize> = [
        "## Tagwarden plan",
        "### Refusals",
        "### Needs attention",
        "### Removals",
        "### Manifests without a tag",
        "### What next",
        "### Registries",
        "### Sources",
        "### Policies",
        "### To undo",
    ]
    .iter()
    .map(|heading| text.find(heading).unwrap_or_else(|| panic!("{heading} is not in {text}")))
    .collect();
    assert!(places.is_sorted(), "{places:?}");
    let attention = &text[places[2]..places[3]];
    assert!(!attention.contains("(`refused`)") && attention.contains("(`source-failed`)"), "{attention}");
    assert!(text[places[3]..places[4]].contains("| `contoso/shop/checkout` | 2 | `candidates` | enforced |"), "{text}");
}

#[test]
fn equal_lines_about_several_tags_are_one() {
    let mut document = plan();
    let undecided = document.kept.iter().find(|kept| kept.verdict == "undecided").unwrap().into_owned();
    let list = document.kept.materialize();
    for number in 0..40 {
        list.push(kept(number, &format!("more-{number}"), "undecided", undecided.reasons.clone()));
    }
    let gap = document.registries[0].gaps[0].clone();
    for number in 0..40 {
        let mut other = gap.clone();
        other.at = format!("tag more-{number}");
        document.registries[0].gaps.push(other);
    }
    let text = markdown(&document);
    assert!(text.contains("`: tag candidate-9 and 40 more (http-500): "), "{text}");
    assert!(text.contains("` and 40 more | ") && !text.contains("more-17"), "{text}");
}
