//! What a plan would free, by registry and repository, and that all numbers of a report say the same.

use std::collections::BTreeMap;

use regex::Regex;
use tagwarden::report::{
    Format, PlanDocument, RepositoryStorageView, StorageView, assign_plan_id, csv, explanation, html, markdown,
    read_plan, render, text,
};

use super::sample::{plan, removal};

/// A plan over many repositories of two registries, one of which only tells the sizes of whole images.
fn wide() -> PlanDocument {
    let mut document = plan();
    let place = |number: u32| {
        (if number.is_multiple_of(7) { "fabrikam" } else { "contoso" }, format!("shop/part-{:02}", number % 40))
    };
    let removals = (0..400).map(|number| {
        let mut removal = removal(number, &format!("candidate-{number}"));
        let (registry, repository) = place(number);
        (removal.registry, removal.repository) = (registry.into(), repository);
        removal.age_seconds = (number % 11 != 0).then_some(i64::from(number) * 86_400);
        removal.reclaimable_bytes = (number % 13 != 0).then_some(u64::from(number) << 20);
        removal.shared_bytes = removal.reclaimable_bytes.map(|_| 1 << 10);
        removal
    });
    document.removals = removals.collect();
    let mut storage: BTreeMap<String, StorageView> = BTreeMap::new();
    for removal in document.removals.iter() {
        let there = storage.entry(removal.registry.clone()).or_insert_with(|| StorageView {
            registry: removal.registry.clone(),
            exclusive_bytes: 0,
            shared_bytes: 0,
            unknown_removals: 0,
            bytes: if removal.registry == "contoso" { "exact" } else { "estimated" }.into(),
            stored_bytes: None,
            repositories: Vec::new(),
        });
        if !there.repositories.iter().any(|found| found.repository == removal.repository) {
            there.repositories.push(RepositoryStorageView {
                repository: removal.repository.clone(),
                removals: 0,
                exclusive_bytes: 0,
                shared_bytes: 0,
                unknown_removals: 0,
            });
        }
        let here = there.repositories.iter_mut().find(|found| found.repository == removal.repository).unwrap();
        here.removals += 1;
        here.exclusive_bytes += removal.reclaimable_bytes.unwrap_or_default();
        here.shared_bytes += removal.shared_bytes.unwrap_or_default();
        here.unknown_removals += u64::from(removal.reclaimable_bytes.is_none());
        there.exclusive_bytes += removal.reclaimable_bytes.unwrap_or_default();
        there.shared_bytes += removal.shared_bytes.unwrap_or_default();
        there.unknown_removals += u64::from(removal.reclaimable_bytes.is_none());
    }
    document.storage = storage.into_values().collect();
    document.summary.bytes = "estimated".into();
    assign_plan_id(&mut document);
    document
}

/// The bars of a chart: label and number.
fn bars(page: &str, title: &str) -> Vec<(String, u64)> {
    let chart = page.split(&format!("aria-label=\"{title}\"")).nth(1).unwrap().split("</svg>").next().unwrap();
    let bar = Regex::new("<text x=\"0\"[^>]*>([^<]*)</text><rect[^>]*/><text[^>]*>([0-9,]*)</text>").unwrap();
    bar.captures_iter(chart).map(|found| (found[1].to_owned(), found[2].replace(',', "").parse().unwrap())).collect()
}

/// The rows of the table below a heading: the cells as they are shown, and the numbers to sort them by.
fn rows(page: &str, heading: &str) -> Vec<Vec<(String, Option<i64>)>> {
    let table = page.split(&format!("<h2>{heading}</h2>")).nth(1).unwrap().split("<tbody>").nth(1).unwrap();
    let table = table.split("</tbody>").next().unwrap();
    let cell = Regex::new("<td(?: class=\"?n\"?)?(?: data-v=(-?[0-9]+))?>").unwrap();
    let cells = |row: &str| {
        let numbers = cell.captures_iter(row).map(|found| found.get(1).map(|number| number.as_str().parse().unwrap()));
        cell.split(row).skip(1).map(|text| text.trim().to_owned()).zip(numbers).collect()
    };
    table.split("<tr>").skip(1).map(cells).collect()
}

#[test]
fn charts_and_tables_of_a_page_say_the_same() {
    for document in [plan(), wide()] {
        let page = html(&document);
        let going = rows(&page, "What would be removed");
        let freed = rows(&page, "What that frees once the registry collects it");
        let mut by_repository: BTreeMap<String, (i64, i64, i64)> = BTreeMap::new();
        for row in &going {
            let sums = by_repository.entry(row[0].0.rsplit_once(':').unwrap().0.to_owned()).or_default();
            let bytes = row[4].1.unwrap();
            *sums = (sums.0 + 1, sums.1 + bytes.max(0), sums.2 + i64::from(bytes < 0));
        }
        let found: BTreeMap<_, _> = freed
            .iter()
            .map(|row| (row[0].0.clone(), (row[1].1.unwrap(), row[2].1.unwrap(), row[4].1.unwrap())))
            .collect();
        assert_eq!(found, by_repository);
        assert!(freed.is_sorted_by(|a, b| a[2].1 >= b[2].1), "those with the most come first");
        for (repository, number) in bars(&page, "Removals by repository") {
            assert_eq!(i64::try_from(number).unwrap(), by_repository[&repository].0, "{repository}");
        }
        let ages = bars(&page, "Removals by age");
        let young = |row: &&Vec<(String, Option<i64>)>| (30 * 86_400..90 * 86_400).contains(&row[3].1.unwrap());
        let expected = (
            going.iter().filter(young).count() as u64,
            going.iter().filter(|row| row[3].0 == "unknown").count() as u64,
        );
        let of = |name: &str| ages.iter().find(|(label, _)| label == name).unwrap().1;
        assert_eq!((of("30 to 90 days"), of("of unknown age")), expected);
        assert_eq!(ages.iter().map(|(_, number)| number).sum::<u64>(), going.len() as u64);
    }
    let page = html(&plan());
    let lets_go: BTreeMap<String, u64> =
        rows(&page, "Policies").into_iter().map(|row| (row[0].0.clone(), row[3].0.parse().unwrap())).collect();
    for (policy, number) in bars(&page, "Removals by policy") {
        assert_eq!(number, lets_go[&policy], "{policy}");
    }
}

#[test]
fn each_registry_is_told_by_its_own_account() {
    let mut document = wide();
    let whole = text(&document);
    assert!(
        whole.contains("fabrikam: about ") && whole.contains("contoso: ") && !whole.contains("contoso: about"),
        "{whole}"
    );
    assert!(whole.contains("more with less: `--out plan.html` lists all"), "{whole}");
    assert!(markdown(&document).contains("… and "), "a ticket has the largest, and how many more");
    let table = csv(&document);
    let exact = table.lines().find(|line| line.starts_with("contoso") && line.contains("candidate-1,")).unwrap();
    assert!(exact.contains(",1048576,exact,") && exact.ends_with(",1024"), "{exact}");
    let estimated = table.lines().find(|line| line.starts_with("fabrikam") && line.contains("candidate-7,")).unwrap();
    assert!(estimated.contains(",estimated,"), "{estimated}");
    let why = explanation(&document, "contoso", "shop/part-01", "candidate-1").unwrap();
    assert!(why.contains("size:   1.0 MiB reclaimable") && why.contains("1.0 KiB of its image stay"), "{why}");
    let why = explanation(&document, "fabrikam", "shop/part-07", "candidate-7").unwrap();
    assert!(why.contains("size:   about 7.0 MiB"), "{why}");

    for there in &mut document.storage {
        there.unknown_removals = there.removals();
    }
    let whole = text(&document);
    assert!(whole.contains("contoso: how much can be reclaimed cannot be known, because"), "{whole}");
}

#[test]
fn a_plan_of_an_older_version_still_opens() {
    let mut older = plan();
    older.storage.clear();
    older.removals.materialize().iter_mut().for_each(|removal| removal.shared_bytes = None);
    older.summary.bytes = "estimated".into();
    assign_plan_id(&mut older);
    let written = render(&older, Format::Json);
    assert!(!written.contains("\"storage\"") && written.matches("shared_bytes").count() == 1, "as it was written then");
    assert_eq!(read_plan(&written).as_ref(), Ok(&older));
    assert_eq!(older.bytes_label("contoso"), "estimated");
    assert!(csv(&older).contains(",estimated,"));
}
