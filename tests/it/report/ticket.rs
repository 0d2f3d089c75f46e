//! The decision of a plan, as ticket systems render it, and Markdown that begins with it.

use tagwarden::report::{Format, PlanDocument, TicketDialect, markdown, render};

use super::sample::{kept, plan};

/// A plan with many repositories, attention items and refusals, of names that are hostile to every dialect.
fn crowded() -> PlanDocument {
    let mut document = plan();
    let first = document.removals.get(0).unwrap().into_owned();
    let removals = document.removals.materialize();
    for number in 0..3_000 {
        let mut removal = first.clone();
        removal.repository = format!("shop/{number}/[/code]{{code}}|<b>*x*");
        removals.push(removal);
    }
    let refusal = document.refusals[0].clone();
    document.refusals.extend((0..500).map(|_| refusal.clone()));
    document
}

#[test]
fn a_ticket_fits_and_begins_with_the_decision() {
    for (dialect, most, begin, end) in [
        (TicketDialect::Jira, 32_767, "h3. Tagwarden plan\n", "\n"),
        (TicketDialect::ServiceNow, 4_000, "[code]<h3>Tagwarden plan</h3>", "[/code]\n"),
    ] {
        for document in [plan(), crowded()] {
            let text = render(&document, Format::Ticket(dialect));
            assert!(text.len() <= most, "{dialect:?}: {}", text.len());
            assert!(text.starts_with(begin) && text.ends_with(end), "{text}");
            let places: Vec<usize> =
                ["4 would be removed", "Would be removed", "Refused", "What next", &document.id, "tagwarden restore"]
                    .iter()
                    .map(|words| text.find(words).unwrap_or_else(|| panic!("{words} is not in {text}")))
                    .collect();
            assert!(places.is_sorted(), "{places:?}\n{text}");
            let cut = text.matches("more in the attached report").count();
            match (dialect, document.removals.len()) {
                (TicketDialect::Jira, 0..=10) => assert_eq!(cut, 0, "{text}"),
                (_, 11..) => assert!(cut >= 2, "{text}"),
                _ => {}
            }
        }
    }
    let text = render(&crowded(), Format::Ticket(TicketDialect::ServiceNow));
    assert_eq!((text.matches("[code]").count(), text.matches("[/code]").count(), text.lines().count()), (1, 1, 1));
    assert!(!text.contains("<b>*x*"), "{text}");
    let text = render(&crowded(), Format::Ticket(TicketDialect::Jira));
    assert!(text.contains("\\[/code\\]\\{code\\}\\|<b>\\*x\\*") && !text.contains("{code}"), "{text}");
}

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
