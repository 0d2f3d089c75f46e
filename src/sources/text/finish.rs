//! From everything that the texts of a source leave open to claims and unresolved references, once all of it was read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::found::{Pending, What};
use super::occurrences::{Cut, Left, Meaning, meaning, without_address};
use super::placeholder::{self, Piece, pieces};
use super::usage::Usage;
use super::variables::{Definitions, Expansion, UsedDefinition, Variables};
use super::{Mentions, OpenReferences, TextFindings};
use crate::domain::{Claim, Holder, ImageReference, Naming, PathPattern, TagName, UnresolvedReference};
use crate::sources::forms::{FormFindings, OpenRepository};
use crate::sources::invalid::{self, Read, bare};
use crate::sources::reference_scan::KnownHosts;

/// Unresolved references to the same repository that are kept: they all keep the same tags.
const MOST_ALIKE: usize = 100;

/// A text that was read.
#[derive(Debug)]
pub(super) struct TextRead {
    pub(super) name: Arc<str>,
    /// Its number among the files that define variables.
    pub(super) file: u32,
    pub(super) mentions: Mentions,
    pub(super) unresolved: OpenReferences,
}

/// The texts of a source, and the means to judge them.
pub(super) struct Judge<'a> {
    pub(super) hosts: &'a KnownHosts,
    pub(super) texts: &'a [TextRead],
    pub(super) definitions: &'a Definitions,
    pub(super) forms: &'a FormFindings,
    /// The repositories without a tag that were given to the forms.
    pub(super) offered: &'a [OpenRepository],
}

/// The outcome of one reference.
#[derive(Default)]
struct Outcome {
    claims: Vec<(ImageReference, Naming)>,
    open: Vec<Open>,
    /// The definitions that were used.
    used: Vec<UsedDefinition>,
}

/// Something that stays open.
struct Open {
    host: Option<String>,
    path: PathPattern,
    beside: Vec<Box<str>>,
}

/// The text and line of a reference, and the repository that it names.
type Named<'a> = (&'a str, u32, &'a str);

impl Judge<'_> {
    /// Adds the claims and the unresolved references that come of what the texts leave open.
    pub(super) fn judge(&self, pending: &[(usize, Pending)], findings: &mut TextFindings) {
        let mut variables = Variables::new(self.definitions);
        let outcomes = pending.iter().map(|(text, one)| self.outcome(&self.texts[*text], one, &mut variables));
        let outcomes: Vec<Outcome> = outcomes.collect();
        let used: HashSet<UsedDefinition> = outcomes.iter().flat_map(|outcome| &outcome.used).cloned().collect();
        let (offered, left_by_forms) = (self.offered(), self.left_by_forms());
        let mut alike: HashMap<(Option<String>, PathPattern), usize> = HashMap::new();
        let mut made: Option<(usize, String)> = None;
        for ((text, one), outcome) in pending.iter().zip(outcomes) {
            let text = &self.texts[*text];
            let holder = || Arc::new(Holder::File { path: text.name.to_string(), line: one.line });
            let defined = one.defines.as_deref().map(|name| UsedDefinition::new(text.file, one.line, name));
            let is_used = defined.is_some_and(|defined| used.contains(&defined));
            // Where the variable is used stands for its value.
            if is_used || self.is_settled(text, one, &offered, &left_by_forms) {
                continue;
            }
            for (image, naming) in outcome.claims {
                findings.claims.push(Claim { naming, ..Claim::new(image, holder()) });
            }
            for Open { host, path, beside } in outcome.open {
                let place = || format!("{}:{}", text.name, one.line);
                if one.usage == Usage::Made {
                    let told = || format!("{}: `{}`", place(), one.text);
                    made = Some(made.map_or_else(|| (1, told()), |(count, first)| (count + 1, first)));
                } else if text.unresolved == OpenReferences::Note {
                    findings.notes.push(format!("{}: `{}` leaves open which image it means", place(), one.text));
                } else {
                    let count = alike.entry((host.clone(), path.clone())).or_default();
                    *count += usize::from(beside.is_empty());
                    if !beside.is_empty() || *count <= MOST_ALIKE {
                        let text = Arc::from(&*one.text);
                        findings.unresolved.push(UnresolvedReference {
                            text,
                            host,
                            path,
                            beside: beside.into(),
                            holder: holder(),
                        });
                    }
                }
            }
        }
        if let Some((count, first)) = made {
            let more = if count > 1 { format!(", and {} more like it", count - 1) } else { String::new() };
            findings.notes.push(format!("{first} is filled in elsewhere; an image is made there, not used{more}"));
        }
    }

    /// The repositories that were given to the forms.
    fn offered(&self) -> HashSet<Named<'_>> {
        self.offered.iter().map(|open| (open.name.as_str(), open.line, open.path.as_str())).collect()
    }

    /// The repositories of which no form says the tag either.
    fn left_by_forms(&self) -> HashSet<Named<'_>> {
        self.forms.unresolved.iter().filter_map(named).collect()
    }

    /// Returns true if a form says the tag of a repository that is named without one, and stands for it.
    fn is_settled(
        &self,
        text: &TextRead,
        one: &Pending,
        offered: &HashSet<Named<'_>>,
        left_by_forms: &HashSet<Named<'_>>,
    ) -> bool {
        let path = match &one.what {
            What::Untagged(image) => image.repository.as_ref().map(|path| path.as_str().to_owned()),
            What::Tag(_, path) => whole(path).map(str::to_owned),
            What::Placeholders { .. } => path_of(&one.text),
        };
        let Some(path) = path else { return false };
        if self.forms.settled.covers(&text.name, one.line, &path) {
            return true;
        }
        let named = (&*text.name, one.line, &*path);
        matches!(one.what, What::Untagged(_)) && offered.contains(&named) && !left_by_forms.contains(&named)
    }

    fn outcome(&self, text: &TextRead, one: &Pending, variables: &mut Variables<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        match &one.what {
            What::Untagged(image) => Self::untagged(image, one, text, &mut outcome),
            What::Tag(host, path) => {
                let (host, path, beside) = (host.clone(), path.clone(), one.beside.clone());
                outcome.open.push(Open { host, path, beside });
            }
            What::Placeholders { is_image } => {
                let expansion = variables.expand(&one.text, text.file);
                self.placeholders(one, *is_image, text, expansion, &mut outcome);
            }
        }
        outcome
    }

    /// A reference without a tag: to tools it means `latest`.
    fn untagged(image: &ImageReference, one: &Pending, text: &TextRead, outcome: &mut Outcome) {
        let latest = ImageReference { tag: "latest".parse().ok(), ..image.clone() };
        outcome.claims.push((latest, Naming::Written));
        if let (Usage::Named, Some(path)) = (one.usage, &image.repository) {
            // What only reports mentions must not take one for the tag.
            let beside = if text.mentions == Mentions::Protect { one.beside.clone() } else { Vec::new() };
            outcome.open.push(Open { host: image.host.clone(), path: PathPattern::of(&[path.as_str()]), beside });
        }
    }

    fn placeholders(
        &self,
        one: &Pending,
        is_image: bool,
        text: &TextRead,
        expansion: Expansion,
        outcome: &mut Outcome,
    ) {
        let Expansion { texts, is_far, used } = expansion;
        for written in texts {
            let written = without_address(&written).unwrap_or(written);
            if placeholder::is_open(&written) {
                self.open(&written, is_image, outcome);
            } else {
                self.filled(&written, one, is_image, text, outcome);
            }
        }
        if is_far {
            // Nothing says that these values are the ones: a tag of their name may be there by coincidence.
            let named = outcome
                .claims
                .iter()
                .filter_map(|(image, _)| Some((image.host.clone(), image.repository.as_ref()?.as_str().to_owned())));
            let named: BTreeSet<(Option<String>, String)> = named.collect();
            let open = named.into_iter().map(|(host, path)| Open {
                host,
                path: PathPattern::of(&[&path]),
                beside: Vec::new(),
            });
            outcome.open.extend(open);
        }
        // Where an image is made, the variable may be used in another way besides.
        if one.usage != Usage::Made && (!outcome.claims.is_empty() || !outcome.open.is_empty()) {
            outcome.used = used;
        }
    }

    /// A reference whose placeholders were all filled in.
    fn filled(&self, written: &str, one: &Pending, is_image: bool, text: &TextRead, outcome: &mut Outcome) {
        if self.hosts.begin(bare(written)) {
            let Meaning { images, left, corrected, .. } = meaning(bare(written), Cut::No, "");
            let naming = || if corrected { Naming::Corrected } else { Naming::Written };
            outcome.claims.extend(images.into_iter().map(|image| (image, naming())));
            match left {
                Left::Nothing => {}
                Left::Untagged(image) => Self::untagged(&image, one, text, outcome),
                Left::Open(host, path, beside) => outcome.open.push(Open { host, path, beside }),
            }
            return;
        }
        match ImageReference::as_written(&written.replace('+', "_")) {
            // Another registry's.
            Ok(image) if image.host.is_some() => {}
            Ok(image) if is_image && (image.tag.is_some() || image.digest.is_some()) => {
                outcome.claims.push((image, Naming::Corrected));
            }
            Ok(image) if is_image => Self::untagged(&image, one, text, outcome),
            // The result is not a valid image; without what was filled in, it may be.
            _ => self.open(&one.text, is_image, outcome),
        }
    }

    /// A reference with placeholders that nothing fills in.
    fn open(&self, written: &str, is_image: bool, outcome: &mut Outcome) {
        let text = with_slash(written);
        let is_ours = self.hosts.begin(bare(&text));
        match invalid::read(&text.replace('+', "_")) {
            Read::Unresolved(Some(host), path, _) if is_ours => {
                let is_all = path.parts().all(str::is_empty);
                // Documents write `<repository>` where everybody is to put an own one.
                if !is_all || !text.contains('<') {
                    outcome.open.push(Open { host: Some(host), path, beside: Vec::new() });
                }
            }
            Read::Unresolved(None, path, _) if is_image || says_tag(&text) => {
                outcome.open.push(Open { host: None, path, beside: Vec::new() });
            }
            Read::Corrected(image, _) if image.host.is_none() => outcome.claims.push((image, Naming::Corrected)),
            _ => {}
        }
    }
}

/// Removes what forms left open and is judged here with the words beside it.
pub(super) fn without_offered(
    unresolved: Vec<UnresolvedReference>,
    offered: &[OpenRepository],
) -> Vec<UnresolvedReference> {
    let offered: HashSet<(&str, u32, &str, &str)> =
        offered.iter().map(|open| (open.name.as_str(), open.line, open.path.as_str(), open.text.as_str())).collect();
    let is_offered = |one: &UnresolvedReference| {
        named(one).is_some_and(|(name, line, path)| offered.contains(&(name, line, path, &*one.text)))
    };
    unresolved.into_iter().filter(|one| !is_offered(one)).collect()
}

fn named(one: &UnresolvedReference) -> Option<Named<'_>> {
    match &*one.holder {
        Holder::File { path: name, line } => Some((name, *line, whole(&one.path)?)),
        _ => None,
    }
}

/// The path of a pattern without placeholders.
fn whole(path: &PathPattern) -> Option<&str> {
    let mut parts = path.parts();
    let first = parts.next()?;
    parts.next().is_none().then_some(first)
}

/// The path of a reference with an open tag.
fn path_of(text: &str) -> Option<String> {
    match invalid::read(text) {
        Read::Unresolved(_, path, _) => whole(&path).map(str::to_owned),
        _ => None,
    }
}

/// Returns true if a tag or digest stands in a reference with placeholders, however open.
fn says_tag(text: &str) -> bool {
    let marked = invalid::marked(text);
    let (_, rest) = invalid::split(&marked);
    let tag = rest.get(1..).unwrap_or_default();
    tag.contains(invalid::OPEN) || tag.parse::<TagName>().is_ok() || rest.starts_with('@')
}

/// `${PREFIX}shop/api` as `${PREFIX}/shop/api`: a prefix ends in a slash itself.
fn with_slash(text: &str) -> String {
    match pieces(text)[..] {
        [Piece::Open(open), Piece::Literal(rest), ..]
            if rest.starts_with(|c: char| c.is_ascii_lowercase())
                && rest.split_once('/').is_some_and(|(first, _)| !first.contains(['.', ':'])) =>
        {
            format!("{open}/{}", &text[open.len()..])
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::text::found::ScalarId;

    #[test]
    fn a_form_stands_for_the_repositories_that_were_given_to_it_and_no_others() {
        const MANY: u32 = 5_000;
        let image = ImageReference::as_written("contoso.azurecr.io/shop/api").unwrap();
        let pending = |line: u32| Pending {
            text: "contoso.azurecr.io/shop/api".into(),
            line,
            scalar: ScalarId::default(),
            usage: Usage::Run,
            what: What::Untagged(image.clone()),
            beside: Vec::new(),
            defines: None,
        };
        let offered = |name: &str, line: u32, path: &str| OpenRepository {
            name: name.to_owned(),
            line,
            host: None,
            path: path.to_owned(),
            text: path.to_owned(),
        };
        let mut open: Vec<OpenRepository> = (1..=MANY).map(|line| offered("a.yaml", line, "shop/api")).collect();
        open.push(offered("a.yaml", MANY + 1, "shop/web"));
        open.push(offered("b.yaml", MANY + 2, "shop/api"));
        let text = |name: &str| TextRead {
            name: name.into(),
            file: 0,
            mentions: Mentions::Protect,
            unresolved: OpenReferences::Keep,
        };
        let judge = Judge {
            hosts: &KnownHosts::new(&["contoso.azurecr.io".to_owned()]),
            texts: &[text("a.yaml")],
            definitions: &Definitions::default(),
            forms: &FormFindings::default(),
            offered: &open,
        };
        let pending: Vec<(usize, Pending)> = (1..=MANY + 3).map(|line| (0, pending(line))).collect();
        let mut findings = TextFindings::default();
        judge.judge(&pending, &mut findings);
        let lines: Vec<String> = findings.claims.iter().map(|claim| format!("{:?}", claim.holder)).collect();
        assert_eq!(lines.len(), 3, "another repository, another file, and not offered: {lines:?}");
    }
}
