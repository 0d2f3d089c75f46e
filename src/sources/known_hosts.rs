//! Search for the hosts of known registries in running text.

use std::collections::BTreeSet;
use std::ops::Range;

use regex::Regex;

use super::text::placeholder;
use crate::domain::{Hosts, azure_registry_name};

/// The names of the known registries, prepared for searching.
#[derive(Debug)]
pub(super) struct KnownHosts {
    names: Vec<String>,
    /// Matches any of them with the slash after it, and every host of Azure Container Registry that may belong to one
    /// of the registries; `None` without names.
    pattern: Option<Regex>,
}

impl KnownHosts {
    pub(super) fn new(names: &[String]) -> Self {
        let mut names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        // The longest first, so that a host with a port or a path is not mistaken for the one without.
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let any = names.iter().map(|name| match name.split_once('/') {
            Some((host, path)) => format!("{}(?::443)?/{}", regex::escape(host), regex::escape(path)),
            None => format!("{}(?::443)?", regex::escape(name)),
        });
        let azure: BTreeSet<&str> = names.iter().filter_map(|name| azure_registry_name(name)).collect();
        let azure = azure.iter().map(|registry| {
            format!(r"{}(?:-[a-z0-9]+)?(?:\.[a-z0-9-]+)*\.azurecr\.(?:io|cn|us)(?::443)?", regex::escape(registry))
        });
        let any: Vec<String> = any.chain(azure).collect();
        let pattern = format!("(?i)(?:{})/", any.join("|"));
        let pattern = (!any.is_empty()).then(|| Regex::new(&pattern).expect("escaped names are a pattern"));
        Self { names, pattern }
    }

    /// Returns true if a text is exactly one of the names.
    pub(super) fn is_host(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let (host, path) = text.split_once('/').unwrap_or((&text, ""));
        let inside = if path.is_empty() { "x".to_owned() } else { format!("{path}/x") };
        Hosts::new(&self.names, &[]).repository_path(host.strip_suffix(":443").unwrap_or(host), &inside) == Some("x")
    }

    /// Returns true if a host and a path belong to one of the registries.
    pub(super) fn match_path(&self, host: &str, path: &str) -> bool {
        Hosts::new(&self.names, &[]).repository_path(host, path).is_some()
    }

    /// Returns true if a text begins with one of the hosts and a slash.
    pub(super) fn is_prefix_of(&self, text: &str) -> bool {
        self.pattern.as_ref().and_then(|pattern| pattern.find(text)).is_some_and(|found| found.start() == 0)
    }

    /// Returns the rest of a text from the first of the names that is followed by a slash.
    pub(super) fn rest_from_name<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.pattern.as_ref()?.find(text).map(|found| &text[found.start()..])
    }

    /// Returns the places in a text where a reference to one of the hosts begins: the bytes of the host and the slash
    /// after it.
    pub(super) fn find_all(&self, text: &str) -> Vec<Range<usize>> {
        let Some(pattern) = &self.pattern else { return Vec::new() };
        let found = pattern.find_iter(text).map(|found| found.range());
        found.filter(|found| !is_inside_name(&text[..found.start])).collect()
    }
}

/// Returns true if a text contains a placeholder.
pub(super) fn is_placeholder(text: &str) -> bool {
    placeholder::has_placeholder(text)
}

/// Returns true if the next characters belong to a longer name, such as `my-contoso.azurecr.io` for
/// `contoso.azurecr.io`.
fn is_inside_name(before: &str) -> bool {
    let mut last = before.chars().rev();
    match last.next() {
        Some('-') => last.next().is_some_and(|c| c.is_ascii_alphanumeric()) && !is_default(before),
        // The part before was cut off.
        Some('.') => !before.ends_with("..."),
        Some('m') => !is_colour(before),
        Some(c) => c.is_ascii_alphanumeric(),
        None => false,
    }
}

/// Returns true for `${NAME-`, which precedes the default of a shell variable.
fn is_default(before: &str) -> bool {
    let name = before.trim_end_matches('-').trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    name.ends_with("${")
}

/// Returns true for `[32m`, the rest of a terminal colour sequence without its first character.
fn is_colour(before: &str) -> bool {
    let numbers = before.trim_end_matches('m').trim_end_matches(|c: char| c.is_ascii_digit() || c == ';');
    numbers.len() < before.len() - 1 && numbers.ends_with('[')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_behind_marks_and_not_inside_another() {
        let hosts = KnownHosts::new(&["contoso.azurecr.io", "harbor.example/proxy"].map(String::from));
        for (text, expected) in [
            ("contoso.azurecr.io/a", 1),
            ("Contoso.AzureCR.io:443/a", 1),
            ("contoso.westeurope.geo.azurecr.io/a", 1),
            ("harbor.example/proxy/a harbor.example/other/a", 1),
            ("x=contoso.azurecr.io/a:=contoso.azurecr.io/b", 2),
            ("${A:-contoso.azurecr.io/a} ${A-contoso.azurecr.io/b}", 2),
            ("_contoso.azurecr.io/a_ **contoso.azurecr.io/b** `contoso.azurecr.io/c`", 3),
            ("->contoso.azurecr.io/a|contoso.azurecr.io/b,contoso.azurecr.io/c", 3),
            ("oci://contoso.azurecr.io/a docker-pullable://contoso.azurecr.io/b", 2),
            ("[32mcontoso.azurecr.io/a [1;31mcontoso.azurecr.io/b", 2),
            ("...contoso.azurecr.io/a -contoso.azurecr.io/b", 2),
            ("my-contoso.azurecr.io/a xcontoso.azurecr.io/a a.contoso.azurecr.io/a mcontoso.azurecr.io/a", 0),
            ("contoso.azurecr.io contoso.azurecr.io.evil/a contosodev.azurecr.io/a", 0),
        ] {
            assert_eq!(hosts.find_all(text).len(), expected, "{text}");
        }
        assert!(KnownHosts::new(&[]).find_all("contoso.azurecr.io/a").is_empty());
    }
}
