//! Errors that say what happened, carry their cause as a value, and say what to do next.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// An error of one class: what happened and where, its cause, and what to do next.
///
/// `{}` shows only what happened. `{:#}` shows the cause and the help as well, as [`chain`] does for errors of any type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure<K> {
    /// The class of it.
    pub kind: K,
    message: String,
    cause: Option<Cause>,
    help: Option<String>,
}

impl<K> Failure<K> {
    /// Creates an error of that class that has neither cause nor help.
    pub fn new(kind: K, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None, help: None }
    }

    /// Sets the cause.
    #[must_use]
    pub fn caused_by(self, cause: impl Into<Cause>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// Adds what to do next. It is shown behind the cause, and behind help that is there already.
    #[must_use]
    pub fn with_help(self, help: impl Into<Cow<'static, str>>) -> Self {
        let help = help.into();
        let help = match self.help {
            _ if help.is_empty() => self.help,
            Some(before) => Some(format!("{before}; {help}")),
            None => Some(help.into_owned()),
        };
        Self { help, ..self }
    }

    /// Returns the same error in another class.
    #[must_use]
    pub fn with_kind<L>(self, kind: L) -> Failure<L> {
        Failure { kind, message: self.message, cause: self.cause, help: self.help }
    }

    /// Returns true if it, or an error of the same type that caused it, says what to do next.
    #[must_use]
    pub fn has_help(&self) -> bool
    where
        K: fmt::Debug + 'static,
    {
        let cause = self.cause.as_ref().and_then(|cause| cause.downcast_ref::<Self>());
        self.help.is_some() || cause.is_some_and(Self::has_help)
    }

    /// Returns everything that a person should read of it, in one text: [`chain`].
    #[must_use]
    pub fn chain(&self) -> String {
        format!("{self:#}")
    }

    /// Divides it into what happened and the cause, for a type that shows them in its own form. The help is dropped.
    pub(crate) fn into_parts(self) -> (String, Option<Cause>) {
        (self.message, self.cause)
    }
}

impl<K: Clone + fmt::Debug + Send + Sync + 'static> Failure<K> {
    /// Returns an error of the same class that this one is the cause of.
    #[must_use]
    pub fn within(self, message: impl Into<String>) -> Self {
        Self::new(self.kind.clone(), message).caused_by(self)
    }
}

impl<K> fmt::Display for Failure<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !f.alternate() {
            return Ok(());
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {}", cause.chain())?;
        }
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

impl<K: fmt::Debug> Error for Failure<K> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.cause.as_ref()?)
    }
}

/// An error as the cause of another, shared between the clones of that. Two are equal if they read the same.
///
/// It is not an error itself but leads to one, so that the type of the cause can be asked for.
#[derive(Debug, Clone)]
pub struct Cause {
    error: Arc<dyn Error + Send + Sync>,
    /// True for texts from outside, which are displayed in one line.
    is_foreign: bool,
}

impl Cause {
    /// Creates a cause whose text comes from outside, such as an error about somebody else's document.
    pub fn foreign(error: impl Error + Send + Sync + 'static) -> Self {
        Self { error: Arc::new(error), is_foreign: true }
    }

    /// Creates a cause from a boxed error.
    #[must_use]
    pub fn boxed(error: Box<dyn Error + Send + Sync>) -> Self {
        Self { error: Arc::from(error), is_foreign: false }
    }

    /// Returns the cause and its own causes, in one text.
    #[must_use]
    pub fn chain(&self) -> String {
        let words = chain(&*self.error);
        if self.is_foreign { one_line(&words) } else { words }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Cause {
    fn from(error: E) -> Self {
        Self { error: Arc::new(error), is_foreign: false }
    }
}

impl Deref for Cause {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.error
    }
}

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        self.chain() == other.chain()
    }
}

impl Eq for Cause {}

/// Returns an error, its causes and its help in one text: `message: cause: cause; help`.
///
/// The sources of an error whose `{:#}` shows its causes, such as a [`Failure`], are not shown twice. A source that a
/// library repeats in the error's own message is shown once.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let (own, whole) = (error.to_string(), format!("{error:#}"));
        if text.is_empty() {
            text.clone_from(&whole);
        } else if !text.contains(&whole) {
            text.push_str(": ");
            text.push_str(&whole);
        }
        next = if own == whole { error.source() } else { None };
    }
    text
}

/// Returns foreign text fit for one line: at most 300 characters, no control characters.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().take(300).map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn unreadable() -> Failure<u8> {
        Failure::new(1, "settings cannot be read").caused_by(io::Error::other("no such file")).with_help("create them")
    }

    #[test]
    fn display_leaves_the_cause_to_the_chain() {
        let error = unreadable();
        assert_eq!(error.to_string(), "settings cannot be read");
        assert_eq!(error.chain(), "settings cannot be read: no such file; create them");
        assert!(matches!(error.source(), Some(cause) if cause.is::<io::Error>()));
    }

    #[test]
    fn help_of_the_cause_stands_before_that_of_the_effect() {
        let error = unreadable().within("reload failed").with_help("try again").with_help("").with_help("or restart");
        assert_eq!(
            chain(&error),
            "reload failed: settings cannot be read: no such file; create them; try again; or restart"
        );
        assert!(matches!(error.source(), Some(cause) if cause.is::<Failure<u8>>()));
        assert_eq!(
            error.with_kind("other").chain(),
            unreadable().within("reload failed").with_help("try again; or restart").chain()
        );
    }

    #[test]
    fn chains_lead_through_errors_of_all_types_and_say_nothing_twice() {
        #[derive(Debug, thiserror::Error)]
        enum Outer {
            #[error("refused")]
            Plain(#[source] Failure<u8>),
            #[error(transparent)]
            Transparent(Failure<u8>),
            #[error("refused: {0}")]
            Repeating(#[source] io::Error),
        }
        let whole = unreadable().chain();
        assert_eq!(chain(&Outer::Plain(unreadable())), format!("refused: {whole}"));
        assert_eq!(chain(&Outer::Transparent(unreadable())), whole);
        assert_eq!(chain(&Outer::Repeating(io::Error::other("no such file"))), "refused: no such file");
    }

    #[test]
    fn foreign_words_stand_in_one_line() {
        let long = io::Error::other(format!("a\nb{}", "c".repeat(400)));
        let error = Failure::new((), "unreadable").caused_by(Cause::foreign(long)).with_help("look at it");
        assert!(chain(&error).starts_with("unreadable: a bccc") && chain(&error).ends_with("ccc; look at it"));
        assert_eq!(error.chain().len(), "unreadable: ; look at it".len() + 300);
    }

    #[test]
    fn causes_are_equal_if_they_read_the_same() {
        assert_eq!(unreadable(), unreadable());
        assert_ne!(unreadable(), Failure::new(1, "settings cannot be read").with_help("create them"));
    }
}
