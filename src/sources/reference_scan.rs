//! Finding references to known hosts in running text.

use std::collections::BTreeSet;

use regex::Regex;

use crate::domain::{Hosts, ImageReference, azure_registry};

/// The names by which the registries are known, ready to be looked for.
#[derive(Debug)]
pub(super) struct KnownHosts {
    names: Vec<String>,
    /// Any of them up to the slash behind it, and every host of Azure Container Registry that one of the registries may
    /// be known by; `None` where there are no names.
    pattern: Option<Regex>,
}

/// What stands at one place of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sighting {
    /// A reference.
    Reference(ImageReference),
    /// Something that begins like a reference to a known host and does not read.
    Problem(String),
    /// Something that is no reference by itself, which a person may want to know.
    Note(String),
}

impl KnownHosts {
    pub(super) fn new(names: &[String]) -> Self {
        let mut names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        // The longest first, so that a host with a port or a path is not taken for the one without.
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let any = names.iter().map(|name| match name.split_once('/') {
            Some((host, path)) => format!("{}(?::443)?/{}", regex::escape(host), regex::escape(path)),
            None => format!("{}(?::443)?", regex::escape(name)),
        });
        let azure: BTreeSet<&str> = names.iter().filter_map(|name| azure_registry(name)).collect();
        let azure = azure.iter().map(|registry| {
            format!(r"{}(?:-[a-z0-9]+)?(?:\.[a-z0-9-]+)*\.azurecr\.(?:io|cn|us)(?::443)?", regex::escape(registry))
        });
        let any: Vec<String> = any.chain(azure).collect();
        let pattern = format!("(?i)(?:{})/", any.join("|"));
        let pattern = (!any.is_empty()).then(|| Regex::new(&pattern).expect("escaped names are a pattern"));
        Self { names, pattern }
    }

    /// Returns true if a text is one of the names, alone.
    pub(super) fn is_host(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let (host, path) = text.split_once('/').unwrap_or((&text, ""));
        let inside = if path.is_empty() { "x".to_owned() } else { format!("{path}/x") };
        Hosts::new(&self.names, &[]).path_in(host.strip_suffix(":443").unwrap_or(host), &inside) == Some("x")
    }

    /// Returns true if a host and a path mean one of the registries.
    pub(super) fn name(&self, host: &str, path: &str) -> bool {
        Hosts::new(&self.names, &[]).path_in(host, path).is_some()
    }

    /// Whether a text begins with one of the hosts and a slash.
    pub(super) fn begin(&self, text: &str) -> bool {
        self.pattern.as_ref().and_then(|pattern| pattern.find(text)).is_some_and(|found| found.start() == 0)
    }

    /// The rest of a text from the first of the names in it that has a slash behind it.
    pub(super) fn rest_from_name<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.pattern.as_ref()?.find(text).map(|found| &text[found.start()..])
    }

    /// Every reference to one of the hosts, with its line from 1.
    pub(super) fn scan(&self, text: &str) -> Vec<(u32, Sighting)> {
        let Some(pattern) = &self.pattern else { return Vec::new() };
        let (mut line, mut counted) = (1, 0);
        let mut sightings = Vec::new();
        for found in pattern.find_iter(text) {
            let (before, after) = (&text[..found.start()], &text[found.end()..]);
            line += text[counted..found.start()].matches('\n').count();
            counted = found.start();
            if is_inside_a_name(before) {
                continue;
            }
            let run = &after[..after.find(|c| !is_reference_char(c)).unwrap_or(after.len())];
            let seen = look(found.as_str(), run, &after[run.len()..], before);
            sightings.extend(seen.into_iter().map(|seen| (u32::try_from(line).unwrap_or(u32::MAX), seen)));
        }
        sightings
    }
}

/// Whether a text holds something that is filled in elsewhere.
pub(super) fn is_placeholder(text: &str) -> bool {
    text.contains(['$', '{', '<', '%'])
}

/// Whether what follows belongs to a longer name, such as `my-contoso.azurecr.io` for `contoso.azurecr.io`.
fn is_inside_a_name(before: &str) -> bool {
    let escaped = before.ends_with(r"\n") || before.ends_with(r"\t") || before.ends_with(r"\r");
    !escaped && before.ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn is_reference_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@')
}

/// Reads what follows a known host: `run` is what a reference can be made of, `behind` the text after that.
fn look(host: &str, run: &str, behind: &str, before: &str) -> Vec<Sighting> {
    let open = run.is_empty() || run.ends_with(['/', ':', '@', '.', '-', '_']);
    let filled_in = behind.starts_with("{{")
        || behind.starts_with("#{")
        || behind.starts_with('$')
        || open && behind.starts_with(['{', '<', '%', '*', '[']);
    let mut sightings = Vec::new();
    // A tag may end in a dot or a dash, a sentence too: both readings count.
    let trimmed = run.trim_end_matches(['/', ':', '@', '.', '-', '_']);
    let trimmed = trimmed.strip_suffix("@sha256").unwrap_or(trimmed);
    for reading in [run, trimmed].into_iter().filter(|reading| !reading.is_empty()) {
        if let Some(reference) = read(&format!("{host}{reading}"))
            && !sightings.contains(&Sighting::Reference(reference.clone()))
        {
            sightings.push(Sighting::Reference(reference));
        }
    }
    if filled_in {
        let shown: String =
            behind.chars().take_while(|c| !c.is_whitespace() && !"\"'`,".contains(*c)).take(40).collect();
        sightings
            .push(Sighting::Note(format!("`{host}{run}{shown}` is filled in elsewhere; what it becomes is not known")));
    } else if sightings.is_empty() && !trimmed.is_empty() {
        let text = format!("{host}{trimmed}");
        sightings.push(match text.parse::<ImageReference>() {
            Err(error) if is_web_address(trimmed, before) => {
                Sighting::Note(format!("taken for a web address: {error}"))
            }
            Err(error) => Sighting::Problem(format!("{error}; correct it, or keep this file out of the glob")),
            Ok(reference) => Sighting::Reference(reference),
        });
    }
    sightings
}

/// Reads a reference, also one that more text is joined to by a colon, as in the output of some tools.
fn read(text: &str) -> Option<ImageReference> {
    text.parse().ok().or_else(|| {
        let (text, _) = text.rsplit_once(':')?;
        let reference = ImageReference::as_written(text).ok()?;
        (!text.contains('@') && reference.tag.is_some()).then_some(reference)
    })
}

/// Whether it is more likely an address of the registry's API than an image.
fn is_web_address(path: &str, before: &str) -> bool {
    before.ends_with("http://")
        || before.ends_with("https://")
        || ["v2/", "oauth2/", "acr/v1/"].iter().any(|prefix| path.starts_with(prefix))
}
