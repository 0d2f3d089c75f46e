//! `tagwarden man`: the manual pages, one for each command, or all commands on one page.

use std::path::PathBuf;

use clap::Args;
use clap_mangen::Man;

use super::context::{reject_unknown, require_writable, unwritable};
use super::output::{print, print_note, write_file};
use super::reference::markdown_reference;
use crate::domain::Failure;
use crate::workflow::RunError;

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Print the page of this command, such as `plan` or `runs show`
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Vec<String>,
    /// Write all pages into a folder instead
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print the reference of all commands as Markdown instead
    #[arg(long, conflicts_with_all = ["command", "out"])]
    markdown: bool,
}

/// Prints one page, or writes all of them.
pub(super) fn man(args: &ManArgs) -> Result<u8, RunError> {
    let mut root = super::command();
    root.build();
    if args.markdown {
        print(&markdown_reference(&root));
        return Ok(0);
    }
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).map_err(|error| {
            let failure = Failure::new((), format!("cannot create the folder {}", folder.display()));
            RunError::Usage(failure.caused_by(error).with_help("name a folder that this user may create or write to"))
        })?;
        // All pages or none.
        write_pages(&root, "tagwarden", &mut |name, _| require_writable(&folder.join(format!("{name}.1"))))?;
        let mut count = 0_u64;
        write_pages(&root, "tagwarden", &mut |name, page| {
            let file = folder.join(format!("{name}.1"));
            count += 1;
            write_file(&file, |out| out.write_all(page)).map_err(|error| unwritable(&file, error))
        })?;
        print_note(&format!("wrote {count} pages to {}", folder.display()));
        return Ok(0);
    }
    let mut command = &root;
    let mut name = "tagwarden".to_owned();
    for word in &args.command {
        let known: Vec<&str> = subcommands(command).map(clap::Command::get_name).collect();
        reject_unknown("command", word, &known)?;
        command = command.find_subcommand(word).unwrap_or(command);
        name = format!("{name}-{word}");
    }
    print(&String::from_utf8_lossy(&page(command, &name)?));
    Ok(0)
}

/// The commands below a command, without the generated `help`.
fn subcommands(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|one| one.get_name() != "help")
}

/// Takes the name and the bytes of a page.
type PageWriter<'a> = &'a mut dyn FnMut(&str, &[u8]) -> Result<(), RunError>;

fn write_pages(command: &clap::Command, name: &str, write: PageWriter<'_>) -> Result<(), RunError> {
    write(name, &page(command, name)?)?;
    for one in subcommands(command) {
        write_pages(one, &format!("{name}-{}", one.get_name()), write)?;
    }
    Ok(())
}

fn page(command: &clap::Command, name: &str) -> Result<Vec<u8>, RunError> {
    let mut page = Vec::new();
    let man = Man::new(command.clone()).title(name.to_uppercase()).section("1").source("tagwarden").manual("Tagwarden");
    man.render(&mut page).map_err(|error| unwritable(std::path::Path::new(name), error))?;
    Ok(page)
}
