//! The plan as Markdown, for a change ticket or a comment on a pull request.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::escape::{MAX_BYTES, MAX_TEXT_BYTES, code, escape, folded, lines, row, section};
use super::repeated::{Repeated, and_more, group_repeated};
use crate::registry::Provider;
use crate::registry::providers::{VerifyTool, provider};
use crate::report::holds::HEADINGS;
use crate::report::humanize::{counted, format_age, format_bytes, format_count};
use crate::report::idle::{self, describe_idle};
use crate::report::notation::{format_minute, short_digest};
use crate::report::registry_info::describe_registry;
use crate::report::storage::{cells, describe_storage, largest};
use crate::report::summary::{
    self, ProtectedTag, RESTORE_INSTRUCTIONS, RemovalStatus, beside_refusals, count_by_reason, describe_date,
    describe_missing, describe_mode, describe_reclaimable, describe_size, group_by_holder, headline, kept_with_verdict,
    next_steps, removal_reasons, undo_periods,
};
use crate::report::{AttentionView, GapView, PlanDocument, ReasonView, RegistryView, RemovalView, SourceView};

/// Most bytes of each list. The rest is for the removals.
const MOST_REGISTRIES: usize = 4_000;
const MOST_GAPS: usize = 4_000;
const MOST_FACTS: usize = 2_000;
const MOST_BY_HAND: usize = 4_000;
const MOST_SOURCES: usize = 4_000;
const MOST_POLICIES: usize = 6_000;
const MOST_REFUSALS: usize = 4_000;
const MOST_ATTENTION: usize = 4_000;
const MOST_FINDINGS: usize = 4_000;
const MOST_IDLE: usize = 3_000;
const MOST_STORAGE: usize = 2_000;
const MOST_REPOSITORIES: usize = 10;
const MOST_DELETIONS: usize = 5_000;
const MOST_HOLDS: usize = 3_000;
const MOST_PROTECTED: usize = 8_000;
const MOST_UNDECIDED: usize = 5_000;

/// Renders the plan with everything that a reviewer needs, below 60,000 characters whatever its size: lists are folded
/// and truncated, with the number of omitted lines. Text from outside cannot break a table, insert HTML or notify
/// anybody. `taken` bytes are reserved for the text before it.
#[must_use]
pub(in crate::report) fn markdown(document: &PlanDocument, taken: usize) -> String {
    // A run's own list, which comes before, contains them.
    let urgent = if taken == 0 { needs_attention(&beside_refusals(document)) } else { String::new() };
    let before = [head(document), refusals(document), accepted(document), urgent].concat();
    let after = [
        deletions(document),
        foot(document),
        undecided(document),
        protected(document),
        kept_tags(document),
        holds(document),
        storage(document),
        basis(document),
        verify_commands(document),
        restore_instructions(document),
    ]
    .concat();
    let rest = MAX_BYTES.saturating_sub(taken + before.len() + after.len());
    [before, removals(document, rest), after].concat()
}

/// Renders the evidence of a plan, and its irregularities.
pub(super) fn basis(document: &PlanDocument) -> String {
    [
        registries(document),
        sources(document),
        policies(document),
        unmatched(document),
        idle(document),
        findings(document),
    ]
    .concat()
}

fn head(document: &PlanDocument) -> String {
    let summary = &document.summary;
    let verdicts = [
        ("**expired** (would be removed)", summary.expired),
        ("protected", summary.protected),
        ("retained", summary.retained),
        ("undecided", summary.undecided),
        ("out of scope", summary.out_of_scope),
        ("all tags", summary.tags),
    ];
    let rows: Vec<String> =
        verdicts.iter().map(|(verdict, number)| row(&[(*verdict).to_owned(), format_count(*number)])).collect();
    format!(
        "## Tagwarden plan\n\n**{}**\n\n{}\n\n| verdict | tags |\n| :-- | --: |\n{}\n| reclaimable | {}{} |\n| shared | {} |\n\n{}\n",
        escape(&describe_mode(document)),
        escape(&headline(document)),
        rows.join("\n"),
        if summary.is_estimated() { "about " } else { "" },
        format_bytes(summary.reclaimable_bytes),
        format_bytes(summary.shared_bytes),
        escape(&describe_reclaimable(document)),
    )
}

/// Renders the attention items, before everything else.
pub(super) fn needs_attention(attention: &[AttentionView]) -> String {
    if attention.is_empty() {
        return String::new();
    }
    let rows = attention.iter().map(|found| format!("- ({}) {}", code(&found.kind), escape(&found.sentence())));
    section("Needs attention", &lines(MOST_ATTENTION, attention.len(), rows))
}

fn accepted(document: &PlanDocument) -> String {
    if document.accepted.is_empty() {
        return String::new();
    }
    let rows = document.accepted.iter().map(|one| format!("- {}: {}", code(&one.kind), escape(&one.sentence())));
    let intro = "These limits and rules hold nothing back in this plan.\n\n";
    section("Accepted for this plan only", &(intro.to_owned() + &lines(MOST_REFUSALS, document.accepted.len(), rows)))
}

fn refusals(document: &PlanDocument) -> String {
    if document.refusals.is_empty() {
        return String::new();
    }
    let rows = document.refusals.iter().map(|refusal| {
        let mark = if refusal.binding { "**refused**" } else { "would be refused" };
        format!("- {mark} ({}): {}", code(&refusal.kind), escape(&refusal.message))
    });
    let intro = "None of what a refusal covers is removed, not even a part of it.\n\n";
    section("Refusals", &(intro.to_owned() + &lines(MOST_REFUSALS, document.refusals.len(), rows)))
}

fn deletions(document: &PlanDocument) -> String {
    let found = &document.deletions;
    if found.is_empty() {
        return String::new();
    }
    let sentences = found.sentences();
    let mut out =
        lines(MOST_FACTS, sentences.len(), sentences.iter().map(|sentence| format!("- {}", escape(sentence))));
    let refusals = found.refusals.iter().map(|refusal| {
        let mark = if refusal.binding { "**refused**" } else { "would be refused" };
        format!("- {mark} ({}): {}", code(&refusal.kind), escape(&refusal.message))
    });
    out.push_str(&lines(MOST_FACTS, found.refusals.len(), refusals));
    if !found.eligible.is_empty() {
        let header = "| manifest | last tag | untagged | with it | policies | what becomes of it |\n\
                      | :-- | :-- | :-- | :-- | :-- | :-- |\n";
        let rows = found.sorted().map(|one| {
            row(&[
                code(&one.name()),
                if one.tag.is_empty() { String::new() } else { code(&one.tag) },
                format_minute(one.untagged_at),
                one.describe_dependents(),
                escape(&one.policies.join(", ")),
                escape(&one.describe()),
            ])
        });
        let table = header.to_owned() + &lines(MOST_DELETIONS, found.eligible.len(), rows);
        out.push('\n');
        out.push_str(&folded(&counted(found.eligible.len() as u64, "manifest"), &table));
    }
    section("Manifests without a tag", &out)
}

fn registries(document: &PlanDocument) -> String {
    let rows = document.registries.iter().map(registry);
    let header =
        "| registry | endpoint | read as | repositories | tags | removal |\n| :-- | :-- | :-- | --: | --: | :-- |\n";
    let mut out =
        section("Registries", &(header.to_owned() + &lines(MOST_REGISTRIES, document.registries.len(), rows)));
    let facts: Vec<String> = document.registries.iter().flat_map(facts_of).collect();
    if !facts.is_empty() {
        out.push('\n');
        out.push_str(&lines(MOST_FACTS, facts.len(), facts.into_iter()));
    }
    let headline = |number| format!("<b>{} could not be read</b>, so what depends on it stays", format_count(number));
    out.push_str(&folded_notes(document, |registry| &registry.gaps, headline));
    let headline =
        |number| format!("{} in what was read: each stays, and nothing else is in doubt", counted(number, "odd name"));
    out.push_str(&folded_notes(document, |registry| &registry.invalid_names, headline));
    out
}

/// Gaps or notes of all registries, folded below a headline.
fn folded_notes(
    document: &PlanDocument,
    of: fn(&RegistryView) -> &[GapView],
    headline: impl Fn(u64) -> String,
) -> String {
    let all = document.registries.iter().flat_map(|registry| of(registry).iter().map(move |gap| (registry, gap)));
    let number = all.clone().count();
    if number == 0 {
        return String::new();
    }
    let entries = all.map(|(registry, gap)| {
        let place = match &gap.repository {
            Some(repository) => format!("{}/{repository}", registry.name),
            None => registry.name.clone(),
        };
        ([place, gap.kind.clone(), gap.message.clone()], gap.at.clone())
    });
    let (groups, omitted) = group_repeated(entries);
    let rows = groups.iter().map(|Repeated { key: [place, kind, message], first, count }| {
        let more = and_more(*count);
        format!("- {}: {}{more} ({}): {}", code(place), escape(first), escape(kind), escape(message))
    });
    format!("\n{}", folded(&headline(number as u64), &lines(MOST_GAPS, groups.len() + omitted, rows)))
}

fn facts_of(registry: &RegistryView) -> Vec<String> {
    let name = code(&registry.name);
    let denied = registry.obstacles.iter().map(|obstacle| {
        let place = code(&format!("{}/{}", registry.name, obstacle.repository));
        format!("- {place}: **nothing can be removed**: {}", escape(&obstacle.message))
    });
    describe_registry(registry).iter().map(|fact| format!("- {name}: {}", escape(fact))).chain(denied).collect()
}

fn registry(registry: &RegistryView) -> String {
    let removal = match &registry.obstacle {
        Some(obstacle) => format!("**impossible**: {}", escape(obstacle)),
        None => code(&registry.removal),
    };
    row(&[
        format!("{} ({})", code(&registry.name), escape(&registry.kind)),
        code(&registry.endpoint),
        escape(&registry.identity),
        format_count(registry.repositories),
        format_count(registry.tags),
        removal,
    ])
}

fn sources(document: &PlanDocument) -> String {
    let header = "| source | kind | state | claims | mentions | unresolved | protects | evidence of |\n\
                  | :-- | :-- | :-- | --: | --: | --: | --: | :-- |\n";
    let rows = document.sources.iter().map(|source| self::source(document, source));
    section("Sources", &(header.to_owned() + &lines(MOST_SOURCES, document.sources.len(), rows)))
}

fn source(document: &PlanDocument, source: &SourceView) -> String {
    let state = match &source.error {
        Some(error) => format!("**{}**: {}", escape(&source.state), escape(error)),
        None => escape(&[std::slice::from_ref(&source.state), source.notes.as_slice()].concat().join("; ")),
    };
    let evidence = source.as_of.map_or_else(String::new, |time| {
        format!("{} ({} old)", format_minute(time), format_age(document.created_at.duration_since(time).as_secs()))
    });
    row(&[
        code(&source.name),
        escape(&source.kind),
        state,
        format_count(source.claims),
        source.mentions.map(format_count).unwrap_or_default(),
        source.unresolved.map(format_count).unwrap_or_default(),
        format_count(source.protects),
        evidence,
    ])
}

fn policies(document: &PlanDocument) -> String {
    let header = "| policy | mode | selects | expires | owner | what for | file | revision |\n\
                  | :-- | :-- | --: | --: | :-- | :-- | :-- | :-- |\n";
    let rows = document.policies.iter().map(|policy| {
        row(&[
            code(&policy.name),
            escape(&policy.mode),
            policy.selected.map_or_else(|| "?".to_owned(), format_count),
            format_count(policy.expired),
            escape(policy.owner.as_deref().unwrap_or_default()),
            escape(policy.description.as_deref().unwrap_or_default()),
            code(&policy.file),
            code(&short_digest(&policy.revision)),
        ])
    });
    section("Policies", &(header.to_owned() + &lines(MOST_POLICIES, document.policies.len(), rows)))
}

fn unmatched(document: &PlanDocument) -> String {
    if document.unmatched.is_empty() {
        return String::new();
    }
    let mark = |refuses: bool| if refuses { "**refuses**: " } else { "" };
    let rows = document.unmatched.iter().map(|rule| format!("- {}{}", mark(rule.refuses()), escape(&rule.message)));
    section("Rules that match nothing", &lines(MOST_POLICIES, document.unmatched.len(), rows))
}

fn idle(document: &PlanDocument) -> String {
    if document.idle.is_empty() {
        return String::new();
    }
    let intro: Vec<String> =
        describe_idle(document).iter().map(|sentence| format!("- {}\n", escape(sentence))).collect();
    let intro = intro.concat();
    let header = format!("| {} |\n| :-- | :-- | :-- | --: | --: | --: | :-- |\n", idle::HEADINGS.join(" | "));
    let rows = document.idle.iter().map(|found| {
        let [name, rest @ ..] = idle::cells(found);
        let rest = rest.map(|cell| escape(&cell));
        format!("| {} | {} |", code(&name), rest.join(" | "))
    });
    let table = header + &lines(MOST_IDLE, document.idle.len(), rows);
    section("Idle repositories", &format!("{intro}\n{table}"))
}

fn findings(document: &PlanDocument) -> String {
    if document.findings.is_empty() {
        return String::new();
    }
    let mark = |severity: &str| if severity == "warning" { "**warning**" } else { "info" };
    let rows = document.findings.iter().map(|found| format!("- {}: {}", mark(&found.severity), escape(&found.message)));
    let title = counted(document.findings.len() as u64, "difference");
    let intro = "Nothing is removed or refused because of them.\n\n";
    section(
        "Drift and orphans",
        &(intro.to_owned() + &folded(&title, &lines(MOST_FINDINGS, document.findings.len(), rows))),
    )
}

fn holds(document: &PlanDocument) -> String {
    if document.holds.is_empty() {
        return String::new();
    }
    let header = format!("{}{}", row(&HEADINGS.map(str::to_owned)), "| :-- | :-- | :-- | :-- | :-- | :-- |\n");
    let rows = document.holds.iter().map(|hold| {
        let [tag, digest, until, by, since, reason] = hold.cells();
        row(&[code(&tag), code(&digest), until, escape(&by), since, escape(&reason)])
    });
    let table = lines(MOST_HOLDS, document.holds.len(), rows);
    let title = format!("{} held, whatever the policies say", counted(document.holds.len() as u64, "tag"));
    section("Holds", &folded(&title, &(header + &table)))
}

fn removals(document: &PlanDocument, most: usize) -> String {
    if document.removals.is_empty() {
        return section("Removals", "Nothing would be removed.\n");
    }
    let header = "| tag | digest | time | age | size | policy | enforcement | why |\n\
                  | :-- | :-- | :-- | --: | --: | :-- | :-- | :-- |\n";
    let title = format!("{} would be removed", counted(document.removals.len() as u64, "tag"));
    let by_repository = removals_by_repository(document);
    let frame = section("Removals", &(by_repository.clone() + &folded(&title, header))).len()
        + "\n… and 18,446,744,073,709,551,615 more in the JSON.\n".len();
    let rows = document.removals.iter().map(|removal| self::removal(document, &removal));
    let table = lines(most.saturating_sub(frame), document.removals.len(), rows);
    section("Removals", &(by_repository + &folded(&title, &(header.to_owned() + &table))))
}

/// Counts the removals by repository, policy and enforcement, most first: the part that a reviewer can take in.
fn removals_by_repository(document: &PlanDocument) -> String {
    let mut counts: BTreeMap<(String, String, RemovalStatus), u64> = BTreeMap::new();
    for (removal, count) in document.removals.groups() {
        let place = format!("{}/{}", removal.registry, removal.repository);
        *counts.entry((place, removal.policy.clone(), RemovalStatus::of(document, &removal))).or_default() += count;
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by_key(|(_, count)| Reverse(*count));
    let shown = sorted.iter().take(MOST_REPOSITORIES).map(|((place, policy, status), count)| {
        row(&[code(place), format_count(*count), code(policy), status.label().to_owned()])
    });
    let header = "| repository | would be removed | policy | enforcement |\n| :-- | --: | :-- | :-- |\n";
    format!("{header}{}\n", lines(MOST_FACTS, sorted.len(), shown))
}

fn removal(document: &PlanDocument, removal: &RemovalView) -> String {
    row(&[
        code(&removal.name()),
        code(&short_digest(&removal.digest)),
        escape(&describe_date(removal)),
        removal.age_seconds.map_or_else(|| "unknown".to_owned(), format_age),
        describe_size(removal),
        code(&removal.policy),
        RemovalStatus::of(document, removal).label().to_owned(),
        escape(&removal_reasons(removal)),
    ])
}

/// Renders the bytes that would be free, by registry, and the repositories with the most of them.
fn storage(document: &PlanDocument) -> String {
    if document.storage.is_empty() {
        return String::new();
    }
    let registries =
        document.storage.iter().map(|found| format!("- {}: {}", code(&found.registry), describe_storage(found)));
    let registries = lines(MOST_STORAGE, document.storage.len(), registries);
    let header =
        "| repository | removals | reclaimable | shared | of unknown size |\n| :-- | --: | --: | --: | --: |\n";
    let largest = largest(document);
    let rows = largest.iter().take(MOST_REPOSITORIES).map(|found| {
        let [name, numbers @ ..] = cells(*found);
        format!("| {} | {} |", code(&name), numbers.join(" | "))
    });
    let table = header.to_owned() + &lines(MOST_STORAGE, largest.len(), rows);
    section("What that frees once the registry collects it", &format!("{registries}\n{table}"))
}

fn kept_tags(document: &PlanDocument) -> String {
    if document.kept.is_empty() {
        return String::new();
    }
    let header = "A tag counts once for each kind of reason.\n\n| reason to stay | tags |\n| :-- | --: |\n";
    let rows = count_by_reason(document)
        .into_iter()
        .map(|(kind, number)| row(&[kind.to_owned(), format_count(number)]) + "\n");
    section("Why the others stay", &(header.to_owned() + &rows.collect::<String>()))
}

fn protected(document: &PlanDocument) -> String {
    let (groups, total) = group_by_holder(document, MOST_PROTECTED);
    if total == 0 {
        return String::new();
    }
    let header = "| tag | digest | who holds it |\n| :-- | :-- | :-- |\n";
    let rows = groups.values().flatten().map(|held| {
        let ProtectedTag { kept, more_reasons: others, .. } = held;
        let others = if *others == 0 { String::new() } else { format!(" (and {} more)", format_count(*others as u64)) };
        let digest = kept.digest.as_deref().map_or_else(|| "unread".to_owned(), |digest| code(&short_digest(digest)));
        row(&[
            code(&kept.name()),
            digest,
            escape(&held.reason().map(ReasonView::sentence).unwrap_or_default()) + &others,
        ])
    });
    let table = header.to_owned() + &lines(MOST_PROTECTED, total, rows);
    String::from("\n") + &folded(&format!("{} protected: by whom", counted(total as u64, "tag")), &table)
}

fn undecided(document: &PlanDocument) -> String {
    let total = kept_with_verdict(document, "undecided").count();
    if total == 0 {
        return String::new();
    }
    let header = "| tag | what is missing |\n| :-- | :-- |\n";
    let entries = kept_with_verdict(document, "undecided")
        .map(|kept| ([kept.registry.clone(), kept.repository.clone(), describe_missing(&kept)], kept.name()));
    let (groups, omitted) = group_repeated(entries);
    let rows = groups.iter().map(|Repeated { key: [.., missing], first, count }| {
        row(&[format!("{}{}", code(first), and_more(*count)), escape(missing)])
    });
    let table = header.to_owned() + &lines(MOST_UNDECIDED, groups.len() + omitted, rows);
    String::from("\n") + &folded(&format!("{} undecided, so kept: why", counted(total as u64, "tag")), &table)
}

/// Renders the commands of a product's own tool, for the first removal of each repository.
fn tool_commands(document: &PlanDocument, tool: &VerifyTool) -> String {
    let prefix = format!("{} ", tool.command);
    let fits =
        |command: &String| command.len() <= MAX_TEXT_BYTES && !command.contains(|c: char| c == '`' || c.is_control());
    let commands = summary::verify_commands(document)
        .into_iter()
        .filter(fits)
        .filter(|command| command.starts_with(prefix.as_str()));
    let mut block = String::new();
    for command in commands {
        if block.len() + command.len() < MOST_BY_HAND {
            block.extend([command.as_str(), "\n"]);
        }
    }
    section("To verify by hand", &format!("{}\n\n```sh\n{block}```\n", tool.introduction))
}

/// Commands that only read, for the first removal.
fn verify_commands(document: &PlanDocument) -> String {
    let Some(removal) = document.removals.get(0) else { return String::new() };
    let registry = document.registries.iter().find(|registry| registry.name == removal.registry);
    let Some(registry) = registry else { return String::new() };
    if let Some(tool) = provider(&registry.kind).and_then(Provider::verify_tool) {
        return tool_commands(document, &tool);
    }
    let endpoint = registry.endpoint.trim_end_matches('/');
    let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host);
    let RemovalView { repository, tag, digest, .. } = &*removal;
    let pasteable = |text: &str| {
        text.len() <= MAX_TEXT_BYTES && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:".contains(c))
    };
    if ![endpoint, repository.as_str(), tag.as_str(), digest.as_str()].into_iter().all(pasteable) {
        return String::new();
    }
    let accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                  application/vnd.docker.distribution.manifest.list.v2+json, \
                  application/vnd.docker.distribution.manifest.v2+json";
    section(
        "To verify by hand",
        &format!(
            "These only read; log in first where the registry asks for it. Each shows the digest that the first removal expects, `{digest}`:\n\n```sh\n\
             crane digest {host}/{repository}:{tag}\n\
             skopeo inspect --raw docker://{host}/{repository}:{tag} | sha256sum\n\
             curl -sI -H 'Accept: {accept}' {endpoint}/v2/{repository}/manifests/{tag}   # docker-content-digest\n```\n"
        ),
    )
}

fn restore_instructions(document: &PlanDocument) -> String {
    let known = undo_periods(document);
    let rows = known.iter().map(|(registry, period)| format!("- {}: {period}", code(registry)));
    let periods = if known.is_empty() { String::new() } else { format!("\n{}", lines(MOST_FACTS, known.len(), rows)) };
    section("To undo", &format!("{RESTORE_INSTRUCTIONS}\n{periods}"))
}

fn foot(document: &PlanDocument) -> String {
    let steps: Vec<String> = next_steps(document).iter().map(|step| format!("- {}\n", escape(step))).collect();
    let facts = row(&[
        code(&document.id),
        format_minute(document.created_at),
        format_minute(document.expires_at),
        escape(&document.mode),
        code(&short_digest(&document.settings)),
        code(&document.fingerprint),
    ]);
    let header = "| plan | made | may be applied until | mode | settings | fingerprint |\n\
                  | :-- | :-- | :-- | :-- | :-- | :-- |\n";
    section("What next", &format!("{}\n{header}{facts}\n", steps.concat()))
}
