//! Files by glob.
//!
//! Missing evidence must not look like an absence of evidence: a glob without a match is an error, and so is an
//! unreadable file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;

use super::{FileSet, SourceError};
use crate::policy::fields::nearest;

/// Larger files are refused; evidence of that size is a mistake.
pub(super) const MAX_FILE_BYTES: u64 = 64 << 20;

/// Most files and folders that are visited for one glob.
const MOST_ENTRIES: usize = 1_000_000;

/// Most files of a folder below the reach of a glob that are looked at.
const MOST_DEEPER: usize = 1000;

/// A file that a glob found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GlobFile {
    /// Its path.
    pub(super) path: PathBuf,
    /// Its name in terms of the settings: relative if the glob is.
    pub(super) display_path: String,
}

/// The files that globs match.
#[derive(Debug)]
pub(super) struct Expansion {
    pub(super) files: Vec<GlobFile>,
    /// Remarks on files that the globs do not reach although they may be meant.
    pub(super) notes: Vec<String>,
}

/// A file's content.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) modified: Option<Timestamp>,
}

/// Returns all files that the globs match, by name, each once. A file that no glob matches only because of upper and
/// lower case is an error: it is probably evidence.
pub(super) fn expand(files: &FileSet) -> Result<Expansion, SourceError> {
    let mut all = BTreeMap::new();
    let (mut other_case, mut deeper) = (BTreeMap::new(), Vec::new());
    for glob in &files.globs {
        let (folder, pattern) = split(glob);
        let found = match pattern {
            None => expand_literal(files, glob)?,
            Some(pattern) => {
                let walk = Walk::new(glob, folder, pattern)?.start(&files.base)?;
                other_case.extend(walk.other_case.into_iter().map(|found| (found.path, (found.display_path, glob))));
                deeper.push((glob, walk.deeper));
                walk.found
            }
        };
        if found.is_empty() {
            let base = if files.base.as_os_str().is_empty() { Path::new(".") } else { &files.base };
            let message = format!(
                "no file matches `{glob}` (from {}){}; write the files there, or correct the glob",
                base.display(),
                nearest_folder(base, folder).map(|near| format!("; `{near}` is there")).unwrap_or_default()
            );
            return Err(SourceError::new("missing", message));
        }
        all.extend(found.into_iter().map(|found| (found.path, found.display_path)));
    }
    if let Some((shown, glob)) = other_case.iter().find(|(path, _)| !all.contains_key(*path)).map(|(_, found)| found) {
        let message = format!(
            "{shown} is not read, since `{glob}` distinguishes upper and lower case; rename the file, or add a glob for it"
        );
        return Err(SourceError::new("spelling", message));
    }
    let notes = deeper.into_iter().filter_map(|(glob, mut found)| {
        found.retain(|found| !all.contains_key(&found.path));
        deeper_note(glob, &found)
    });
    let notes: BTreeSet<String> = notes.collect();
    let files = all.into_iter().map(|(path, shown)| GlobFile { path, display_path: shown }).collect();
    Ok(Expansion { files, notes: notes.into_iter().collect() })
}

/// Returns the folder that is probably meant by a missing one.
fn nearest_folder(base: &Path, folder: &str) -> Option<String> {
    let mut path = base.to_owned();
    let mut found = String::new();
    for part in folder.trim_end_matches('/').split('/') {
        let next = path.join(part);
        if next.is_dir() {
            (path, found) = (next, format!("{found}{part}/"));
            continue;
        }
        let entries = fs::read_dir(&path).ok()?.take(MOST_DEEPER).filter_map(Result::ok);
        let folders = entries.filter(|entry| entry.path().is_dir());
        let names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        return nearest(part, &known).map(|near| format!("{found}{near}/"));
    }
    None
}

/// Describes the files one folder below a glob's reach.
fn deeper_note(glob: &str, found: &[GlobFile]) -> Option<String> {
    let first = found.iter().map(|found| &found.display_path).min()?;
    let (folders, name) =
        glob.rsplit_once('/').map_or((String::new(), glob), |(before, name)| (format!("{before}/"), name));
    let more = if found.len() > 1 { " and other files" } else { "" };
    Some(format!("`{glob}` does not reach {first}{more} one folder deeper; if they count, write `{folders}**/{name}`"))
}

/// Reads a whole file.
pub(super) fn read(found: &GlobFile) -> Result<Content, SourceError> {
    let unreadable = |error: io::Error| unreadable(&found.display_path, error);
    let file = fs::File::open(&found.path).map_err(unreadable)?;
    let modified = file.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.try_into().ok());
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!(
            "{} is larger than {} MiB, too large for evidence; narrow the glob to the files that are meant",
            found.display_path,
            MAX_FILE_BYTES >> 20
        );
        return Err(SourceError::new("too-large", message));
    }
    Ok(Content { bytes, modified })
}

/// Returns a glob's leading folders without wildcards, and the rest; no pattern if there is no wildcard at all.
fn split(glob: &str) -> (&str, Option<&str>) {
    let Some(wild) = glob.find(['*', '?', '[', ']', '{', '}', '\\']) else { return (glob, None) };
    match glob[..wild].rfind('/') {
        Some(slash) => (&glob[..=slash], Some(&glob[slash + 1..])),
        None => ("", Some(glob)),
    }
}

fn expand_literal(files: &FileSet, glob: &str) -> Result<Vec<GlobFile>, SourceError> {
    let path = files.base.join(glob);
    match fs::metadata(&path) {
        Ok(data) if data.is_dir() => {
            let message =
                format!("{glob} is a folder; write a glob such as `{}/**/*.json`", glob.trim_end_matches('/'));
            Err(SourceError::new("unreadable", message))
        }
        Ok(data) if data.is_file() => Ok(vec![GlobFile { path, display_path: glob.into() }]),
        // Reading a pipe could block forever.
        Ok(_) => {
            let message = format!("{glob} is not a regular file; write the evidence to a file");
            Err(SourceError::new("unreadable", message))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unreadable(glob, error)),
    }
}

/// One walk through the folders under a glob's beginning.
struct Walk<'a> {
    glob: &'a str,
    /// The glob's beginning without wildcards.
    folder: &'a str,
    /// The rest of it.
    matcher: GlobMatcher,
    /// The number of folder levels that the rest can match; `None` if it has `**`.
    depth: Option<usize>,
    /// The rest without regard to case; `None` if it has classes of characters, which mean one case.
    any_case: Option<GlobMatcher>,
    entries: usize,
    found: Vec<GlobFile>,
    /// The files that match in another case only.
    other_case: Vec<GlobFile>,
    /// The first files that would match one folder further up.
    deeper: Vec<GlobFile>,
}

impl<'a> Walk<'a> {
    fn new(glob: &'a str, folder: &'a str, pattern: &str) -> Result<Self, SourceError> {
        let compile = |any_case| {
            let built = GlobBuilder::new(pattern).literal_separator(true).case_insensitive(any_case).build();
            built.map(|built| built.compile_matcher()).map_err(|error| {
                // Without the glob, which the library's message names first.
                let message = format!("`{glob}` is not a valid glob: {}", error.kind());
                SourceError::new("settings", message).with_help("correct it in the settings")
            })
        };
        let matcher = compile(false)?;
        let any_case = if pattern.contains('[') { None } else { Some(compile(true)?) };
        let bounded = !pattern.contains("**") && !pattern.contains('{');
        let depth = bounded.then(|| pattern.matches('/').count());
        let (found, other_case, deeper) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { glob, folder, matcher, depth, any_case, entries: 0, found, other_case, deeper })
    }

    fn start(mut self, base: &Path) -> Result<Self, SourceError> {
        let path = base.join(self.folder);
        // The settings file may be named without a folder, and so may files beside it.
        let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path };
        match fs::canonicalize(&path) {
            Ok(real) => self.folder(&path, self.folder, &mut vec![real])?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(self.folder, error)),
        }
        Ok(self)
    }

    fn matches_in_any_case(&self, path: &str) -> bool {
        self.any_case.as_ref().is_some_and(|matcher| matcher.is_match(path))
    }

    /// Collects the files of a folder that would match in the one above it. What cannot be read there is not meant.
    fn look_deeper(&mut self, path: &Path, shown: &str, upper: &str) {
        for entry in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok).take(MOST_DEEPER) {
            let name = entry.file_name();
            let would_be = format!("{}{}", &upper[self.folder.len()..], name.to_string_lossy());
            let is_meant = self.deeper.len() < 2 && !is_ignored(&name) && self.matcher.is_match(&would_be);
            if is_meant && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let display_path = format!("{shown}/{}", name.to_string_lossy());
                self.deeper.push(GlobFile { path: entry.path(), display_path });
            }
        }
    }

    /// Visits one folder. `above` contains the real paths of it and its parents, to detect link cycles.
    fn folder(&mut self, path: &Path, shown: &str, above: &mut Vec<PathBuf>) -> Result<(), SourceError> {
        let named = if shown.is_empty() { "." } else { shown };
        let entries: io::Result<Vec<fs::DirEntry>> = fs::read_dir(path).and_then(Iterator::collect);
        for entry in entries.map_err(|error| unreadable(named, error))? {
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                let message = format!("`{}` leads through more than {MOST_ENTRIES} files; narrow the glob", self.glob);
                return Err(SourceError::new("too-large", message));
            }
            let name = entry.file_name();
            if is_ignored(&name) {
                continue;
            }
            let entry_shown = format!("{shown}{}", name.to_string_lossy());
            let matched = self.matcher.is_match(&entry_shown[self.folder.len()..]);
            let other_case = !matched && self.matches_in_any_case(&entry_shown[self.folder.len()..]);
            let data = match fs::metadata(entry.path()) {
                Ok(data) => data,
                // A broken link matters only if it matches.
                Err(error) if matched => return Err(unreadable(&entry_shown, error)),
                Err(_) => continue,
            };
            if data.is_file() && matched {
                self.found.push(GlobFile { path: entry.path(), display_path: entry_shown });
            } else if data.is_file() && other_case {
                self.other_case.push(GlobFile { path: entry.path(), display_path: entry_shown });
            } else if data.is_dir() && self.depth.is_none_or(|depth| above.len() <= depth) {
                let real = fs::canonicalize(entry.path()).map_err(|error| unreadable(&entry_shown, error))?;
                if above.contains(&real) {
                    continue;
                }
                above.push(real);
                self.folder(&entry.path(), &format!("{entry_shown}/"), above)?;
                above.pop();
            } else if data.is_dir() && self.deeper.len() < 2 {
                self.look_deeper(&entry.path(), &entry_shown, shown);
            }
        }
        Ok(())
    }
}

/// Returns true for version control's own files, and for the folders behind the links of a Kubernetes volume, whose
/// content is found by the links.
fn is_ignored(name: &OsStr) -> bool {
    name == ".git" || name.to_string_lossy().starts_with("..")
}

fn unreadable(shown: &str, error: io::Error) -> SourceError {
    SourceError::new("unreadable", format!("{shown} cannot be read"))
        .caused_by(error)
        .with_help("give this user the right to read it, or correct the glob")
}
