//! Rules for the wording of comments and texts: doc comments open with a noun phrase or a verb instead of a question
//! word, and nothing "is no X".

use super::{Source, sources};

/// The most doc comments of `src`, in percent, that may open with a question word.
const MAX_PERCENT: usize = 5;

/// Openings that ask a question instead of naming a thing.
const QUESTION_WORDS: [&str; 9] = ["What", "Whether", "When", "How", "Who", "Whose", "Which", "Where", "That"];

/// Most files that a failure names.
const MAX_NAMED_FILES: usize = 15;

#[test]
fn few_doc_comments_open_with_a_question_word() {
    let counts: Vec<(String, usize, usize)> = sources("src").iter().map(count_openings).collect();
    let all: usize = counts.iter().map(|(_, all, _)| all).sum();
    let questions: usize = counts.iter().map(|(_, _, questions)| questions).sum();
    assert!(all > 5_000, "only {all} doc comments were found");

    let mut files: Vec<&(String, usize, usize)> = counts.iter().filter(|(_, _, questions)| *questions > 0).collect();
    files.sort_by_key(|(path, _, questions)| (std::cmp::Reverse(*questions), path));
    let files: Vec<String> = files
        .iter()
        .take(MAX_NAMED_FILES)
        .map(|(path, all, questions)| format!("{path}: {questions} of {all}"))
        .collect();
    assert!(
        questions * 100 <= all * MAX_PERCENT,
        "{questions} of {all} doc comments open with a question word, which is more than {MAX_PERCENT} %; most in:\n{}",
        files.join("\n")
    );
}

#[test]
fn comments_and_texts_do_not_say_is_no() {
    let found: Vec<String> = sources("src").iter().flat_map(is_no).collect();
    assert!(found.is_empty(), "write \"is not a valid X\" or \"invalid X\":\n{}", found.join("\n"));
}

#[test]
fn openings_are_counted_for_each_comment() {
    for (text, counts) in [
        ("/// Whether it is so.\nfn f() {}", (1, 1)),
        ("//! What is here.\n\n/// The name.\n///\n/// What else.\nstruct S;", (2, 1)),
        ("struct S {\n    /// How long.\n    a: u8,\n    /// Whose it is.\n    b: u8,\n}", (2, 2)),
        ("/// Whatever the name.\n/// Whether this line continues.\nfn f() {}", (1, 0)),
        ("// What an inner comment says.\n//// Whether\nlet a = \"/// Who\";", (0, 0)),
    ] {
        let (_, all, questions) = count_openings(&source(text));
        assert_eq!((all, questions), counts, "{text}");
    }
}

#[test]
fn is_no_is_seen_across_lines_and_good_english_is_not() {
    for text in [
        "/// A text that is no glob.\nfn f() {}",
        "    // It is\n    // no reason to stop.\n",
        "//! There is no other, and this is no list.\n",
        "let text = \"is no glob\";\n",
        "let text = \"the file is \\\n    no glob\";\n",
    ] {
        assert_eq!(is_no(&source(text)).len(), 1, "{text}");
    }
    for text in [
        "// There is no such run, or there is\n// no tag.\n",
        "/// It is no longer there.\n/// It is no more than a hint.\n",
        "let text = \"there is no glob\";\n",
        "let text = \"it is no longer held\";\n",
        "// It is\n\n// no glob\n",
    ] {
        assert_eq!(is_no(&source(text)), [""; 0], "{text}");
    }
}

/// A comment on lines of its own, joined to one text.
struct Comment {
    /// The line that it begins on, from 1.
    line: usize,
    is_doc: bool,
    text: String,
}

/// Returns the comments of a file. Adjacent lines with the same marker are one comment.
fn comments(text: &str) -> Vec<Comment> {
    let mut found: Vec<Comment> = Vec::new();
    let mut previous = None;
    for (line, content) in (1..).zip(text.lines()) {
        let marked = comment_line(content.trim_start());
        if let Some((marker, words)) = marked {
            match found.last_mut().filter(|_| previous == Some(marker)) {
                Some(comment) => comment.text = format!("{} {words}", comment.text),
                None => found.push(Comment { line, is_doc: marker != "//", text: words.to_owned() }),
            }
        }
        previous = marked.map(|(marker, _)| marker);
    }
    found
}

/// Splits a line into the marker of its comment and the words after it.
fn comment_line(line: &str) -> Option<(&'static str, &str)> {
    let marker = ["////", "///", "//!", "//"].into_iter().find(|marker| line.starts_with(marker))?;
    // Four slashes are an ordinary comment.
    let kind = if marker == "////" { "//" } else { marker };
    Some((kind, line.trim_start_matches(marker).trim()))
}

/// Returns the path of a file, the number of its doc comments, and of those that open with a question word.
fn count_openings(file: &Source) -> (String, usize, usize) {
    let docs: Vec<Comment> = comments(&file.text).into_iter().filter(|comment| comment.is_doc).collect();
    let asks = |comment: &&Comment| {
        let first = comment.text.split(|c: char| !c.is_alphanumeric()).next();
        first.is_some_and(|first| QUESTION_WORDS.contains(&first))
    };
    (file.path.clone(), docs.len(), docs.iter().filter(asks).count())
}

/// Returns the places where a comment or a text says "is no", apart from "there is no" and "is no longer", "more" or
/// "less".
fn is_no(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let comments = comments(&file.text).into_iter().map(|comment| (comment.line, comment.text));
    for (line, text) in comments.chain(code(&file.text)) {
        let words: Vec<&str> =
            text.split(|c: char| c.is_whitespace() || c == '"').filter(|word| !word.is_empty()).collect();
        let is_meant = |at: &usize| {
            let before = at.checked_sub(1).map(|before| words[before].to_lowercase());
            let after = words.get(at + 2).map(|after| after.trim_end_matches(|c: char| !c.is_alphanumeric()));
            words[*at] == "is"
                && words.get(at + 1) == Some(&"no")
                && before.is_none_or(|before| before != "there")
                && !after.is_some_and(|after| ["longer", "more", "less"].contains(&after))
        };
        found.extend((0..words.len()).filter(is_meant).map(|at| {
            let end = words.len().min(at + 4);
            format!("{}:{line}: `{}`", file.path, words[at.saturating_sub(2)..end].join(" "))
        }));
    }
    found
}

/// Returns the lines without comments, with their numbers from 1. A text that continues on the next line is one line.
fn code(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (line, content) in (1..).zip(text.lines()) {
        if comment_line(content.trim_start()).is_some() {
            continues = false;
            continue;
        }
        let words = content.trim_end_matches('\\');
        match found.last_mut().filter(|_| continues) {
            Some((_, before)) => *before = format!("{before} {words}"),
            None => found.push((line, words.to_owned())),
        }
        continues = content.ends_with('\\');
    }
    found
}

fn source(text: &str) -> Source {
    Source { path: "x.rs".to_owned(), text: text.to_owned() }
}
