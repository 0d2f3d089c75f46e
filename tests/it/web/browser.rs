//! The pages in Chromium: layout at three widths, light and dark, with no, few and very many rows; what assistive technology
//! reads; the keyboard. Asserts on boxes and on the accessibility tree, never on pixels.

use jiff::ToSpan as _;
use serde_json::Value;
use tagwarden::domain::Hold;
use tagwarden::state::{NewRun, RunContext, RunKind};

use super::fixture::{WebFixture, hold, new_run, noon, plan, record, run_id};
use crate::support::browser::Browser;

const WIDTHS: [u32; 3] = [390, 768, 1280];

/// Words that a layout may never break: everything in a table that is not a name, up to this length.
const LONGEST_WORD: usize = 18;

/// Everything wrong with the layout of the page, in words.
const LAYOUT_PROBLEMS: &str = r#"
const problems = [];
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > width)
  problems.push(`the page is ${document.documentElement.scrollWidth} wide in a window of ${width}`);
const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
for (let node; (node = walker.nextNode());) {
  const cell = node.parentElement.closest("td, th, time, .axis, .mark, h1, h2");
  if (!cell || cell.matches(".name") || node.parentElement.closest(".sr, details:not([open]) > :not(summary), thead")) continue;
  // Prose may part compounds at their hyphens.
  for (const word of node.data.matchAll(cell.matches(".words") ? /[^\s-]+-*/g : /\S+/g)) {
    if (word[0].length > LONGEST) continue;
    const range = document.createRange();
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
    if (lines.size > 1) problems.push(`"${word[0]}" is broken into ${lines.size} lines`);
  }
}
for (const label of document.querySelectorAll(".axis span, .days span")) {
  const box = label.getBoundingClientRect();
  if (box.left < 0 || box.right > width) problems.push(`the label "${label.textContent}" leaves the window`);
}
const svg = document.querySelector(".chart svg")?.getBoundingClientRect();
for (const label of document.querySelectorAll(".axis span"))
  if (label.getBoundingClientRect().right > svg.left) problems.push(`the label "${label.textContent}" lies on the chart`);
for (const element of document.querySelectorAll("a, button, input, select, summary")) {
  const box = element.getBoundingClientRect();
  if (box.width > 0 && box.right > width && !element.closest(".scroll")) problems.push(`${element.textContent} leaves the window`);
}
return problems;
"#;

/// The lowest contrast of text with its background, by WCAG 2: ratio, and the text.
const LOWEST_CONTRAST: &str = r#"
const channels = (color) => color.match(/[\d.]+/g).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
const background = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = channels(getComputedStyle(at).backgroundColor);
    if (color.length < 4 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
let lowest = [21, ""];
for (const element of document.querySelectorAll("main *, header *, footer")) {
  if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
  if (!element.checkVisibility() || element.closest(".sr, svg")) continue;
  const [a, b] = [luminance(channels(getComputedStyle(element).color)), luminance(background(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < lowest[0]) lowest = [ratio, element.textContent.trim().slice(0, 60)];
}
return lowest;
"#;

async fn fixture(tags: usize) -> WebFixture {
    let text = format!("{}[schedule]\ntimezone = \"America/New_York\"\ncron = \"0 3 * * *\"\n", super::fixture::LEAST);
    let site = WebFixture::with(&text).await;
    let store = &site.context.store;
    for number in [1, 2] {
        if tags > 0 {
            record(store, number, plan(tags), noon() - (72 - i64::try_from(number).unwrap() * 24).hours()).await;
        }
    }
    if tags > 0 {
        store.hold(&hold("load test of the checkout")).await.unwrap();
        let ended = Hold {
            repository: "shop/part-000".parse().unwrap(),
            tag: "candidate-000003".parse().unwrap(),
            since: noon() - 12.hours(),
            ..hold("load test of the check-out, see https://tickets.contoso.example/browse/OPERATIONS-2026-000417")
        };
        store.hold(&ended).await.unwrap();
        let by = "operations-on-call@build-agents.contoso.example";
        store.end_holds(&ended.endpoint, &ended.repository, &ended.tag, by, noon() - 6.hours()).await.unwrap();
        let approver = "release-board@contoso.example, stated as anna.of.the.release.board@contoso.example";
        let apply = NewRun { approved_by: Some(approver.into()), ..new_run(3, RunKind::Apply, noon()) };
        let context = RunContext { signed_by: Some("release-board".into()), ..RunContext::default() };
        store.begin_run_with_context(&apply, &context).await.unwrap();
    }
    site
}

fn pages(tags: usize) -> Vec<String> {
    let mut pages = vec!["/".to_owned(), "/runs".to_owned(), "/nowhere".to_owned()];
    if tags > 0 {
        pages.extend([
            format!("/runs/{}", run_id(2)),
            "/registries/contoso".to_owned(),
            "/registries/contoso/shop/part-000".to_owned(),
            "/images/contoso/shop/part-000:candidate-000003".to_owned(),
        ]);
    }
    pages
}

async fn every_page_fits_every_window(tags: usize) {
    let (site, browser) = (fixture(tags).await, Browser::start().await);
    let layout_problems = LAYOUT_PROBLEMS.replace("LONGEST", &LONGEST_WORD.to_string());
    for page in pages(tags) {
        browser.open(&format!("http://{}{page}", site.address)).await;
        for (width, scheme) in WIDTHS.iter().flat_map(|width| [(*width, "light"), (*width, "dark")]) {
            browser.resize(width, 900, scheme).await;
            let problems = browser.run(&layout_problems).await;
            assert_eq!(problems, Value::Array(Vec::new()), "{page}, {tags} tags, {width} pixels wide");
            let contrast = browser.run(LOWEST_CONTRAST).await;
            assert!(contrast[0].as_f64().unwrap() >= 4.5, "{page}, {scheme}: {contrast}");
        }
    }
}

#[tokio::test]
async fn a_site_without_runs_fits_every_window() {
    every_page_fits_every_window(0).await;
}

#[tokio::test]
async fn pages_of_ten_tags_fit_every_window() {
    every_page_fits_every_window(10).await;
}

#[tokio::test]
async fn pages_of_a_hundred_thousand_tags_fit_every_window() {
    every_page_fits_every_window(100_000).await;
}

/// Landmarks, one first heading, and names for everything that can be reached or is a table or picture.
#[tokio::test]
async fn assistive_technology_finds_its_way() {
    let (site, browser) = (fixture(10).await, Browser::start().await);
    for page in pages(10) {
        browser.open(&format!("http://{}{page}", site.address)).await;
        let tree = browser.accessibility_tree().await;
        let count = |role: &str| tree.iter().filter(|(found, _)| found == role).count();
        for landmark in ["banner", "main", "contentinfo"] {
            assert_eq!(count(landmark), 1, "{page}: {landmark} in {tree:?}");
        }
        assert!(count("navigation") >= 1, "{page}: {tree:?}");
        let unnamed: Vec<_> = tree
            .iter()
            .filter(|(role, name)| {
                ["link", "button", "table", "image", "searchbox", "combobox", "progressbar"].contains(&role.as_str())
                    && name.trim().is_empty()
            })
            .collect();
        // The icon beside the name of the site says nothing new.
        assert!(unnamed.is_empty(), "{page}: {unnamed:?}");
        let firsts = browser.run("return [...document.querySelectorAll('h1')].map((found) => found.textContent)").await;
        assert_eq!(firsts.as_array().unwrap().len(), 1, "{page}: {firsts}");
    }
}

/// Health first, then what needs attention, and only then numbers.
#[tokio::test]
async fn the_first_page_begins_with_what_matters_most() {
    let (site, browser) = (fixture(10).await, Browser::start().await);
    browser.open(&format!("http://{}/", site.address)).await;
    browser.resize(1280, 900, "light").await;
    let headings = browser
        .run("return [...document.querySelectorAll('main h1, main h2')].map((found) => found.textContent)")
        .await;
    let expected = serde_json::json!([
        "1 problem, 3 warnings",
        "Now",
        "Last run",
        "Next run",
        "Removed",
        "Would be removed if every policy enforced",
        "Kept",
        "Trend",
        "Registries",
        "Sources",
        "Holds",
        "Latest runs"
    ]);
    assert_eq!(headings, expected);
    let bottoms = browser
        .run("return ['.attention', '.panels'].map((found) => document.querySelector(found).getBoundingClientRect().bottom)")
        .await;
    assert!(bottoms.as_array().unwrap().iter().all(|bottom| bottom.as_f64().unwrap() < 900.0), "{bottoms}");
    let times = browser.run("return document.querySelector('#next').parentElement.textContent").await;
    assert!(times.as_str().unwrap().contains("2026-11-23 22:00 EST 2026-11-24 03:00 UTC"), "{times}");
}

#[tokio::test]
async fn the_keyboard_skips_to_the_content_and_to_the_search() {
    let (site, browser) = (fixture(10).await, Browser::start().await);
    browser.open(&format!("http://{}/runs/{}", site.address, run_id(2))).await;
    browser.press("\u{E004}").await;
    let focus = "return document.activeElement.textContent || document.activeElement.name";
    assert_eq!(browser.run(focus).await, "Skip to content");
    let visible = "return document.activeElement.getBoundingClientRect().left >= 0";
    assert_eq!(browser.run(visible).await, true, "what has the focus is to be seen");
    browser.press("\u{E007}").await;
    assert_eq!(browser.run("return location.hash").await, "#main");
    browser.press("/").await;
    assert_eq!(browser.run(focus).await, "search");
}
