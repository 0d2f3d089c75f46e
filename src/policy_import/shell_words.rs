//! Commands in shell text: words, with quotes, comments and what separates one command from the next.

/// One word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Its text without quotes.
    pub(super) text: String,
    /// A variable or a command stands in it, so its value is not known.
    pub(super) is_open: bool,
}

/// The commands of a text.
pub(super) fn commands(text: &str) -> Vec<Vec<Word>> {
    let mut reader = Reader { commands: vec![Vec::new()], word: None };
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some('\r') if chars.peek() == Some(&'\n') => {
                    chars.next();
                }
                Some(next) => reader.push(next),
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
                reader.end_command();
            }
            '\n' | ';' | '|' | '&' => reader.end_command(),
            c if c.is_whitespace() => reader.end_word(),
            c => reader.push(c),
        }
    }
    reader.end_command();
    reader.commands.retain(|command| !command.is_empty());
    reader.commands
}

/// Returns true if a dollar before this stands for a value.
fn opens(next: Option<&char>) -> bool {
    next.is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, '_' | '{' | '('))
}

struct Reader {
    commands: Vec<Vec<Word>>,
    word: Option<Word>,
}

impl Reader {
    fn begin(&mut self) -> &mut Word {
        self.word.get_or_insert_with(|| Word { text: String::new(), is_open: false })
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
            command.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.commands.push(Vec::new());
    }
}
