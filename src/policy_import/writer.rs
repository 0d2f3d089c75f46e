//! Policies as YAML, each below its original and what differs.

use std::fmt::Write as _;

use super::translation::{ImportedKeep, ImportedPolicy, ImportedRule, Remark, RemarkKind, TagSelection, Translation};
use super::{ImportError, ImportErrorKind};
use crate::domain::{Failure, Policy};
use crate::policy;

/// Beyond this, no policy can say it: a hundred years.
const MOST_SECONDS: u64 = 36_525 * 24 * 3600;

/// The shortest wait before the deletion of an untagged manifest, in seconds: the default of `undo_window`, below which
/// `check` fails.
const LEAST_UNTAGGED_WAIT: u64 = 7 * 24 * 3600;

/// The translation as a policy file, read back to be sure that it is one.
pub(super) fn write(translation: &mut Translation, heading: &str) -> Result<String, ImportError> {
    let mut unprotected = false;
    for policy in &mut translation.policies {
        let was_there = policy.left_out.is_none();
        settle(policy);
        unprotected |=
            was_there && policy.left_out.is_some() && (policy.holds_others || policy.keep == ImportedKeep::All);
    }
    if unprotected {
        let removing = translation.policies.iter_mut().filter(|policy| policy.keep != ImportedKeep::All);
        removing.for_each(|policy| policy.leave_out("a policy that protects some of its tags is left out"));
    }
    if translation.policies.iter().all(|policy| policy.left_out.is_some()) {
        keep_first(translation)?;
    }
    let mut out = String::new();
    let _ = writeln!(out, "# {heading}");
    let _ = writeln!(
        out,
        "# Read what differs, then `tagwarden check`, then `tagwarden plan`. No policy here removes anything yet."
    );
    for remark in &translation.remarks {
        add_remark(&mut out, "", remark);
    }
    out.push_str("policies:\n");
    for policy in &translation.policies {
        add_policy(&mut out, policy);
    }
    read_back(&out).map_err(|problem| {
        Failure::new(ImportErrorKind::Unreadable, "the translated policies cannot be read back")
            .caused_by(problem)
            .with_help("this is a fault in tagwarden; please report it with the file")
    })?;
    Ok(out)
}

fn read_back(text: &str) -> Result<Vec<Policy>, Failure<()>> {
    policy::parse("imported policies", text).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::new((), problems.join("; "))
    })
}

/// Leaves out a policy that cannot be written as it is meant.
fn settle(policy: &mut ImportedPolicy) {
    if policy.untagged_after.is_some_and(|wait| wait < LEAST_UNTAGGED_WAIT) {
        policy.untagged_after = Some(LEAST_UNTAGGED_WAIT);
        policy.remark(
            RemarkKind::Untagged,
            "the original waits less than seven days; Tagwarden waits for its `undo_window` at least, seven days by default",
        );
    }
    let endless = |rule: &ImportedRule| match rule {
        ImportedRule::Within(seconds) | ImportedRule::PulledWithin(seconds) => *seconds > MOST_SECONDS,
        ImportedRule::ImageWith { within, .. } => within.is_some_and(|seconds| seconds > MOST_SECONDS),
        ImportedRule::Newest(_) => false,
    };
    if policy.rules().iter().any(endless) {
        policy.keep = ImportedKeep::All;
    }
    if policy.left_out.is_none() {
        let text = format!("policies:\n{}", body(policy));
        if let Err(problem) = read_back(&text) {
            policy.leave_out(format!("a policy cannot say it: {}", problem.chain().replace('\n', " ")));
        }
    }
}

/// Lets the first policy that was left out keep all that it selects: a policy file without a policy is an error.
fn keep_first(translation: &mut Translation) -> Result<(), ImportError> {
    let first = translation.policies.iter().find(|policy| !policy.repositories.is_empty());
    let Some(first) = first else {
        return Err(
            Failure::new(ImportErrorKind::Empty, "there is no rule in it").with_help("nothing is to be translated")
        );
    };
    let mut held = ImportedPolicy::new(
        format!("{}-stays", first.name),
        vec!["no rule of the file could be translated; until you write one, everything stays".to_owned()],
        first.repositories.clone(),
    );
    "Keeps everything until a rule is written.".clone_into(&mut held.description);
    held.keep = ImportedKeep::All;
    settle(&mut held);
    if held.left_out.take().is_some() {
        held.repositories = vec!["**".to_owned()];
    }
    translation.policies.push(held);
    Ok(())
}

fn add_policy(out: &mut String, policy: &ImportedPolicy) {
    for line in policy.original.iter().take(1) {
        add_comment(out, "  ", &format!("Original: {line}"));
    }
    for line in policy.original.iter().skip(1) {
        add_comment(out, "  ", &format!("  {line}"));
    }
    for remark in &policy.remarks {
        add_remark(out, "  ", remark);
    }
    match &policy.left_out {
        None => out.push_str(&body(policy)),
        Some(reason) => {
            add_comment(out, "  ", &format!("Left out: {reason}."));
            for line in body(policy).lines() {
                let _ = writeln!(out, "  # {}", line.strip_prefix("  ").unwrap_or(line));
            }
        }
    }
}

fn add_remark(out: &mut String, indent: &str, remark: &Remark) {
    add_comment(out, indent, &format!("Differs ({}): {}.", remark.kind.label(), remark.text));
}

/// A comment, one line for each line of the text. Other control characters are shown as what they are not.
fn add_comment(out: &mut String, indent: &str, text: &str) {
    for line in text.lines() {
        let line: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let _ = writeln!(out, "{indent}# {}", line.trim_end());
    }
}

/// The policy as an entry of the list.
fn body(policy: &ImportedPolicy) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "  - name: {}", policy.name);
    let _ = writeln!(out, "    description: {}", quoted(&policy.description));
    out.push_str("    select:\n");
    let _ = writeln!(out, "      repositories: {}", glob_list(&policy.repositories));
    match &policy.tags {
        None => {}
        Some(TagSelection::Globs(globs)) => {
            let _ = writeln!(out, "      tags: {}", glob_list(globs));
        }
        Some(TagSelection::Pattern(pattern)) => {
            let _ = writeln!(out, "      pattern: {}", single_quoted(pattern));
        }
        Some(TagSelection::Apart { apart, rest }) => {
            let _ = writeln!(out, "      pattern: {}", single_quoted(&format!("(?<stays>{apart})|{rest}")));
            out.push_str("    group_by: [stays] # each of these tags is a group of its own\n");
        }
    }
    if let Some(seconds) = policy.untagged_after {
        let _ = writeln!(out, "    untagged: {{ delete: after {} }}", duration(seconds));
    } else {
        match &policy.keep {
            ImportedKeep::All => out.push_str("    keep: all\n"),
            ImportedKeep::Rules(rules) if rules.is_empty() => out.push_str("    keep: none\n"),
            ImportedKeep::Rules(rules) => {
                out.push_str("    keep:\n");
                for rule in rules {
                    let _ = writeln!(out, "      - {}", rule_text(rule));
                }
            }
        }
    }
    out.push_str("    mode: dry-run\n");
    out
}

fn rule_text(rule: &ImportedRule) -> String {
    match rule {
        ImportedRule::Newest(count) => format!("newest: {count}"),
        ImportedRule::Within(seconds) => format!("within: {}", duration(*seconds)),
        ImportedRule::PulledWithin(seconds) => format!("pulled_within: {}", duration(*seconds)),
        ImportedRule::ImageWith { tags, within } => {
            let tags = (!tags.is_empty()).then(|| format!("tags: {}", glob_list(tags)));
            let within = within.map(|seconds| format!("within: {}", duration(seconds)));
            let asked: Vec<String> = tags.into_iter().chain(within).collect();
            format!("image_with: {{ {} }}", asked.join(", "))
        }
    }
}

/// Seconds as a policy writes them: `30d`, `1d 12h`. At least one second, which is the least that a policy knows.
pub(super) fn duration(seconds: u64) -> String {
    let mut rest = seconds.max(1);
    let mut words = Vec::new();
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
        if rest >= length {
            words.push(format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    words.join(" ")
}

fn glob_list(globs: &[String]) -> String {
    format!("[{}]", globs.iter().map(|glob| quoted(glob)).collect::<Vec<_>>().join(", "))
}

/// A text in double quotes. What JSON writes, YAML reads.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
