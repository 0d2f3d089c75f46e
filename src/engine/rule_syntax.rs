//! Signs of another tool's dialect in globs and patterns.

/// Returns the sign in a glob that means something only in regular expressions: `^`, `$`, `.*`, `\d`, ….
///
/// `1.*` is an ordinary glob for versions; `release-.*` and `release.*` hardly are.
#[must_use]
pub fn regex_syntax_in(glob: &str) -> Option<&'static str> {
    let glob = glob.strip_prefix('!').unwrap_or(glob);
    let signs = ["^", "$", "\\", "(", ")", "|", "+"];
    if let Some(sign) = signs.into_iter().find(|sign| glob.contains(sign)) {
        return Some(sign);
    }
    let before = |at: usize| glob[..at].chars().next_back();
    let any_text = |(at, _): (usize, &str)| before(at).is_none_or(|before| !before.is_ascii_digit() && before != '*');
    glob.match_indices(".*").any(any_text).then_some(".*")
}

/// Returns true if a glob of repositories seems to begin with a host: `contoso.azurecr.io/shop/**`.
#[must_use]
pub fn begins_with_host(glob: &str) -> bool {
    let glob = glob.strip_prefix('!').unwrap_or(glob);
    let Some((first, _)) = glob.split_once('/') else { return false };
    let Some((name, domain)) = first.rsplit_once('.') else { return first == "localhost" };
    !name.is_empty() && domain.len() >= 2 && domain.chars().all(|found| found.is_ascii_lowercase())
}

/// Returns true if a pattern begins or ends like a search (`^release-`) and otherwise is one text, which would be the
/// whole tag.
#[must_use]
pub fn is_unanchored_search(pattern: &str) -> bool {
    let bare = pattern.strip_prefix('^').unwrap_or(pattern);
    let bare = bare.strip_suffix('$').filter(|_| !bare.ends_with("\\$")).unwrap_or(bare);
    bare.len() < pattern.len()
        && !bare.contains(['*', '+', '?', '{', '[', '(', '|', '^', '$'])
        && !bare.replace("\\.", "").replace("\\-", "").contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_told_from_globs() {
        for glob in
            ["^release-", "release-.*", "!release-.*", "release.*", ".*-rc", "v\\d", "rc$", "v1\\..*", "(a|b)", "v+"]
        {
            assert!(regex_syntax_in(glob).is_some(), "{glob}");
        }
        for glob in ["release-*", "v1.*", "1.2.*", "!*-hold", "*.*", "v[0-9]*", "{a,b}-*", "shop/**", "x.y"] {
            assert_eq!(regex_syntax_in(glob), None, "{glob}");
        }
    }

    #[test]
    fn hosts_are_told_from_repositories() {
        for glob in ["contoso.azurecr.io/shop/**", "!ghcr.io/shop", "localhost/shop/*"] {
            assert!(begins_with_host(glob), "{glob}");
        }
        for glob in ["shop/**", "**", "my.shop", "v1.2/x", "*.io", "shop/contoso.azurecr.io"] {
            assert!(!begins_with_host(glob), "{glob}");
        }
    }

    #[test]
    fn searches_for_one_text_are_told_from_patterns() {
        for pattern in ["^release-", "release-$", "^v1\\.2$", "^release"] {
            assert!(is_unanchored_search(pattern), "{pattern}");
        }
        for pattern in ["^release-.*", "release-", "main", "^v\\d+$", "(?<a>x)$", "^a|b"] {
            assert!(!is_unanchored_search(pattern), "{pattern}");
        }
    }
}
