//! What people and scripts read, and that nothing from outside can speak through it.

mod azure;
mod by_repository;
mod sample;
mod source_detail;
mod storage;
mod ticket;

use std::collections::BTreeSet;

use sample::{claim, kept, not_kept, plan, removal};
use serde_json::Value;
use tagwarden::domain::Digest;
use tagwarden::report::{
    DeletionsView, Format, HolderView, PlanDocument, PlanReadError, ReasonView, ShortfallView, assign_plan_id, csv,
    explanation, explanation_json, html, markdown, read_plan, render, text,
};

#[test]
fn the_sample_has_every_kind_of_reason() {
    let document = plan();
    let going = document.removals.iter().flat_map(|removal| removal.into_owned().reasons);
    let reasons = going.chain(document.kept.iter().flat_map(|kept| kept.into_owned().reasons));
    let kinds: BTreeSet<&str> = reasons.map(|reason| reason.kind()).collect();
    assert_eq!(kinds.len(), 24, "{kinds:?}");
}

#[test]
fn a_plan_for_the_terminal() {
    insta::assert_snapshot!(text(&plan()));
}

#[test]
fn a_plan_for_a_ticket() {
    insta::assert_snapshot!(markdown(&plan()));
}

#[test]
fn a_plan_for_a_spreadsheet() {
    insta::assert_snapshot!(csv(&plan()).replace("\r\n", "\n"));
}

#[test]
fn one_tag_explained() {
    let document = plan();
    let tags =
        ["release-1.4.2", "release-1.4.1", "candidate-50", "reproducible", "candidate-9", "stray", "candidate-42"];
    let explained = tags.map(|tag| explanation(&document, "contoso", "shop/checkout", tag).unwrap());
    insta::assert_snapshot!(explained.join("\n=====\n"));
    let refused = explanation(&document, "contoso", "shop/legacy", "candidate-7").unwrap();
    assert!(refused.contains("REFUSED") && refused.contains("at most 50%"), "{refused}");
}

#[test]
fn what_the_plan_does_not_know_is_not_explained() {
    let document = plan();
    assert_eq!(explanation(&document, "contoso", "shop/checkout", "no-such-tag"), None);
    assert_eq!(explanation(&document, "other", "shop/checkout", "latest"), None);
    assert_eq!(explanation_json(&document, "contoso", "shop", "latest"), None);
}

#[test]
fn an_explanation_is_data_too() {
    let found = explanation_json(&plan(), "contoso", "shop/checkout", "release-1.4.2").unwrap();
    insta::assert_json_snapshot!(found);
}

/// One document for each way in which a plan cannot be applied, or can.
#[test]
fn the_end_says_what_can_be_done() {
    let last = |change: &dyn Fn(&mut PlanDocument)| {
        let mut document = PlanDocument { deletions: DeletionsView::default(), ..plan() };
        change(&mut document);
        let text = text(&document);
        let section = text.split("\nWhat next\n").nth(1).unwrap().split("\n\n").next().unwrap();
        section.lines().last().unwrap().trim().to_owned()
    };
    assert!(last(&|_| ()).contains("To remove 2 tags") && last(&|_| ()).contains("until 2026-11-24 03:00 UTC"));
    assert!(last(&|plan| plan.mode = "dry-run".into()).contains("the mode is dry-run"));
    assert!(last(&|plan| plan.hypothetical = true).contains("without `--at`"));
    assert!(last(&|plan| plan.removals.materialize().clear()).contains("nothing to apply"));
    let only_deletions = |plan: &mut PlanDocument| {
        plan.removals.materialize().clear();
        plan.deletions = sample::plan().deletions;
    };
    assert!(last(&only_deletions).contains("To remove 4 untagged manifests"), "{}", last(&only_deletions));
    let on_trial = |plan: &mut PlanDocument| {
        only_deletions(plan);
        plan.deletions.eligible[0].enforce = false;
    };
    assert!(last(&on_trial).contains("nothing in it is both enforced and allowed"));
    assert!(
        last(&|plan| plan.removals.materialize().iter_mut().for_each(|r| r.enforce = false))
            .contains("cannot be applied")
    );
    let refused_whole = |plan: &mut PlanDocument| {
        plan.refusals[0].registry = None;
        plan.refusals[0].repository = None;
    };
    assert!(last(&refused_whole).contains("cannot be applied"));
}

#[test]
fn long_lists_are_cut_and_say_so() {
    let mut document = plan();
    document.removals = (0..1234).map(|number| removal(number, &format!("candidate-{number}"))).collect();
    document.kept = (0..500)
        .map(|number| {
            let holder = HolderView::File { file: format!("deploy/{}.yaml", number % 7), line: number };
            kept(number, &format!("held-{number}"), "protected", vec![claim("tag", None, holder)])
        })
        .chain((0..77).map(|number| {
            let reasons = vec![ReasonView::SourceFailed { source: "aks".into() }];
            kept(number, &format!("open-{number}"), "undecided", reasons)
        }))
        .collect();
    let text = text(&document);
    assert!(text.contains("and 1,034 more: `--out plan.csv` lists all"), "{text}");
    assert!(text.contains("and 400 more: `--out plan.csv` lists all"), "{text}");
    assert!(text.contains("and 27 more: `--out plan.csv` lists all"), "{text}");
    assert_eq!(
        csv(&document).lines().count(),
        1 + 1234 + 577 + 2,
        "a line for each tag, and for each manifest whose time is over"
    );
}

#[test]
fn markdown_fits_into_a_comment_however_long_the_plan_is() {
    let mut document = plan();
    document.removals = (0..50_000).map(|number| removal(number, &format!("candidate-{number}"))).collect();
    let (held, open) = (plan().kept.materialize()[0].reasons.clone(), plan().kept.materialize()[12].reasons.clone());
    document.kept = (0..5_000).map(|n| kept(n, &format!("t{n}"), "protected", held.clone())).collect();
    document.kept.materialize().extend((0..5_000).map(|n| kept(n, &format!("u{n}"), "undecided", open.clone())));
    document.findings = vec![document.findings[0].clone(); 5_000];
    document.refusals = vec![document.refusals[0].clone(); 60];
    document.registries = vec![document.registries[0].clone(); 500];
    document.sources = vec![document.sources[0].clone(); 500];
    document.policies = vec![document.policies[0].clone(); 500];
    document.deletions.eligible = vec![document.deletions.eligible[0].clone(); 5_000];
    document.deletions.refusals = vec![document.refusals[0].clone(); 500];
    document.deletions.unlisted = (0..500).map(|number| format!("registry-{number}")).collect();
    let whole = markdown(&document);
    assert!(whole.chars().count() < 60_000, "{}", whole.chars().count());
    assert_eq!(whole.matches("more in the JSON.").count(), 11, "{whole}");
    assert!(whole.contains("` and 4,999 more |"), "{whole}");
    assert!(whole.contains("| `contoso/shop/checkout:candidate-0` |"));
    assert_eq!(whole.matches("<details>").count(), whole.matches("</details>").count());

    // Words that grow when they are made inert, everywhere at once.
    document.removals.materialize().truncate(50);
    document.kept.materialize().truncate(50);
    every_string(&mut document, &|text| text.push_str(&"#@|<".repeat(2_000)));
    assert!(markdown(&document).chars().count() < 60_000);
}

#[test]
fn a_short_markdown_has_all_and_is_not_cut() {
    let whole = markdown(&plan());
    assert!(!whole.contains("more in the JSON"));
    for removal in plan().removals.iter() {
        assert!(whole.contains(&removal.tag));
    }
}

const HOSTILE: [&str; 8] = [
    "a | b | c",
    "line one\n\n# a heading\n| x |",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "`code` ``` fence",
    "@contoso/everyone and @root",
    "[click](javascript:alert(1)) ![x](https://tracker.example/x.png)",
    "</details></table>\r\n---",
    "\u{1b}[2J\u{1b}]0;title\u{7} \u{202e}gnp.exe",
];

/// Gives every text of a document another value, through its JSON.
fn every_string(document: &mut PlanDocument, change: &dyn Fn(&mut String)) {
    fn walk(value: &mut Value, change: &dyn Fn(&mut String)) {
        match value {
            Value::String(text) if !is_fixed(text) => change(text),
            Value::Array(values) => values.iter_mut().for_each(|value| walk(value, change)),
            Value::Object(values) => values.values_mut().for_each(|value| walk(value, change)),
            _ => (),
        }
    }
    fn is_fixed(text: &str) -> bool {
        let labels = ["protected", "undecided", "retained", "out-of-scope", "weekly", "tag", "digest", "config"];
        // Labels of tagged enums, verdicts and times, without which the document would be no plan.
        labels.contains(&text)
            || text.parse::<jiff::Timestamp>().is_ok()
            || serde_json::from_value::<ReasonView>(serde_json::json!({ "kind": text }))
                .map_or_else(|error| !error.to_string().contains("unknown variant"), |_| true)
            || serde_json::from_value::<ShortfallView>(serde_json::json!({ "rule": text }))
                .map_or_else(|error| !error.to_string().contains("unknown variant"), |_| true)
            || serde_json::from_value::<HolderView>(serde_json::json!({ "type": text }))
                .map_or_else(|error| !error.to_string().contains("unknown variant"), |_| true)
    }
    let mut value = serde_json::to_value(&*document).unwrap();
    walk(&mut value, change);
    *document = serde_json::from_value(value).unwrap();
}

/// The Markdown without what stands in backticks or behind a backslash, where nothing has a meaning.
fn outside_code(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(found) = characters.next() {
        match found {
            '\\' => drop(characters.next()),
            found => plain.push(found),
        }
    }
    plain.split('`').step_by(2).collect()
}

#[test]
fn hostile_words_do_not_speak_in_markdown() {
    let tables = |text: &str| text.lines().filter(|line| line.starts_with('|')).count();
    let plain = markdown(&plan());
    for words in HOSTILE {
        let mut document = plan();
        every_string(&mut document, &|text| *text = words.to_owned());
        let found = markdown(&document);
        for line in found.lines().filter(|line| line.starts_with('|')) {
            let bars = line.replace("\\|", "").matches('|').count();
            assert!((3..=9).contains(&bars), "{words:?}: {line}");
        }
        assert!(tables(&found) <= tables(&plain), "{words:?} adds rows");
        for bad in [
            "<script",
            "<img",
            "</table",
            "# a heading\n",
            "@contoso/",
            "@root",
            "](java",
            "![x]",
            "\u{1b}",
            "\u{202e}",
        ] {
            assert!(!outside_code(&found).contains(bad), "{words:?} gives {bad:?}:\n{found}");
        }
        let unescaped = found.replace("\\`", "");
        let fences: usize =
            unescaped.lines().filter(|line| !line.starts_with("```")).map(|l| l.matches('`').count() % 2).sum();
        assert_eq!(fences, 0, "{words:?} leaves code open:\n{found}");
        assert_eq!(found.matches("<details>").count(), found.matches("</details>").count(), "{words:?}");
    }
}

#[test]
fn hostile_words_do_not_speak_in_html_and_text() {
    for words in HOSTILE {
        let mut document = plan();
        every_string(&mut document, &|text| *text = words.to_owned());
        let page = html(&document);
        assert_eq!(page.matches("<script").count(), 1, "{words:?}");
        for bad in ["<img", "</table>\r", "</details>"] {
            assert!(!page.contains(bad), "{words:?} gives {bad:?}");
        }
        let steering = |found: char| found.is_control() && found != '\n' || found == '\u{202e}';
        let told = text(&document) + &explanation(&document, words, words, words).unwrap_or_default();
        assert!(!told.contains(steering), "{words:?}");
    }
}

#[test]
fn a_spreadsheet_runs_nothing() {
    for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1", "\r=1"] {
        let mut document = plan();
        every_string(&mut document, &|text| *text = formula.to_owned());
        for line in csv(&document).replace("\r\n", "\n").lines().skip(1).filter(|line| !line.is_empty()) {
            let first = line.trim_start_matches('"');
            assert!(first.starts_with('\'') || formula.contains('\r'), "{formula:?}: {line}");
        }
    }
    let mut document = plan();
    document.removals.materialize()[0].tag = "a,\"b\"\nc".into();
    assert!(csv(&document).contains(",\"a,\"\"b\"\"\nc\","));
}

#[test]
fn formats_have_labels_and_extensions() {
    for format in Format::ALL {
        let text = render(&plan(), format);
        assert!(text.ends_with('\n'), "{}", format.label());
    }
    let of = |extension| Format::from_extension(extension).map(Format::label);
    assert_eq!(
        ["txt", "json", "MD", "markdown", "html", "htm", "csv", "pdf", ""].map(of),
        [
            Some("text"),
            Some("json"),
            Some("markdown"),
            Some("markdown"),
            Some("html"),
            Some("html"),
            Some("csv"),
            None,
            None
        ]
    );
    assert_eq!(read_plan(&render(&plan(), Format::Json)).unwrap(), plan());
}

#[test]
fn a_page_needs_nothing_outside_itself() {
    let page = html(&plan());
    assert!(page.contains("default-src 'none'; style-src 'sha256-"), "no content policy");
    for outside in ["src=", "href=", "url(", "@import", "fetch(", "http:"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for shown in ["candidate-41", "release-1.4.2", "platform@contoso.example", "REFUSED", "reclaimable"] {
        assert!(page.contains(shown) || page.to_uppercase().contains(shown), "{shown}");
    }
}

/// Every way to change one thing in a value.
fn edits(value: &Value) -> Vec<Value> {
    fn walk(value: &Value, wrap: &dyn Fn(Value) -> Value, out: &mut Vec<Value>) {
        let mut other = |changed: Value| out.push(wrap(changed));
        match value {
            Value::Null => other(Value::from("2026-11-23T03:00:00Z")),
            Value::Bool(flag) => other(Value::from(!flag)),
            Value::Number(number) => other(Value::from(number.as_u64().unwrap_or_default() + 1)),
            Value::String(text) => {
                other(Value::from(format!("{text}x")));
                other(Value::from(text.parse::<jiff::Timestamp>().map_or_else(
                    |_| String::from("z") + text,
                    |time| (time + jiff::SignedDuration::from_secs(1)).to_string(),
                )));
            }
            Value::Array(values) => {
                for position in 0..values.len() {
                    let mut fewer = values.clone();
                    fewer.remove(position);
                    other(Value::from(fewer));
                }
                for position in 1..values.len() {
                    let mut swapped = values.clone();
                    swapped.swap(0, position);
                    if swapped != *values {
                        other(Value::from(swapped));
                    }
                }
                for (position, inner) in values.iter().enumerate() {
                    let wrap_inner = |changed: Value| {
                        let mut values = values.clone();
                        values[position] = changed;
                        wrap(Value::from(values))
                    };
                    walk(inner, &wrap_inner, out);
                }
            }
            Value::Object(values) => {
                let mut more = values.clone();
                more.insert("added".into(), Value::from(1));
                other(Value::from(more));
                for key in values.keys() {
                    let mut fewer = values.clone();
                    fewer.remove(key);
                    other(Value::from(fewer));
                }
                for (key, inner) in values {
                    let wrap_inner = |changed: Value| {
                        let mut values = values.clone();
                        values.insert(key.clone(), changed);
                        wrap(Value::from(values))
                    };
                    walk(inner, &wrap_inner, out);
                }
            }
        }
    }
    let mut out = Vec::new();
    walk(value, &|value| value, &mut out);
    out
}

/// A plan in which nothing is there twice, so that one of everything suffices.
fn small() -> PlanDocument {
    let mut document = plan();
    document.removals.materialize().truncate(2);
    document.kept.materialize().truncate(1);
    document.policies.truncate(2);
    assign_plan_id(&mut document);
    document
}

#[test]
fn any_edit_breaks_the_seal() {
    let value = serde_json::to_value(small()).unwrap();
    let edits = edits(&value);
    assert!(edits.len() > 300, "{}", edits.len());
    for edit in edits {
        assert_ne!(edit, value);
        let found = read_plan(&edit.to_string());
        assert!(found.is_err(), "accepted: {edit}");
    }
}

#[test]
fn a_renumbered_id_does_not_help() {
    let mut document = small();
    let id = document.id.clone();
    document.removals.materialize()[0].tag = "latest".into();
    assert!(matches!(
        read_plan(&serde_json::to_string(&document).unwrap()),
        Err(PlanReadError::Edited { stated: says, computed: is }) if says == id && is != id
    ));
    let other = serde_json::json!({ "schema": "tagwarden.plan/2" }).to_string();
    assert_eq!(read_plan(&other), Err(PlanReadError::OtherSchema("tagwarden.plan/2".into())));
    assert!(matches!(read_plan("{"), Err(PlanReadError::NotJson(_))));
}

#[test]
fn reformatting_keeps_the_seal() {
    let document = small();
    let value = serde_json::to_value(&document).unwrap();
    let pretty = serde_json::to_string_pretty(&document).unwrap();
    let compact = serde_json::to_string(&document).unwrap();
    // A `Value` sorts its keys, so this is another order than the document's own.
    let sorted = value.to_string();
    assert_ne!(sorted, compact);
    for text in [pretty.replace('\n', "\r\n"), pretty, compact, sorted] {
        assert_eq!(read_plan(&text).as_ref(), Ok(&document));
    }
}

/// A plan as the version before wrote it: the same document with other keys, and an id that follows from those.
#[test]
fn a_plan_of_the_version_before_can_be_applied_and_not_edited() {
    let document = plan();
    let mut older = serde_json::to_string(&document).unwrap();
    for (key, old) in [
        ("info", "particulars"),
        ("tier", "sku"),
        ("shortfalls", "misses"),
        ("uncertainty", "doubt"),
        ("eligible", "due"),
        ("pending", "waiting"),
        ("next_eligible_at", "next_at"),
        ("eligible_at", "due_at"),
        ("deletable", "goes"),
        ("dependents", "along"),
        ("retain_reasons", "stays"),
    ] {
        let (key, old) = (format!("\"{key}\":"), format!("\"{old}\":"));
        assert!(older.contains(&key), "{key}");
        older = older.replace(&key, &old);
    }
    older = older.replace("\"kind\":\"not-kept\"", "\"kind\":\"let-go\"");
    let unsealed = older.replacen(&document.id, "", 1);
    let id = Digest::of(unsealed.as_bytes()).to_string();
    let older = older.replacen(&document.id, &id, 1);
    for text in [older.clone(), older.replace("{\"", "{\n  \"")] {
        let found = read_plan(&text).unwrap();
        assert_eq!(found.id, id);
        assert_eq!(PlanDocument { id: document.id.clone(), ..found }, document);
    }
    for (from, to) in
        [("\"goes\":false", "\"goes\":true"), ("\"stays\":", "\"kept_by\":"), ("{\"schema\"", "{\"x\":1,\"schema\"")]
    {
        let edited = older.replacen(from, to, 1);
        assert_ne!(edited, older);
        assert!(read_plan(&edited).is_err(), "{from}");
        // Nor with an id that fits: what this version does not know is not dropped.
        let unsealed = edited.replacen(&id, "", 1);
        let refitted = edited.replacen(&id, &Digest::of(unsealed.as_bytes()).to_string(), 1);
        assert_eq!(read_plan(&refitted).is_err(), !to.contains("goes"), "{from}");
    }
}

#[test]
fn a_bucket_says_which_period() {
    let reason = not_kept(vec![ShortfallView::Bucket { period: "daily".into(), count: 7 }]);
    assert_eq!(
        reason.sentence(),
        "policy candidates does not keep it: not the newest of any of the last 7 days that have one"
    );
}

/// Of a long list of policies, those that do something in this plan.
#[test]
fn many_policies_are_folded() {
    let mut document = plan();
    let like = document.policies[0].clone();
    let policy = |number: u64, expired: u64| {
        let mut policy = like.clone();
        (policy.name, policy.expired) = (format!("policy-{number}"), expired);
        policy
    };
    document.policies = (0..8).map(|number| policy(number, 0)).collect();
    assert!(text(&document).contains("policy-7"), "eight are few");
    document.policies = (0..12).map(|number| policy(number, u64::from(number == 5))).collect();
    let shown = text(&document);
    let section = shown.split("\nPolicies\n").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(section.contains("policy-5") && !section.contains("policy-4"), "{section}");
    assert!(section.ends_with("and 11 more, which expire nothing: `--out plan.json` lists all"), "{section}");
}
