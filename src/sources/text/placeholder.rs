//! Placeholders: parts that a shell, a pipeline or a template engine fills in later.
//!
//! `${NAME}`, `$NAME`, `$(NAME)`, `$[NAME]`, `{{ NAME }}`, `{NAME}`, `<NAME>`, `<< NAME >>`, `%NAME%`, `#{NAME}#`,
//! `[[NAME]]`, and the verbs of format strings (`%s`).

use std::ops::Range;

/// The characters that placeholders begin with.
const OPENERS: [char; 6] = ['$', '{', '<', '%', '#', '['];

/// Longest name in braces or angle brackets; longer ones are ordinary text.
const LONGEST: usize = 80;

/// Longest placeholder, so that a long line is not scanned again for each of its braces.
const MOST_BYTES: usize = 400;

/// Elements of HTML, which are not placeholders although they look like `<NAME>`.
const ELEMENTS: [&str; 26] = [
    "a", "b", "body", "br", "code", "dd", "div", "dl", "dt", "em", "hr", "i", "img", "li", "ol", "p", "pre", "s",
    "span", "strong", "sub", "sup", "td", "tr", "ul", "wbr",
];

/// Scopes in which tools store variables. The name after a scope is the variable's own.
const SCOPES: [&str; 11] = [
    "github.event.inputs.",
    "pipeline.parameters.",
    "variables.",
    "parameters.",
    "params.",
    "inputs.",
    "matrix.",
    "local.",
    "vars.",
    "env.",
    "var.",
];

/// Filters of templates that leave a value unchanged.
const PLAIN_FILTERS: [&str; 6] = ["quote", "squote", "string", "toString", "tpl", "trim"];

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sources) enum Piece<'t> {
    /// Literal text.
    Literal(&'t str),
    /// A placeholder as written.
    Placeholder(&'t str),
}

/// The variable that a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sources) struct Variable {
    /// Its name; empty if the placeholder lists its values itself, as `{api,web}` does.
    pub(in crate::sources) name: String,
    /// True if its name is case-insensitive.
    pub(in crate::sources) any_case: bool,
    /// Its values without a definition. They may contain placeholders.
    pub(in crate::sources) defaults: Vec<String>,
}

/// Returns true if a text contains a placeholder.
pub(in crate::sources) fn has_placeholder(text: &str) -> bool {
    find(text, 0).is_some()
}

/// Returns the first placeholder that begins at or after `from`.
pub(in crate::sources) fn find(text: &str, from: usize) -> Option<Range<usize>> {
    let mut from = from;
    while let Some(at) = text[from..].find(OPENERS).map(|at| from + at) {
        if let Some(length) = length_at(text, at) {
            return Some(at..at + length);
        }
        from = at + 1;
    }
    None
}

/// Splits a text at its placeholders.
pub(in crate::sources) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(found) = find(text, at) {
        if found.start > at {
            pieces.push(Piece::Literal(&text[at..found.start]));
        }
        at = found.end;
        pieces.push(Piece::Placeholder(&text[found]));
    }
    if at < text.len() {
        pieces.push(Piece::Literal(&text[at..]));
    }
    pieces
}

/// Returns the bytes of the placeholder that begins at a position of a text; `None` if there is none. An unclosed
/// placeholder extends to the end of its line.
pub(in crate::sources) fn length_at(text: &str, at: usize) -> Option<usize> {
    let first = *text.as_bytes().get(at)?;
    if !matches!(first, b'$' | b'{' | b'<' | b'%' | b'#' | b'[') {
        return None;
    }
    let rest = window(&text[at..]);
    match rest.as_bytes() {
        [b'{', b'{', ..] => Some(nested(rest, '{', '}')),
        [b'#', b'{', ..] => {
            let end = nested(rest, '{', '}');
            Some(end + usize::from(rest[end..].starts_with('#')))
        }
        [b'$', ..] => dollar(rest),
        [b'%', ..] => percent(rest),
        [b'[', b'[', ..] => named(rest, "[[", "]]").filter(|_| stands_apart(text, at)),
        [b'<', b'<', ..] => named(rest, "<<", ">>").filter(|_| stands_apart(text, at)),
        [b'{', ..] => named(rest, "{", "}").filter(|_| stands_apart(text, at)),
        [b'<', ..] => named(rest, "<", ">").filter(|end| stands_apart(text, at) && !is_element(&rest[1..end - 1])),
        _ => None,
    }
}

/// Returns the first line of a text, up to the longest placeholder.
fn window(text: &str) -> &str {
    let mut end = text.len().min(MOST_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    &text[..text.find('\n').unwrap_or(end)]
}

/// Matches `${…}`, `$(…)`, `$[…]`, `$NAME`, PowerShell's `$env:NAME`, and `$$` for `$`, as make and compose write it.
fn dollar(rest: &str) -> Option<usize> {
    let doubled = usize::from(rest.starts_with("$$"));
    let rest = &rest[doubled..];
    let length = match rest.as_bytes() {
        [_, b'{', ..] => nested(rest, '{', '}'),
        [_, b'(', ..] => nested(rest, '(', ')'),
        [_, b'[', ..] => nested(rest, '[', ']'),
        [_, first, ..] if first.is_ascii_digit() => 2,
        [_, first, ..] if first.is_ascii_alphabetic() || *first == b'_' => {
            let scope = if rest[1..].starts_with("env:") { 5 } else { 1 };
            scope + word(&rest[scope..])
        }
        _ => return None,
    };
    Some(doubled + length)
}

/// Matches `%NAME%`, and the verbs of format strings.
fn percent(rest: &str) -> Option<usize> {
    let length = word(&rest[1..]);
    // A digit begins a percent escape of a URL.
    if rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && rest[1 + length..].starts_with('%') {
        return Some(length + 2);
    }
    (length == 1 && matches!(rest.as_bytes()[1], b'd' | b'q' | b's' | b'v')).then_some(2)
}

/// Returns the bytes of a word at the beginning of a text.
fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Returns the end of the first nested pair of `open` and `close`; the line's end if it is not closed.
fn nested(line: &str, open: char, close: char) -> usize {
    let mut depth = 0_u32;
    for (at, c) in line.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at + c.len_utf8();
            }
        }
    }
    line.len()
}

/// Returns the end of a name between two delimiters.
fn named(line: &str, open: &str, close: &str) -> Option<usize> {
    let inner = &line[open.len()..];
    let inner = &inner[..inner.find(close)?];
    let name = inner.trim();
    let sound = name.len() <= LONGEST
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-:, ".contains(c));
    sound.then_some(open.len() + inner.len() + close.len())
}

/// Returns true if an ambiguous delimiter is at the beginning of a part of a reference.
fn stands_apart(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == ')')
}

fn is_element(inner: &str) -> bool {
    let name = inner.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    ELEMENTS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Returns the variable that a placeholder stands for; `None` if it is something else, such as the output of a command.
pub(in crate::sources) fn variable(written: &str) -> Option<Variable> {
    let inner = |open: &str, close: &str| written.strip_prefix(open)?.strip_suffix(close);
    if let Some(inner) = inner("${{", "}}") {
        return expression(inner);
    }
    if let Some(inner) = inner("{{", "}}") {
        return template(inner);
    }
    if let Some(inner) = inner("#{", "}#").or_else(|| inner("#{", "}")).or_else(|| inner("[[", "]]")) {
        return plain(inner, false);
    }
    if let Some(inner) = inner("$(", ")").or_else(|| inner("$[", "]")).or_else(|| inner("%", "%")) {
        return plain(inner, true);
    }
    if let Some(rest) = written.strip_prefix('$') {
        let rest = rest.trim_start_matches('$');
        return match rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(inner) => shell(inner),
            None => plain(rest.strip_prefix("env:").unwrap_or(rest), false),
        };
    }
    if let Some(inner) = inner("<<", ">>") {
        return plain(inner, false);
    }
    let inner = inner("{", "}")?;
    match inner.split_once(',') {
        Some(_) => {
            let defaults = inner.split(',').map(|value| value.trim().to_owned()).collect();
            Some(Variable { name: String::new(), any_case: false, defaults })
        }
        None => plain(inner, false),
    }
}

/// Parses a bare name.
fn plain(text: &str, any_case: bool) -> Option<Variable> {
    let name = plain_name(text)?;
    Some(Variable { name: name.to_owned(), any_case, defaults: Vec::new() })
}

/// Returns the name of a variable without its scope.
fn plain_name(text: &str) -> Option<&str> {
    let text = text.trim();
    // `variables['tag']`
    let text = match text.split_once("['") {
        Some((_, rest)) => rest.strip_suffix("']")?,
        None => text.strip_prefix('$').unwrap_or(text),
    };
    let sound = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '.')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let own = SCOPES.iter().find_map(|scope| text.strip_prefix(scope)).unwrap_or(text);
    // Only Helm's objects begin with a dot of their own.
    let own = if own.starts_with(".Values.") || own.starts_with(".Chart.") { own } else { own.trim_start_matches('.') };
    (sound && !own.is_empty()).then_some(own)
}

/// Parses a parameter of a shell or of compose: `NAME`, `NAME:-default`, `NAME-default`, `NAME:=default`.
fn shell(inner: &str) -> Option<Variable> {
    let name = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').unwrap_or(inner.len());
    let (name, rest) = inner.split_at(name);
    let operator = rest.strip_prefix(':').unwrap_or(rest);
    let default = match operator.as_bytes() {
        [b'-' | b'=' | b'+', ..] => operator[1..].trim_matches(['"', '\'']),
        _ if rest.is_empty() || operator.starts_with('?') => "",
        _ => return None,
    };
    let defaults = if default.is_empty() { Vec::new() } else { vec![default.to_owned()] };
    Some(Variable { defaults, ..plain(name, false)? })
}

/// Parses an expression of GitHub Actions or Azure Pipelines: `env.NAME`, `env.NAME || 'default'`.
fn expression(inner: &str) -> Option<Variable> {
    let mut parts = inner.split("||");
    let variable = plain(parts.next()?, true)?;
    let defaults: Option<Vec<String>> = parts.map(value).collect();
    Some(Variable { defaults: defaults?, ..variable })
}

/// Parses an expression of Go's templates or of Jinja: `.Values.tag`, `tag | default("v1")`, `default "v1"
/// .Values.tag`.
fn template(inner: &str) -> Option<Variable> {
    let inner = inner.trim_matches(['-', '~']);
    let mut stages = inner.split('|').map(str::trim);
    let first: Vec<&str> = stages.next()?.split_whitespace().collect();
    let (name, mut defaults) = match first[..] {
        [name] => (name, Vec::new()),
        ["default", default, name] => (name, vec![value(default)?]),
        [filter, name] if PLAIN_FILTERS.contains(&filter) => (name, Vec::new()),
        _ => return None,
    };
    let variable = plain(name, false)?;
    for stage in stages {
        match stage.strip_prefix("default") {
            Some(rest) => {
                let rest = rest.trim().trim_start_matches('(').trim_end_matches(')');
                // Jinja's second argument makes an empty value count as missing.
                let default = rest.split_once(',').map_or(rest, |(default, _)| default);
                defaults.push(value(default)?);
            }
            None if PLAIN_FILTERS.contains(&stage) => {}
            None => return None,
        }
    }
    Some(Variable { defaults: defaults.into_iter().filter(|default| !default.is_empty()).collect(), ..variable })
}

/// Parses a value in an expression: a quoted text, or a variable, which is written as a separate placeholder.
fn value(text: &str) -> Option<String> {
    let text = text.trim();
    for quote in ['"', '\'', '`'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return Some(inner.to_owned());
        }
    }
    plain_name(text).map(|_| format!("{{{{ {text} }}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_seen_in_every_spelling() {
        for (text, expected) in [
            ("api:${TAG}", "${TAG}"),
            ("api:${A:-${B}}-x", "${A:-${B}}"),
            ("api:$TAG-x", "$TAG"),
            ("api:$$TAG", "$$TAG"),
            ("api:$env:TAG", "$env:TAG"),
            ("api:$1", "$1"),
            ("api:$(Build.BuildId)", "$(Build.BuildId)"),
            ("api:$(git rev-parse $(x)) y", "$(git rev-parse $(x))"),
            ("api:$[variables.tag]", "$[variables.tag]"),
            ("api:{{ .Values.tag }}x", "{{ .Values.tag }}"),
            ("api:${{ github.sha }}", "${{ github.sha }}"),
            ("api:{tag}", "{tag}"),
            ("shop/{api,web}:v1", "{api,web}"),
            ("api:<tag>", "<tag>"),
            ("api:<< pipeline.parameters.tag >>", "<< pipeline.parameters.tag >>"),
            ("api:%TAG%", "%TAG%"),
            ("api:%s", "%s"),
            ("api:#{tag}#", "#{tag}#"),
            ("api:#{tag}", "#{tag}"),
            ("api:[[tag]]", "[[tag]]"),
            ("api:${TAG\nnext}", "${TAG"),
            // Texts that only look like placeholders.
            ("api:v1", ""),
            ("api:v1<br>", ""),
            ("api.<br>x", ""),
            ("api</td>", ""),
            ("api{color}", ""),
            ("100% sure", ""),
            ("a # comment", ""),
            ("$ docker", ""),
            ("a[0]", ""),
            ("{\"a\": 1}", ""),
        ] {
            let found = find(text, 0).map(|found| &text[found]).unwrap_or_default();
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(
            pieces("a${B}c$D"),
            [Piece::Literal("a"), Piece::Placeholder("${B}"), Piece::Literal("c"), Piece::Placeholder("$D")]
        );
    }

    #[test]
    fn a_placeholder_names_its_variable() {
        for (written, expected) in [
            ("${TAG}", "TAG"),
            ("${var.tag}", "tag"),
            ("${env.TAG}", "TAG"),
            ("${acr.properties.loginServer}", "acr.properties.loginServer"),
            ("${TAG:-v1}", "TAG or v1"),
            ("${TAG-v1}", "TAG or v1"),
            ("${TAG:=v1}", "TAG or v1"),
            ("${TAG:-${OTHER}}", "TAG or ${OTHER}"),
            ("${TAG:-}", "TAG"),
            ("${TAG:?must be set}", "TAG"),
            ("${TAG%-*}", "-"),
            ("${lookup(x)}", "-"),
            ("$TAG", "TAG"),
            ("$$TAG", "TAG"),
            ("$env:TAG", "TAG"),
            ("$1", "-"),
            ("$(tag)", "TAG of any case"),
            ("$(Build.BuildId)", "BUILD.BUILDID of any case"),
            ("$(git rev-parse HEAD)", "-"),
            ("$[variables['tag']]", "TAG of any case"),
            ("${{ variables.tag }}", "TAG of any case"),
            ("${{ env.TAG || 'v1' }}", "TAG of any case or v1"),
            ("${{ format('x') }}", "-"),
            ("{{ tag }}", "tag"),
            ("{{- $.Values.image.tag -}}", ".Values.image.tag"),
            ("{{.TAG}}", "TAG"),
            ("{{ .Values.tag | default .Chart.AppVersion }}", ".Values.tag or {{ .Chart.AppVersion }}"),
            ("{{ default \"v1\" .Values.tag | quote }}", ".Values.tag or v1"),
            ("{{ tag | default('v1', true) }}", "tag or v1"),
            ("{{ .Values.tag | trunc 7 }}", "-"),
            ("{{ include \"x\" . }}", "-"),
            ("%TAG%", "TAG of any case"),
            ("%s", "-"),
            ("#{TAG}#", "TAG"),
            ("[[ tag ]]", "tag"),
            ("{tag}", "tag"),
            ("{api, web}", " or api or web"),
            ("<< pipeline.parameters.tag >>", "tag"),
            ("<tag>", "-"),
        ] {
            let shown = variable(written).map(|Variable { name, any_case, defaults }| {
                let name = if any_case { format!("{} of any case", name.to_uppercase()) } else { name };
                std::iter::once(name).chain(defaults).collect::<Vec<_>>().join(" or ")
            });
            assert_eq!(shown.as_deref().unwrap_or("-"), expected, "{written}");
        }
    }
}
