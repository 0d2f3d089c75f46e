//! The reference of all commands, as one page of Markdown.

use std::fmt::Write as _;

use clap::{Arg, Command, Id};
use textwrap::{Options, WordSeparator, WordSplitter};

/// The head of the page.
const HEAD: &str = "Every command and option. This page is the output of `tagwarden man --markdown`; `tagwarden COMMAND \
                    --help` shows the same in the terminal, and [command-line.md](command-line.md) explains what \
                    commands have in common.";
/// The longest line of a paragraph.
const WIDTH: usize = 100;

/// Renders a command with all commands below it. It must have been built.
pub(super) fn markdown_reference(root: &Command) -> String {
    let mut page = format!("# Commands\n\n{}", wrapped(HEAD));
    let global: Vec<&Arg> = options(root).filter(|option| option.is_global_set()).collect();
    page.push_str("\n## Options of every command\n");
    write_table(&mut page, &global);
    let inherited: Vec<&Id> = global.into_iter().map(Arg::get_id).collect();
    for command in visible(root) {
        write_command(&mut page, command, &format!("{} {}", root.get_name(), command.get_name()), 2, &inherited);
    }
    page.replace("\n\n\n", "\n\n")
}

/// The commands that users see, without the generated `help`.
fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|one| one.get_name() != "help" && !one.is_hide_set())
}

/// The arguments that users see, without those that every program has.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id() != "help" && arg.get_id() != "version")
}

/// Writes a command and those below it. `inherited` are the options that a command above it documents.
fn write_command(page: &mut String, command: &Command, name: &str, level: usize, inherited: &[&Id]) {
    let _ = writeln!(page, "\n{} `{name}`\n", "#".repeat(level.min(4)));
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    for paragraph in about.split("\n\n") {
        let _ = writeln!(page, "{}", wrapped(&sentence(paragraph)));
    }
    let usage = command.clone().bin_name(name).render_usage().to_string();
    for line in usage.trim_start_matches("Usage:").lines() {
        let arguments = line.trim().trim_start_matches(name).trim();
        if !["", "[OPTIONS]"].contains(&arguments) {
            let _ = writeln!(page, "Usage: {name} `{arguments}`");
        }
    }
    // A global option stands at the command that has it, not at those below.
    let own: Vec<&Arg> = options(command).filter(|option| !inherited.contains(&option.get_id())).collect();
    write_table(page, &own);
    if let Some(after) = command.get_after_help().filter(|_| level == 2) {
        for block in after.to_string().split("\n\n") {
            write_block(page, block);
        }
    }
    for one in visible(command) {
        let global = options(command).filter(|option| option.is_global_set()).map(Arg::get_id);
        let inherited: Vec<&Id> = inherited.iter().copied().chain(global).collect();
        write_command(page, one, &format!("{name} {}", one.get_name()), level + 1, &inherited);
    }
}

/// Writes examples as code, and anything else as a paragraph.
fn write_block(page: &mut String, block: &str) {
    let Some(examples) = block.strip_prefix("Examples:\n").or_else(|| block.strip_prefix("Example:\n")) else {
        let _ = write!(page, "\n{}", wrapped(block));
        return;
    };
    page.push('\n');
    let mut command = "";
    for line in examples.lines().map(str::trim) {
        let meaning = match line.strip_prefix("tagwarden ") {
            Some(_) => {
                let (words, meaning) = line.split_once("  ").unwrap_or((line, ""));
                command = words;
                meaning.trim()
            }
            None => line,
        };
        if !meaning.is_empty() {
            let _ = writeln!(page, "    # {meaning}\n    {command}");
        }
    }
}

fn write_table(page: &mut String, arguments: &[&Arg]) {
    if arguments.is_empty() {
        return;
    }
    page.push_str("\n| argument | meaning |\n| --- | --- |\n");
    for argument in arguments {
        let help = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string);
        let mut meaning = help.unwrap_or_default().split("\n\n").map(sentence).collect::<Vec<_>>().join(" ");
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set() && takes_value(argument))
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !values.is_empty() {
            let _ = write!(meaning, " One of {}.", values.join(", "));
        }
        let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !default.is_empty() && takes_value(argument) {
            let _ = write!(meaning, " Default: `{}`.", default.join(" "));
        }
        let _ = writeln!(page, "| {} | {} |", spelling(argument), meaning.replace('|', "\\|"));
    }
}

fn takes_value(argument: &Arg) -> bool {
    argument.get_action().takes_values()
}

/// Returns an argument as it is typed.
fn spelling(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let value = names.first().map_or_else(|| argument.get_id().as_str().to_uppercase(), ToString::to_string);
    let long = argument
        .get_long()
        .map(|long| if takes_value(argument) { format!("`--{long} {value}`") } else { format!("`--{long}`") });
    let short = argument.get_short().map(|short| format!("`-{short}`"));
    let flags: Vec<String> = short.into_iter().chain(long).collect();
    let spelled = if flags.is_empty() { format!("`{value}`") } else { flags.join(", ") };
    spelled.replace('|', "\\|")
}

/// Returns a text in lines that are not too long.
fn wrapped(text: &str) -> String {
    let options = Options::new(WIDTH).break_words(false).word_separator(WordSeparator::AsciiSpace);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}\n", textwrap::fill(&line, options.word_splitter(WordSplitter::NoHyphenation)))
}

/// Returns a text on one line, with a full stop.
fn sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() || line.ends_with(['.', ':', '!', '?']) { line } else { format!("{line}.") }
}
