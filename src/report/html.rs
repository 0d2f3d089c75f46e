//! The plan as one page for a browser, with nothing outside itself.

use std::collections::HashMap;

use askama::Template as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::particulars::facts;
use super::reason::{minute, short};
use super::tally::{Standing, by_hand, freed, kept_as, next_steps, occasion, size, why_it_goes};
use super::text::drift_words;
use super::words::{age, bytes, clip, count, plain};
use super::{KeptView, PlanDocument, ReasonView, RegistryView, RemovalView};

/// The rows of the two long tables; a browser opens these many without effort.
const MOST_REMOVALS: usize = 100_000;
const MOST_KEPT: usize = 20_000;
const MOST_BARS: usize = 15;

const STYLE: &str = include_str!("../../templates/report.css");
const SCRIPT: &str = include_str!("../../templates/report.js");

#[derive(askama::Template)]
#[template(path = "report.html")]
struct Page<'a> {
    document: &'a PlanDocument,
    style: &'static str,
    style_hash: String,
    script: &'static str,
    script_hash: String,
    made: String,
    occasion: String,
    freed: String,
    cards: Vec<(&'static str, String)>,
    steps: Vec<String>,
    charts: Vec<Chart>,
    drift: Vec<String>,
    facts: Vec<(String, String)>,
    by_hand: Vec<String>,
    removals: Vec<Going>,
    more_removals: usize,
    kept: Vec<Staying>,
    more_kept: usize,
}

struct Chart {
    title: &'static str,
    height: usize,
    bars: Vec<Bar>,
    more: usize,
}

/// One bar: its words, and where it is drawn.
struct Bar {
    label: String,
    number: String,
    top: usize,
    text: usize,
    width: u64,
    end: u64,
}

struct Going {
    name: String,
    digest: String,
    age_seconds: i64,
    age: String,
    bytes: i128,
    size: String,
    policy: String,
    standing: &'static str,
    why: String,
}

struct Staying {
    name: String,
    digest: String,
    verdict: String,
    age_seconds: i64,
    age: String,
    why: String,
}

/// The plan as one self-contained page: summary, charts, and tables that sort and filter where scripts may run. Its
/// content policy allows its own style and script by their hashes and nothing else.
#[must_use]
pub fn html(document: &PlanDocument) -> String {
    let order = ["protected", "undecided", "retained", "out-of-scope"];
    let kept = order.into_iter().flat_map(|verdict| kept_as(document, verdict));
    let page = Page {
        document,
        style: STYLE,
        style_hash: hash(STYLE),
        script: SCRIPT,
        script_hash: hash(SCRIPT),
        made: minute(document.created_at),
        occasion: occasion(document),
        freed: freed(document),
        cards: cards(document),
        steps: next_steps(document),
        charts: vec![
            chart(
                "Removals by repository",
                document.removals.iter().map(|r| format!("{}/{}", r.registry, r.repository)),
            ),
            chart(
                "Removals by policy",
                document.removals.iter().flat_map(|r| r.policies().map(str::to_owned).collect::<Vec<_>>()),
            ),
        ],
        drift: document.drift.iter().map(drift_words).collect(),
        facts: document.registries.iter().flat_map(of_registry).collect(),
        by_hand: by_hand(document).iter().map(|command| plain(command)).collect(),
        removals: document.removals.iter().take(MOST_REMOVALS).map(|removal| going(document, &removal)).collect(),
        more_removals: document.removals.len().saturating_sub(MOST_REMOVALS),
        kept: kept.take(MOST_KEPT).map(|kept| staying(document, &kept)).collect(),
        more_kept: document.kept.len().saturating_sub(MOST_KEPT),
    };
    // Writing into a string cannot fail; should it ever, the page says so instead of being half a page.
    let page =
        page.render().unwrap_or_else(|error| format!("<!doctype html><p>The report could not be written: {error}"));
    page + "\n"
}

/// How a content policy names an inline style or script.
fn hash(content: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content.as_bytes())))
}

fn cards(document: &PlanDocument) -> Vec<(&'static str, String)> {
    let summary = &document.summary;
    vec![
        ("tags", count(summary.tags)),
        ("would go", count(summary.expired)),
        ("protected", count(summary.protected)),
        ("retained", count(summary.retained)),
        ("undecided", count(summary.undecided)),
        ("out of scope", count(summary.out_of_scope)),
        (
            if summary.estimated() { "reclaimable at most, estimated" } else { "reclaimable" },
            bytes(summary.reclaimable_bytes),
        ),
        ("shared, stays", bytes(summary.shared_bytes)),
    ]
}

/// A registry's name with each thing to know of it.
fn of_registry(registry: &RegistryView) -> impl Iterator<Item = (String, String)> {
    let denied = registry
        .obstacles
        .iter()
        .map(|obstacle| format!("nothing can be removed from {}: {}", obstacle.repository, obstacle.message));
    facts(registry).into_iter().chain(denied).map(|fact| (plain(&registry.name), plain(&fact)))
}

fn chart(title: &'static str, labels: impl Iterator<Item = String>) -> Chart {
    const WIDEST: u64 = 170;
    let mut numbers: HashMap<String, u64> = HashMap::new();
    for label in labels {
        *numbers.entry(label).or_default() += 1;
    }
    let mut numbers: Vec<(String, u64)> = numbers.into_iter().collect();
    numbers.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let most = numbers.first().map_or(1, |found| found.1.max(1));
    let bars: Vec<Bar> = numbers
        .iter()
        .take(MOST_BARS)
        .enumerate()
        .map(|(place, (label, number))| {
            let width = (number * WIDEST / most).max(1);
            let top = place * 22 + 4;
            let number = count(*number);
            Bar { label: clip(&plain(label), 36), number, top, text: top + 11, width, end: 230 + width + 6 }
        })
        .collect();
    Chart { title, height: bars.len() * 22 + 4, more: numbers.len() - bars.len(), bars }
}

fn going(document: &PlanDocument, removal: &RemovalView) -> Going {
    Going {
        name: plain(&removal.name()),
        digest: short(&removal.digest),
        age_seconds: removal.age_seconds.unwrap_or(-1),
        age: removal.age_seconds.map_or_else(|| "unknown".to_owned(), age),
        bytes: removal.reclaimable_bytes.map_or(-1, i128::from),
        size: size(removal),
        policy: plain(&removal.policy),
        standing: Standing::of(document, removal).label(),
        why: plain(&why_it_goes(removal)),
    }
}

fn staying(document: &PlanDocument, kept: &KeptView) -> Staying {
    let seconds = kept.dated_at.map(|time| document.evaluated_at.duration_since(time).as_secs());
    let sentences: Vec<String> = kept.reasons.iter().map(ReasonView::sentence).collect();
    Staying {
        name: plain(&kept.name()),
        digest: kept.digest.as_deref().map_or_else(|| "unread".to_owned(), short),
        verdict: kept.verdict.clone(),
        age_seconds: seconds.unwrap_or(-1),
        age: seconds.map_or_else(|| "unknown".to_owned(), age),
        why: clip(&plain(&sentences.join("; ")), 1_000),
    }
}
