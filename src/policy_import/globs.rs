//! Globs for the names that an expression matches.
//!
//! Globs are what people read, and the only way to name repositories. They are guessed from the expression's text and then
//! held against it by automata: only what matches the same names is taken.

use super::expression::{WholeExpression, closing, top_level_alternatives};
use crate::engine::regex_syntax_in;
use crate::policy::{NameKind, NameRelation, NameSet};

/// More are no easier to read than the expression.
const MOST_GLOBS: usize = 8;

/// Part of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    One,
    Many,
    AtLeastOne,
}

/// Returns globs that match exactly the tags that one of the expressions matches.
pub(super) fn tag_globs(expressions: &[WholeExpression]) -> Option<Vec<String>> {
    exact_globs(expressions, NameKind::Tags)
}

/// Returns globs that match exactly the repositories that one of the expressions matches.
pub(super) fn repository_globs(expressions: &[WholeExpression]) -> Option<Vec<String>> {
    exact_globs(expressions, NameKind::Repositories)
}

fn exact_globs(expressions: &[WholeExpression], names: NameKind) -> Option<Vec<String>> {
    let mut globs: Vec<String> = Vec::new();
    for expression in expressions {
        for pieces in alternatives(expression.as_str())? {
            let written = match names {
                NameKind::Tags => vec![pieces.iter().map(tag_piece).collect::<String>()],
                NameKind::Repositories => repository_writings(&pieces),
            };
            globs.extend(written);
        }
    }
    let mut seen = Vec::new();
    globs.retain(|glob| {
        !seen.contains(glob) && {
            seen.push(glob.clone());
            true
        }
    });
    let every = if matches!(names, NameKind::Tags) { "*" } else { "**" };
    if globs.iter().any(|glob| glob == every) {
        globs = vec![every.to_owned()];
    }
    if globs.is_empty() || globs.len() > MOST_GLOBS || globs.iter().any(|glob| regex_syntax_in(glob).is_some()) {
        return None;
    }
    let texts: Vec<String> = expressions.iter().map(|one| one.as_str().to_owned()).collect();
    let wanted = NameSet::of_expressions(&texts);
    (NameSet::of_globs(&globs)?.relation(&wanted, names)? == NameRelation::Equal).then_some(globs)
}

fn tag_piece(piece: &Piece) -> &str {
    match piece {
        Piece::Text(text) => text,
        Piece::One => "?",
        Piece::Many => "*",
        Piece::AtLeastOne => "?*",
    }
}

/// The ways to write a name whose open parts may hold slashes: a `*` holds none, so each open part is written twice.
fn repository_writings(pieces: &[Piece]) -> Vec<String> {
    if matches!(pieces, [Piece::Many | Piece::AtLeastOne]) {
        return vec!["**".to_owned()];
    }
    let mut written = vec![String::new()];
    for (at, piece) in pieces.iter().enumerate() {
        let (first, last) = (at == 0, at + 1 == pieces.len());
        let before_slash = matches!(pieces.get(at + 1), Some(Piece::Text(text)) if text.starts_with('/'));
        let after_slash =
            matches!(at.checked_sub(1).map(|at| &pieces[at]), Some(Piece::Text(text)) if text.ends_with('/'));
        let options: Vec<String> = match piece {
            Piece::Text(text) => vec![text.clone()],
            Piece::One => vec!["?".to_owned()],
            Piece::Many | Piece::AtLeastOne if last && after_slash => vec!["**".to_owned()],
            Piece::Many | Piece::AtLeastOne if first && before_slash => vec!["*".to_owned(), "*/**/*".to_owned()],
            Piece::Many if first => vec!["**/*".to_owned()],
            Piece::Many if last => vec!["*".to_owned(), "*/**".to_owned()],
            Piece::Many => vec!["*".to_owned(), "*/**/*".to_owned()],
            Piece::AtLeastOne if last => vec!["?*".to_owned(), "*/**".to_owned()],
            Piece::AtLeastOne => vec!["?*".to_owned(), "*/**/*".to_owned()],
        };
        written = written
            .iter()
            .flat_map(|before| options.iter().map(move |option| format!("{before}{option}")))
            .take(4 * MOST_GLOBS)
            .collect();
    }
    written
}

/// An expression as alternatives of pieces. `None` for what globs have no word for.
fn alternatives(expression: &str) -> Option<Vec<Vec<Piece>>> {
    let mut found = Vec::new();
    for alternative in top_level_alternatives(expression) {
        found.extend(sequence(alternative)?);
        if found.len() > MOST_GLOBS {
            return None;
        }
    }
    Some(found)
}

fn sequence(text: &str) -> Option<Vec<Vec<Piece>>> {
    let mut found: Vec<Vec<Piece>> = vec![Vec::new()];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (options, length) = match first {
            '.' => (vec![vec![Piece::One]], 1),
            '\\' => {
                let escaped = rest.chars().nth(1).filter(|c| !c.is_ascii_alphanumeric())?;
                (vec![vec![Piece::Text(glob_text(escaped))]], 1 + escaped.len_utf8())
            }
            '[' => {
                let end = rest.find(']')?;
                let class = &rest[1..end];
                let plain = class.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
                (plain && !class.is_empty()).then_some(())?;
                (vec![vec![Piece::Text(format!("[{class}]"))]], end + 1)
            }
            '(' => {
                let end = 1 + closing(&rest[1..])?;
                let inner = rest[1..end].strip_prefix("?:").unwrap_or(&rest[1..end]);
                (!inner.starts_with('?')).then_some(())?;
                (alternatives(inner)?, end + 1)
            }
            ')' | '*' | '+' | '?' | '{' | '}' | ']' | '^' | '$' | '|' => return None,
            other => (vec![vec![Piece::Text(glob_text(other))]], other.len_utf8()),
        };
        rest = &rest[length..];
        let dot = options == [[Piece::One]];
        let options = match rest.chars().next() {
            Some('*') if dot => vec![vec![Piece::Many]],
            Some('+') if dot => vec![vec![Piece::AtLeastOne]],
            Some('?') => options.into_iter().chain([Vec::new()]).collect(),
            Some('*' | '+' | '{') => return None,
            _ => options,
        };
        if rest.starts_with(['*', '+', '?']) {
            rest = &rest[1..];
        }
        found = found
            .iter()
            .flat_map(|before| options.iter().map(move |option| [before.as_slice(), option.as_slice()].concat()))
            .collect();
        if found.len() > MOST_GLOBS {
            return None;
        }
    }
    Some(found.into_iter().map(join_texts).collect())
}

fn join_texts(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
            (_, piece) => joined.push(piece),
        }
    }
    joined
}

/// A character as a glob writes it.
fn glob_text(found: char) -> String {
    if matches!(found, '*' | '?' | '[' | ']' | '{' | '}' | '!' | '\\') {
        format!("[{found}]")
    } else {
        found.to_string()
    }
}
