//! Commands in shell text: words, with quotes, comments and what separates one command from the next.

/// One word of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// Its text without quotes.
    pub(super) text: String,
    /// A variable or a command stands in it, so its value is not known.
    pub(super) is_open: bool,
    /// A backslash outside quotes was taken from an expression in it: `\d` became `d`. Where the text was written within
    /// quotes that are not the shell's, the tool may have got it.
    pub(super) lost_backslash: bool,
}

/// One command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) words: Vec<Word>,
    /// It stands at the start of a line.
    pub(super) starts_line: bool,
}

/// The commands of a text.
pub(super) fn commands(text: &str) -> Vec<Command> {
    let mut reader = Reader { commands: vec![Command { words: Vec::new(), starts_line: true }], word: None };
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some('\r') if chars.peek() == Some(&'\n') => {
                    chars.next();
                }
                Some(next) => {
                    reader.push(next);
                    reader.begin().lost_backslash |= next.is_ascii_alphanumeric() || "._+?^-/[]{}".contains(next);
                }
            },
            '\'' => {
                reader.begin();
                for next in chars.by_ref().take_while(|next| *next != '\'') {
                    reader.push(next);
                }
            }
            '"' => {
                reader.begin();
                while let Some(next) = chars.next() {
                    match next {
                        '"' => break,
                        '\\' => match chars.next() {
                            Some('\n') | None => {}
                            Some(escaped @ ('"' | '\\' | '$' | '`')) => reader.push(escaped),
                            Some(other) => {
                                reader.push('\\');
                                reader.push(other);
                            }
                        },
                        '$' if opens(chars.peek()) => reader.open('$'),
                        '`' => reader.open('`'),
                        next => reader.push(next),
                    }
                }
            }
            '$' if opens(chars.peek()) => reader.open('$'),
            '`' => reader.open('`'),
            '#' if reader.word.is_none() => {
                for next in chars.by_ref() {
                    if next == '\n' {
                        break;
                    }
                }
                reader.end_command(true);
            }
            '\n' => reader.end_command(true),
            ';' | '|' | '&' => reader.end_command(false),
            c if c.is_whitespace() => reader.end_word(),
            c => reader.push(c),
        }
    }
    reader.end_command(true);
    reader.commands.retain(|command| !command.words.is_empty());
    reader.commands
}

/// Returns true if a dollar before this stands for a value. At the end of an expression, or of a part of it, it does not.
fn opens(next: Option<&char>) -> bool {
    next.is_some_and(|next| next.is_ascii_alphanumeric() || "_{([@*#?!-$".contains(*next))
}

/// Returns true if something in the text is filled in before the tool reads it: `$KEEP`, `$1`, `%KEEP%`, `{{ keep }}`,
/// `#{keep}#`, `{0}`, or the output of a command. Quotes of one shell do not hide it: the next, or the template of a task, may read
/// the text again. None of the signs is of use in an expression on names.
pub(super) fn has_placeholder(text: &str) -> bool {
    let of_group = |at: usize| text[..at].ends_with("(?") || text[..at].ends_with("(?P");
    ["{{", "{0}", "{1}"].iter().any(|sign| text.contains(sign))
        || text.char_indices().any(|(at, c)| match c {
            '$' => opens(text[at + 1..].chars().next().as_ref()),
            '<' => !of_group(at),
            other => matches!(other, '`' | '%' | '@' | '#'),
        })
}

struct Reader {
    commands: Vec<Command>,
    word: Option<Word>,
}

impl Reader {
    fn begin(&mut self) -> &mut Word {
        self.word.get_or_insert_with(Word::default)
    }

    fn push(&mut self, c: char) {
        self.begin().text.push(c);
    }

    fn open(&mut self, sign: char) {
        let word = self.begin();
        word.text.push(sign);
        word.is_open = true;
    }

    fn end_word(&mut self) {
        if let (Some(word), Some(command)) = (self.word.take(), self.commands.last_mut()) {
            command.words.push(word);
        }
    }

    fn end_command(&mut self, starts_line: bool) {
        self.end_word();
        self.commands.push(Command { words: Vec::new(), starts_line });
    }
}
