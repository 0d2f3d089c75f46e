//! A rule for errors: the cause of an error is a value, and `chain` alone puts it into words.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{flat, is_path_separator, is_punct, is_word, sources, tokens};

/// Names of variables that hold errors. Not `source`, by which sources of evidence go.
const ERROR_NAMES: [&str; 4] = ["error", "err", "e", "cause"];

/// Macros whose arguments are no words for people.
const WORDLESS_MACROS: [&str; 5] = ["assert", "assert_eq", "debug_assert", "matches", "vec"];

/// Functions that make errors.
const CONSTRUCTORS: [&str; 6] = ["new", "about", "usage", "failed", "within", "with_help"];

#[test]
fn errors_are_shown_by_their_chain() {
    let found: Vec<String> = sources("src")
        .iter()
        .filter(|file| !file.path.ends_with("/tests.rs") && file.path != "src/domain/failure.rs")
        .flat_map(|file| violations(&file.path, tokens(&file.path, &file.text)))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn causes_in_literals_are_seen_and_other_words_are_not() {
    for text in [
        "fn f() { RequestError::new(kind, format!(\"no answer: {error}\")) }",
        "fn f() { SourceError { kind, message: format!(\"no answer: {e:?}\") } }",
        "fn f() { format!(\"no answer: {}\", error) }",
        "fn f() { write!(f, \"no answer: {}\", &cause) }",
        "fn f() { tracing::warn!(\"no answer: {err:#}\"); }",
        "fn f() { tracing::warn!(%error, \"no answer\"); }",
        "fn f() { tracing::warn!(kind, error = %error, \"no answer\"); }",
        "fn f() { StateError::about(kind, path, format_args!(\"cannot: {}\", chain(&error))) }",
        "fn f() { error.within(format!(\"no answer: {}\", other.chain())) }",
        "enum E { #[error(\"no answer: {0}\")] A(#[source] io::Error) }",
        "enum E { #[error(\"no answer from {run}: {reason}\")] A { run: Uuid, #[source] reason: io::Error } }",
        "#[error(\"no answer: {0}\")] struct E(#[from] io::Error);",
        "#[error(\"no answer: {reason}\")] struct E { #[source] reason: io::Error }",
    ] {
        assert_eq!(violations("x.rs", text.parse().unwrap()).len(), 1, "{text}");
    }
    let fine =
        "/// Shows `{error}`.\nfn f() { format!(\"no answer: {}\", chain(&error)); error.chain(); \"{errors}\"; }
        fn g() { tracing::warn!(kind = error.kind.label(), error = %error.chain(), \"no answer\"); f(\"x\", error); }
        fn h() { Failure::new((), \"no answer\").caused_by(error); assert!(x, \"{y}\", error); one.chain(other) }
        enum E { #[error(\"no answer\")] A(#[source] io::Error), #[error(transparent)] B(#[from] io::Error),
            #[error(\"no answer of {0}\")] C(Uuid), #[error(\"run {run}\")] D { run: Uuid, #[source] cause: Cause } }
        mod tests { fn f() { panic!(\"{error}\") } }";
    assert_eq!(violations("x.rs", fine.parse().unwrap()), [""; 0]);
}

/// The places that put an error into words by itself, or the words of a cause into an error.
fn violations(path: &str, stream: TokenStream) -> Vec<String> {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < trees.len() {
        let mut tell = |what: &str| found.push(format!("{path}:{}: {what}", trees[at].span().start().line));
        match &trees[at] {
            TokenTree::Ident(word) if word == "mod" && is_word(trees.get(at + 1), "tests") => at += 2,
            TokenTree::Punct(hash) if hash.as_char() == '#' => {
                if let Some(TokenTree::Group(attribute)) = trees.get(at + 1) {
                    if repeats_source(&attribute.stream(), &trees[at + 2..]) {
                        tell("`#[error(…)]` repeats its source: leave it to `chain`");
                    }
                    at += 1;
                }
            }
            TokenTree::Literal(literal) if ERROR_NAMES.iter().any(|name| shows(&literal.to_string(), name)) => {
                tell("an error in a literal: show it by `chain`, or make it the cause of another");
            }
            TokenTree::Group(group) => {
                let (before, inner) = (&trees[..at], group.stream());
                if is_macro(before) && formats_error(&inner) {
                    tell("an error among the arguments of a macro: show it by `chain`");
                }
                if group.delimiter() == Delimiter::Parenthesis && is_constructor(before) && calls_chain(&inner) {
                    tell("the words of a cause in another error: make it its cause by `caused_by`");
                }
                found.extend(violations(path, inner));
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Returns true if a format string has a placeholder of that name.
fn shows(literal: &str, name: &str) -> bool {
    literal.match_indices(&format!("{{{name}")).any(|(at, found)| {
        let rest = &literal[at + found.len()..];
        !literal[..at].ends_with('{') && (rest.starts_with('}') || rest.starts_with(':'))
    })
}

/// Returns true if those tokens end in the name of a macro that makes words, and its `!`.
fn is_macro(before: &[TokenTree]) -> bool {
    let Some(name) = before.len().checked_sub(2) else { return false };
    is_punct(before.last(), '!')
        && matches!(&before[name], TokenTree::Ident(word) if !WORDLESS_MACROS.contains(&word.to_string().as_str()))
}

/// Returns true if an error is an argument of its own, formatted or as a field of `tracing`.
fn formats_error(arguments: &TokenStream) -> bool {
    let trees: Vec<TokenTree> = arguments.clone().into_iter().collect();
    let mut after_literal = false;
    trees.split(|tree| is_punct(Some(tree), ',')).any(|argument| {
        let is_error =
            matches!(argument.last(), Some(TokenTree::Ident(word)) if ERROR_NAMES.contains(&word.to_string().as_str()));
        let sign = argument.len().checked_sub(2).and_then(|at| argument.get(at));
        let is_field = is_punct(sign, '%') || is_punct(sign, '?');
        let is_value = after_literal && (argument.len() == 1 || argument.len() == 2 && is_punct(sign, '&'));
        after_literal |= matches!(argument, [TokenTree::Literal(_)]);
        is_error && (is_field || is_value)
    })
}

/// Returns true if those tokens end in a call of what makes an error.
fn is_constructor(before: &[TokenTree]) -> bool {
    let Some(TokenTree::Ident(name)) = before.last() else { return false };
    let name = name.to_string();
    let of_type = before.len() >= 4
        && is_path_separator(before, before.len() - 3)
        && matches!(&before[before.len() - 4], TokenTree::Ident(owner)
            if ["Error", "Failure"].iter().any(|end| owner.to_string().ends_with(end)));
    let of_value = before.len() >= 2 && is_punct(before.get(before.len() - 2), '.');
    CONSTRUCTORS.contains(&name.as_str()) && (of_type || of_value && matches!(name.as_str(), "within" | "with_help"))
}

/// Returns true if an error is put into words: `chain(&error)` or `error.chain()`.
fn calls_chain(arguments: &TokenStream) -> bool {
    let all = flat(arguments.clone());
    all.iter()
        .enumerate()
        .any(|(at, tree)| is_word(Some(tree), "chain") && matches!(all.get(at + 1), Some(TokenTree::Group(_))))
}

/// Returns true if an attribute `#[error("…")]` shows the field that is the source of the item or variant after it.
fn repeats_source(attribute: &TokenStream, rest: &[TokenTree]) -> bool {
    let inner: Vec<TokenTree> = attribute.clone().into_iter().collect();
    let [TokenTree::Ident(name), TokenTree::Group(words)] = &inner[..] else { return false };
    if name != "error" {
        return false;
    }
    let end = rest.iter().position(|tree| is_punct(Some(tree), ',') || is_punct(Some(tree), ';'));
    let item = &rest[..end.unwrap_or(rest.len())];
    // Not those of further attributes and of `pub(super)`.
    let fields = item.iter().enumerate().find_map(|(at, tree)| match tree {
        TokenTree::Group(group)
            if group.delimiter() != Delimiter::Bracket && !(at > 0 && is_word(item.get(at - 1), "pub")) =>
        {
            Some(group.stream())
        }
        _ => None,
    });
    let words = words.stream().to_string();
    let fields: Vec<TokenTree> = fields.into_iter().flatten().collect();
    fields.split(|tree| is_punct(Some(tree), ',')).enumerate().any(|(position, field)| {
        let source = field.iter().position(|tree| {
            matches!(tree, TokenTree::Group(group)
                if ["source", "from"].contains(&group.stream().to_string().as_str()))
        });
        source.is_some_and(|at| {
            let named = match (field.get(at + 1), field.get(at + 2)) {
                (Some(TokenTree::Ident(name)), next) if is_punct(next, ':') && !is_punct(field.get(at + 3), ':') => {
                    name.to_string()
                }
                _ => position.to_string(),
            };
            shows(&words, &named)
        })
    })
}
