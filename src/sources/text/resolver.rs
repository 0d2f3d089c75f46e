//! Resolution of open references into claims and unresolved references, once the whole source was read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::occurrences::{Ending, Meaning, OpenPart, meaning, reference_of_manifest_url};
use super::placeholder::{self, Piece, pieces};
use super::reference_collector::{PendingKind, PendingReference};
use super::usage::Usage;
use super::variables::{Definitions, Expansion, UsedDefinition, Variables};
use super::{MentionEffect, TextEvidence, UnresolvedEffect};
use crate::domain::{Claim, Holder, ImageReference, Naming, PathPattern, TagName, UnresolvedReference};
use crate::sources::forms::{FormEvidence, TaglessRepository};
use crate::sources::image_syntax::{self, ParsedImage, trim_decoration};
use crate::sources::known_hosts::KnownHosts;

/// Most unresolved references to the same repository that are stored: they all keep the same tags undecided.
const MOST_ALIKE: usize = 100;

/// A text that was read.
#[derive(Debug)]
pub(super) struct TextInfo {
    pub(super) name: Arc<str>,
    /// Its number among the files that define variables.
    pub(super) file: u32,
    pub(super) mentions: MentionEffect,
    pub(super) unresolved: UnresolvedEffect,
}

/// The texts of a source, and the means to resolve their references.
pub(super) struct Resolver<'a> {
    pub(super) hosts: &'a KnownHosts,
    pub(super) texts: &'a [TextInfo],
    pub(super) definitions: &'a Definitions,
    pub(super) forms: &'a FormEvidence,
    /// The repositories without a tag that were passed to the forms.
    pub(super) tagless: &'a [TaglessRepository],
}

/// The outcome of one reference.
#[derive(Default)]
struct Resolution {
    claims: Vec<(ImageReference, Naming)>,
    open: Vec<OpenPattern>,
    /// The definitions that were used.
    used: Vec<UsedDefinition>,
}

/// A reference that stays open.
struct OpenPattern {
    host: Option<String>,
    path: PathPattern,
    nearby_words: Vec<Box<str>>,
}

/// The text and line of a reference, and the repository that it names.
type NamedRepository<'a> = (&'a str, u32, &'a str);

impl Resolver<'_> {
    /// Adds the claims and the unresolved references that result from the open references.
    pub(super) fn resolve(&self, pending: &[(usize, PendingReference)], findings: &mut TextEvidence) {
        let mut variables = Variables::new(self.definitions);
        let outcomes = pending.iter().map(|(text, one)| self.resolution(&self.texts[*text], one, &mut variables));
        let outcomes: Vec<Resolution> = outcomes.collect();
        let used: HashSet<UsedDefinition> = outcomes.iter().flat_map(|outcome| &outcome.used).cloned().collect();
        let (offered, left_by_forms) = (self.tagless_names(), self.unresolved_by_forms());
        let mut alike: HashMap<(Option<String>, PathPattern), usize> = HashMap::new();
        let mut made: Option<(usize, String)> = None;
        for ((text, one), outcome) in pending.iter().zip(outcomes) {
            let text = &self.texts[*text];
            let holder = || Arc::new(Holder::File { path: text.name.to_string(), line: one.line });
            let defined = one.defines.as_deref().map(|name| UsedDefinition::new(text.file, one.line, name));
            let is_used = defined.is_some_and(|defined| used.contains(&defined));
            // The place where the variable is used replaces its value.
            if is_used || self.is_resolved_by_form(text, one, &offered, &left_by_forms) {
                continue;
            }
            for (image, naming) in outcome.claims {
                findings.claims.push(Claim { naming, ..Claim::new(image, holder()) });
            }
            for OpenPattern { host, path, nearby_words: beside } in outcome.open {
                let place = || format!("{}:{}", text.name, one.line);
                if one.usage == Usage::Output {
                    let told = || format!("{}: `{}`", place(), one.text);
                    made = Some(made.map_or_else(|| (1, told()), |(count, first)| (count + 1, first)));
                } else if text.unresolved == UnresolvedEffect::Note {
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
                            adjacent_words: beside.into(),
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

    /// Returns the repositories that were passed to the forms.
    fn tagless_names(&self) -> HashSet<NamedRepository<'_>> {
        self.tagless.iter().map(|open| (open.name.as_str(), open.line, open.path.as_str())).collect()
    }

    /// Returns the repositories whose tag no form states either.
    fn unresolved_by_forms(&self) -> HashSet<NamedRepository<'_>> {
        self.forms.unresolved.iter().filter_map(named_repository).collect()
    }

    /// Returns true if a form states the tag of a repository without one, and replaces it.
    fn is_resolved_by_form(
        &self,
        text: &TextInfo,
        one: &PendingReference,
        offered: &HashSet<NamedRepository<'_>>,
        left_by_forms: &HashSet<NamedRepository<'_>>,
    ) -> bool {
        let path = match &one.kind {
            PendingKind::Untagged(image) => image.repository.as_ref().map(|path| path.as_str().to_owned()),
            PendingKind::Tag(_, path) => literal_path(path).map(str::to_owned),
            PendingKind::Placeholders { .. } => path_of(&one.text),
        };
        let Some(path) = path else { return false };
        if self.forms.resolved.covers(&text.name, one.line, &path) {
            return true;
        }
        let named = (&*text.name, one.line, &*path);
        matches!(one.kind, PendingKind::Untagged(_)) && offered.contains(&named) && !left_by_forms.contains(&named)
    }

    fn resolution(&self, text: &TextInfo, one: &PendingReference, variables: &mut Variables<'_>) -> Resolution {
        let mut outcome = Resolution::default();
        match &one.kind {
            PendingKind::Untagged(image) => Self::resolve_untagged(image, one, text, &mut outcome),
            PendingKind::Tag(host, path) => {
                let (host, path, beside) = (host.clone(), path.clone(), one.nearby_words.clone());
                outcome.open.push(OpenPattern { host, path, nearby_words: beside });
            }
            PendingKind::Placeholders { is_image } => {
                let expansion = variables.expand(&one.text, text.file);
                self.resolve_placeholders(one, *is_image, text, expansion, &mut outcome);
            }
        }
        outcome
    }

    /// Resolves a reference without a tag, which tools take for `latest`.
    fn resolve_untagged(image: &ImageReference, one: &PendingReference, text: &TextInfo, outcome: &mut Resolution) {
        let latest = ImageReference { tag: "latest".parse().ok(), ..image.clone() };
        outcome.claims.push((latest, Naming::Written));
        if let (Usage::Named, Some(path)) = (one.usage, &image.repository) {
            // A text that only reports mentions must not resolve the tag by one.
            let beside = if text.mentions == MentionEffect::Protect { one.nearby_words.clone() } else { Vec::new() };
            outcome.open.push(OpenPattern {
                host: image.host.clone(),
                path: PathPattern::of(&[path.as_str()]),
                nearby_words: beside,
            });
        }
    }

    fn resolve_placeholders(
        &self,
        one: &PendingReference,
        is_image: bool,
        text: &TextInfo,
        expansion: Expansion,
        outcome: &mut Resolution,
    ) {
        let Expansion { texts, is_far, used } = expansion;
        for written in texts {
            let written = reference_of_manifest_url(&written).unwrap_or(written);
            if placeholder::has_placeholder(&written) {
                self.add_open(&written, is_image, outcome);
            } else {
                self.resolve_filled(&written, one, is_image, text, outcome);
            }
        }
        if is_far {
            // These values are not certain: a tag of that name may exist by coincidence.
            let named = outcome
                .claims
                .iter()
                .filter_map(|(image, _)| Some((image.host.clone(), image.repository.as_ref()?.as_str().to_owned())));
            let named: BTreeSet<(Option<String>, String)> = named.collect();
            let open = named.into_iter().map(|(host, path)| OpenPattern {
                host,
                path: PathPattern::of(&[&path]),
                nearby_words: Vec::new(),
            });
            outcome.open.extend(open);
        }
        // In an output, the variable may have other uses besides.
        if one.usage != Usage::Output && (!outcome.claims.is_empty() || !outcome.open.is_empty()) {
            outcome.used = used;
        }
    }

    /// Resolves a reference whose placeholders were all filled in.
    fn resolve_filled(
        &self,
        written: &str,
        one: &PendingReference,
        is_image: bool,
        text: &TextInfo,
        outcome: &mut Resolution,
    ) {
        if self.hosts.is_prefix_of(trim_decoration(written)) {
            let Meaning { images, open_part: left, corrected, .. } =
                meaning(trim_decoration(written), Ending::Complete, "");
            let naming = || if corrected { Naming::Corrected } else { Naming::Written };
            outcome.claims.extend(images.into_iter().map(|image| (image, naming())));
            match left {
                OpenPart::None => {}
                OpenPart::Untagged(image) => Self::resolve_untagged(&image, one, text, outcome),
                OpenPart::Unresolved(host, path, beside) => {
                    outcome.open.push(OpenPattern { host, path, nearby_words: beside });
                }
            }
            return;
        }
        match ImageReference::parse_verbatim(&written.replace('+', "_")) {
            // A reference to another registry.
            Ok(image) if image.host.is_some() => {}
            Ok(image) if is_image && (image.tag.is_some() || image.digest.is_some()) => {
                outcome.claims.push((image, Naming::Corrected));
            }
            Ok(image) if is_image => Self::resolve_untagged(&image, one, text, outcome),
            // The result is not a valid image; it may be one before the replacement.
            _ => self.add_open(&one.text, is_image, outcome),
        }
    }

    /// Adds a reference with unfilled placeholders.
    fn add_open(&self, written: &str, is_image: bool, outcome: &mut Resolution) {
        let text = with_slash(written);
        let is_ours = self.hosts.is_prefix_of(trim_decoration(&text));
        match image_syntax::parse_image(&text.replace('+', "_")) {
            ParsedImage::Unresolved(Some(host), path, _) if is_ours => {
                let is_all = path.parts().all(str::is_empty);
                // Documents write `<repository>` where every reader inserts a different one.
                if !is_all || !text.contains('<') {
                    outcome.open.push(OpenPattern { host: Some(host), path, nearby_words: Vec::new() });
                }
            }
            ParsedImage::Unresolved(None, path, _) if is_image || has_tag(&text) => {
                outcome.open.push(OpenPattern { host: None, path, nearby_words: Vec::new() });
            }
            ParsedImage::Corrected(image, _) if image.host.is_none() => outcome.claims.push((image, Naming::Corrected)),
            _ => {}
        }
    }
}

/// Removes unresolved references of forms that are resolved here by the words beside them.
pub(super) fn remove_tagless(
    unresolved: Vec<UnresolvedReference>,
    offered: &[TaglessRepository],
) -> Vec<UnresolvedReference> {
    let offered: HashSet<(&str, u32, &str, &str)> =
        offered.iter().map(|open| (open.name.as_str(), open.line, open.path.as_str(), open.text.as_str())).collect();
    let is_offered = |one: &UnresolvedReference| {
        named_repository(one).is_some_and(|(name, line, path)| offered.contains(&(name, line, path, &*one.text)))
    };
    unresolved.into_iter().filter(|one| !is_offered(one)).collect()
}

fn named_repository(one: &UnresolvedReference) -> Option<NamedRepository<'_>> {
    match &*one.holder {
        Holder::File { path: name, line } => Some((name, *line, literal_path(&one.path)?)),
        _ => None,
    }
}

/// Returns the path of a pattern without placeholders.
fn literal_path(path: &PathPattern) -> Option<&str> {
    let mut parts = path.parts();
    let first = parts.next()?;
    parts.next().is_none().then_some(first)
}

/// Returns the path of a reference with an open tag.
fn path_of(text: &str) -> Option<String> {
    match image_syntax::parse_image(text) {
        ParsedImage::Unresolved(_, path, _) => literal_path(&path).map(str::to_owned),
        _ => None,
    }
}

/// Returns true if a reference with placeholders has a tag or digest, however open.
fn has_tag(text: &str) -> bool {
    let marked = image_syntax::mark_placeholders(text);
    let (_, rest) = image_syntax::split(&marked);
    let tag = rest.get(1..).unwrap_or_default();
    tag.contains(image_syntax::PLACEHOLDER_MARK) || tag.parse::<TagName>().is_ok() || rest.starts_with('@')
}

/// Returns `${PREFIX}shop/api` as `${PREFIX}/shop/api`: a prefix ends in a slash itself.
fn with_slash(text: &str) -> String {
    match pieces(text)[..] {
        [Piece::Placeholder(open), Piece::Literal(rest), ..]
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
    use crate::sources::text::reference_collector::ScalarId;

    #[test]
    fn a_form_stands_for_the_repositories_that_were_given_to_it_and_no_others() {
        const MANY: u32 = 5_000;
        let image = ImageReference::parse_verbatim("contoso.azurecr.io/shop/api").unwrap();
        let pending = |line: u32| PendingReference {
            text: "contoso.azurecr.io/shop/api".into(),
            line,
            scalar: ScalarId::default(),
            usage: Usage::Run,
            kind: PendingKind::Untagged(image.clone()),
            nearby_words: Vec::new(),
            defines: None,
        };
        let offered = |name: &str, line: u32, path: &str| TaglessRepository {
            name: name.to_owned(),
            line,
            host: None,
            path: path.to_owned(),
            text: path.to_owned(),
        };
        let mut open: Vec<TaglessRepository> = (1..=MANY).map(|line| offered("a.yaml", line, "shop/api")).collect();
        open.push(offered("a.yaml", MANY + 1, "shop/web"));
        open.push(offered("b.yaml", MANY + 2, "shop/api"));
        let text = |name: &str| TextInfo {
            name: name.into(),
            file: 0,
            mentions: MentionEffect::Protect,
            unresolved: UnresolvedEffect::Keep,
        };
        let judge = Resolver {
            hosts: &KnownHosts::new(&["contoso.azurecr.io".to_owned()]),
            texts: &[text("a.yaml")],
            definitions: &Definitions::default(),
            forms: &FormEvidence::default(),
            tagless: &open,
        };
        let pending: Vec<(usize, PendingReference)> = (1..=MANY + 3).map(|line| (0, pending(line))).collect();
        let mut findings = TextEvidence::default();
        judge.resolve(&pending, &mut findings);
        let lines: Vec<String> = findings.claims.iter().map(|claim| format!("{:?}", claim.holder)).collect();
        assert_eq!(lines.len(), 3, "another repository, another file, and not offered: {lines:?}");
    }
}
