//! Contracts of what is known of registries and sources, of times, and of the state as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use tagwarden::domain::{
    Action, CompactTime, Coverage, CoverageBasis, Digest, Gap, GapTarget, Intent, LastMatch, RemovalMethod,
    RepositoryName, RuleEffect, RuleHistory, RuleId, RuleKey, SourceName, UnmatchedRule,
};
use tagwarden::state::{
    DeletionResponse, EndedSeries, Experience, FormerTag, FreeManifestChanges, KnownCatalogue, KnownRevision,
    NewestTime, ObservationContext, PruneCounts, REFUSAL_TTL, RemovalRefusal, RetentionCutoffs, RulePart, RuleRevision,
    RunContext, Sighting, SourceBaseline, StateFigures, StateStore, SuspectCatalogue, UntagExperience,
};

use super::super::{end, intent, manifest, new_run, noon};
use super::{ENDPOINT, done, inventory};
use crate::support::garbage::collect_garbage;
use crate::support::lease::lease;

pub(super) async fn rule_matches(store: &StateStore) {
    let rule =
        |written: &str| RuleId { policy: "builds".parse().unwrap(), key: RuleKey::Tags, written: written.into() };
    let unmatched = |written: &str, last_match| UnmatchedRule {
        rule: rule(written),
        effect: RuleEffect::Keeps,
        file: Arc::from("builds.yaml"),
        line: None,
        last_match,
        hint: None,
    };
    let coverage = |matched: &[&str], missed: Vec<UnmatchedRule>| Coverage {
        basis: CoverageBasis::FullInventory,
        matched: matched.iter().map(|text| (rule(text), BTreeSet::from([ENDPOINT.to_owned()]))).collect(),
        unmatched: missed,
        ..Coverage::default()
    };
    assert_eq!(store.rule_history().await.unwrap(), RuleHistory::default());
    let first = coverage(&["v*"], vec![unmatched("w*", LastMatch::Never)]);
    let partial = Coverage { basis: CoverageBasis::LastFullPlan, ..coverage(&["x*"], Vec::new()) };
    store.record_rules(&first, noon()).await.unwrap();
    store.record_rules(&partial, noon()).await.unwrap();
    let history = store.rule_history().await.unwrap();
    let matched = BTreeMap::from([(rule("v*"), BTreeMap::from([(ENDPOINT.to_owned(), noon())]))]);
    assert_eq!((&history.matched, history.unmatched), (&matched, BTreeMap::from([(rule("w*"), noon())])));

    store.record_rules(&coverage(&["w*"], Vec::new()), noon() + 1.hour()).await.unwrap();
    let history = store.rule_history().await.unwrap();
    assert_eq!(history.matched[&rule("v*")][ENDPOINT], noon(), "the last match stays");
    assert_eq!(history.matched[&rule("w*")][ENDPOINT], noon() + 1.hour());
    assert_eq!(history.unmatched, BTreeMap::new());
}

pub(super) async fn free_manifests(store: &StateStore) {
    let (api, web) = ("shop/api".parse().unwrap(), "shop/web".parse().unwrap());
    let [a, b, c] = ["a", "b", "c"].map(|text| Digest::of(text.as_bytes()));
    let changes = |repository: &RepositoryName, begun: &[&Digest], ended: EndedSeries| FreeManifestChanges {
        repository: repository.clone(),
        begun: begun.iter().copied().cloned().collect(),
        ended,
    };
    let none = || EndedSeries::Of(Vec::new());
    assert_eq!(store.free_since(ENDPOINT, &api).await.unwrap(), BTreeMap::new());
    let first = [changes(&api, &[&a, &b], none()), changes(&web, &[&a], none())];
    store.record_free_manifests(ENDPOINT, &first, noon()).await.unwrap();

    // A series that goes on keeps its beginning, one that ended begins anew.
    let later = noon() + 1.nanosecond();
    let ended = EndedSeries::Of(vec![b.clone(), c.clone()]);
    store.record_free_manifests(ENDPOINT, &[changes(&api, &[&a, &c], ended)], later).await.unwrap();
    let expected = BTreeMap::from([(a.clone(), noon()), (c.clone(), later)]);
    assert_eq!(store.free_since(ENDPOINT, &api).await.unwrap(), expected);
    assert_eq!(store.free_since(ENDPOINT, &web).await.unwrap(), BTreeMap::from([(a.clone(), noon())]));
    assert_eq!(store.free_since("https://elsewhere.example", &api).await.unwrap(), BTreeMap::new());
    let there = store.repositories_with_free_manifests(ENDPOINT).await.unwrap();
    assert_eq!(there, [api.clone(), web.clone()]);

    store.record_free_manifests(ENDPOINT, &[changes(&api, &[], EndedSeries::All)], later).await.unwrap();
    assert_eq!(store.free_since(ENDPOINT, &api).await.unwrap(), BTreeMap::new());
    assert_eq!(store.repositories_with_free_manifests(ENDPOINT).await.unwrap(), [web]);

    // The tags that somebody else removed, by the lists of earlier runs.
    store.record_tag_lists(&inventory(&[("v1", "a"), ("v2", "b")]), noon()).await.unwrap();
    store.record_tag_lists(&inventory(&[("v2", "b")]), later).await.unwrap();
    let former = store.former_tags(ENDPOINT, &api).await.unwrap();
    assert_eq!(former, [FormerTag { tag: "v1".parse().unwrap(), digest: a.short() }]);
}

pub(super) async fn rule_revisions(store: &StateStore) {
    assert_eq!(store.rule_revisions().await.unwrap(), []);
    let of = |part, revision: &str, commit: Option<&str>| RuleRevision {
        part,
        revision: revision.to_owned(),
        commit: commit.map(str::to_owned),
        committed_at: commit.map(|_| noon()),
    };
    let known = async || {
        let known = store.rule_revisions().await.unwrap();
        let line = |found: KnownRevision| {
            let commit = found.revision.commit.unwrap_or_default();
            assert_eq!(found.revision.committed_at.is_some(), !commit.is_empty());
            let standing = if found.superseded_at.is_none() { "in force" } else { "superseded" };
            let accepted = found.accepted_by.map(|by| format!(" accepted by {by}")).unwrap_or_default();
            format!(
                "{} {} {commit} {standing}, {} to {}{accepted}",
                found.revision.part.label(),
                found.revision.revision,
                found.first_seen_by,
                found.seen_by
            )
        };
        known.into_iter().map(line).collect::<Vec<_>>()
    };
    let (ada, bob) = (Sighting { by: "ada", at: noon() }, Sighting { by: "bob", at: noon() + 1.hour() });
    let (one, two) = (of(RulePart::Policies, "one", Some("c1")), of(RulePart::Policies, "two", None));
    assert!(!store.put_rules_in_force(&one, Some("other"), ada, None).await.unwrap(), "none is in force");
    assert!(store.put_rules_in_force(&one, None, ada, None).await.unwrap());
    assert!(!store.put_rules_in_force(&two, None, bob, None).await.unwrap(), "another one was faster");
    assert!(store.put_rules_in_force(&two, Some("one"), bob, None).await.unwrap());
    assert!(store.put_rules_in_force(&of(RulePart::Settings, "one", None), None, ada, None).await.unwrap());
    let zero = of(RulePart::Policies, "zero", None);
    for seen in [&one, &two, &zero] {
        store.record_rule_sighting(seen, bob).await.unwrap();
    }
    assert_eq!(
        known().await,
        [
            "policies one c1 superseded, ada to bob",
            "policies two  in force, bob to bob",
            "policies zero  superseded, bob to bob",
            "settings one  in force, ada to ada",
        ]
    );
    // What comes back is in force with its place of now, and the others are not.
    let back = of(RulePart::Policies, "one", Some("c3"));
    assert!(!store.put_rules_in_force(&back, Some("one"), ada, None).await.unwrap(), "it is not in force");
    assert!(store.put_rules_in_force(&back, Some("two"), ada, Some("two is wrong")).await.unwrap());
    let known = known().await;
    assert_eq!(
        known[..2],
        ["policies one c3 in force, ada to ada accepted by ada", "policies two  superseded, bob to bob"]
    );
    let newer = of(RulePart::Policies, "one", Some("c4"));
    assert!(store.put_rules_in_force(&newer, Some("one"), bob, None).await.unwrap(), "the same at another commit");
    let in_force = store.rule_revisions().await.unwrap().into_iter().find(|found| found.revision == newer).unwrap();
    assert_eq!((in_force.superseded_at, in_force.accepted_by), (None, None));
}

/// Those in force and those of runs on record stay; of the others, those that no daemon came with for long are pruned.
pub(super) async fn rule_revisions_pruned(store: &StateStore) {
    let of = |revision: &str| RuleRevision {
        part: RulePart::Policies,
        revision: revision.to_owned(),
        commit: None,
        committed_at: None,
    };
    let old = Sighting { by: "ada", at: noon() - 900.hours() };
    for (revision, replaced) in
        [("unused", None), ("of-a-run", Some("unused")), ("seen", Some("of-a-run")), ("in-force", Some("seen"))]
    {
        assert!(store.put_rules_in_force(&of(revision), replaced, old, None).await.unwrap());
    }
    store.record_rule_sighting(&of("seen"), Sighting { by: "bob", at: noon() }).await.unwrap();
    let context = RunContext { revision: Some("of-a-run".into()), ..RunContext::default() };
    store.begin_run_with_context(&new_run(1, noon()), &context).await.unwrap();
    let cutoffs = |time| RetentionCutoffs { runs: time, plans: time };
    let left = async || {
        let known = store.rule_revisions().await.unwrap();
        known.into_iter().map(|found| found.revision.revision).collect::<Vec<_>>()
    };
    store.prune(cutoffs(old.at)).await.unwrap();
    assert_eq!(left().await.len(), 4, "none is older");
    store.prune(cutoffs(noon())).await.unwrap();
    assert_eq!(left().await, ["in-force", "of-a-run", "seen"]);
}

pub(super) async fn figures(store: &StateStore) {
    let nothing = store.figures(&StateFigures::default(), noon()).await.unwrap();
    assert_eq!(nothing, StateFigures::default());
    let (lease, image) = (lease(store).await, manifest("1"));
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    let at = Some("http://registry.example");
    let removal = Intent { endpoint: at.map(Into::into), ..intent("v1", &image) };
    let removed = store.intend(&lease, run.id, &removal, &image, noon()).await.unwrap();
    let again = Intent { action: Action::Restore, ..removal.clone() };
    let restored = store.intend(&lease, run.id, &again, &image, noon()).await.unwrap();
    let open = store.figures(&nothing, noon()).await.unwrap();
    let leases: Vec<_> = open.leases.iter().map(|one| (&*one.name, one.epoch, one.is_held)).collect();
    assert_eq!(leases, [("run", 1, true)]);
    let held: Vec<_> = open.registry_leases.iter().map(|one| (&*one.name, one.epoch, one.is_held)).collect();
    assert_eq!(held, [("http://registry.example", 1, true)]);
    assert_eq!((open.restores, open.last_removals.len()), (0, 0), "none has its outcome");
    store.record_outcome(removed.id(), &done(), noon() + 1.minute()).await.unwrap();
    let one = store.figures(&open, noon()).await.unwrap();
    assert_eq!((one.restores, one.last_removals.get("contoso")), (0, Some(&(noon() + 1.minute()))));
    store.record_outcome(restored.id(), &done(), noon() + 2.minutes()).await.unwrap();
    let both = store.figures(&one, noon()).await.unwrap();
    assert_eq!((both.restores, both.last_removals.get("contoso")), (1, Some(&(noon() + 1.minute()))));
    assert_eq!(store.figures(&both, noon()).await.unwrap(), both, "nothing counts twice");
}

pub(super) async fn schedules(store: &StateStore) {
    assert_eq!(store.schedule_progress().await.unwrap(), BTreeMap::new());
    let (first, second) = ("0 3 * * * UTC".to_owned(), "0 4 * * * UTC".to_owned());
    let both = BTreeMap::from([(first.clone(), noon()), (second.clone(), noon() + 1.nanosecond())]);
    store.record_schedule_progress(&both).await.unwrap();
    assert_eq!(store.schedule_progress().await.unwrap(), both);
    let one = BTreeMap::from([(second, noon() + 1.hour())]);
    store.record_schedule_progress(&one).await.unwrap();
    assert_eq!(store.schedule_progress().await.unwrap(), one, "{first} is forgotten");
}

pub(super) async fn recorded_times(store: &StateStore) {
    let newest = |confirmed, recorded| NewestTime { confirmed, recorded };
    assert_eq!(store.newest_time().await.unwrap(), newest(None, None));
    let (run, ahead) = (new_run(1, noon()), new_run(2, noon() + 900.hours()));
    store.begin_run(&run).await.unwrap();
    store.confirm_time(run.id, noon()).await.unwrap();
    store.confirm_time(run.id, noon() - 1.hour()).await.unwrap();
    store.begin_run(&ahead).await.unwrap();
    assert_eq!(store.newest_time().await.unwrap(), newest(Some(noon()), Some(noon() + 900.hours())));
    store.accept_time(noon() - 1.hour(), "ada@here", "the clock was ahead").await.unwrap();
    assert_eq!(store.newest_time().await.unwrap(), newest(Some(noon() - 1.hour()), None), "earlier runs say nothing");
    store.begin_run(&new_run(3, noon())).await.unwrap();
    assert_eq!(store.newest_time().await.unwrap().recorded, Some(noon()));
}

pub(super) async fn notifications(store: &StateStore) {
    assert_eq!(store.sent_notifications("ops").await.unwrap(), BTreeMap::new());
    let sent = |problems: &[&str]| problems.iter().map(|problem| ((*problem).to_owned(), noon())).collect();
    let (ops, dev): (BTreeMap<String, Timestamp>, BTreeMap<String, Timestamp>) =
        (sent(&["run failed x", "run refused y"]), sent(&["run failed x"]));
    store.record_sent_notifications("ops", &ops).await.unwrap();
    store.record_sent_notifications("dev", &dev).await.unwrap();
    assert_eq!(store.sent_notifications("ops").await.unwrap(), ops);
    store.record_sent_notifications("ops", &dev).await.unwrap();
    assert_eq!(store.sent_notifications("ops").await.unwrap(), dev, "what is over is forgotten");
    store.record_sent_notifications("ops", &BTreeMap::new()).await.unwrap();
    assert_eq!(store.sent_notifications("ops").await.unwrap(), BTreeMap::new());
    assert_eq!(store.sent_notifications("dev").await.unwrap(), dev, "each has its own");
}

pub(super) async fn manifest_cache(store: &StateStore) {
    use tagwarden::registry::ContentCache as _;
    let (first, second, unknown) = (manifest("1"), manifest("2"), manifest("3").digest);
    store.store_manifest(&first).await;
    store.store_created_at(&first.digest, Some(noon() + 1.nanosecond())).await;
    store.store_created_at(&second.digest, None).await;
    for _ in 0..2 {
        assert_eq!(store.manifest(&first.digest).await, Some(first.clone()));
        assert_eq!(store.created_at(&first.digest).await, Some(Some(noon() + 1.nanosecond())));
        assert_eq!(store.created_at(&second.digest).await, Some(None), "it does not say");
        assert_eq!(store.manifest(&unknown).await, None);
        assert_eq!(store.created_at(&unknown).await, None);
        store.flush_cache().await;
    }
}

pub(super) async fn observations(store: &StateStore) {
    let seen = async |tags: &[(&str, &str)], look: &ObservationContext| {
        let mut inventory = inventory(tags);
        store.observe_at(&mut inventory, look).await.unwrap();
        let repository = &inventory.registries[0].repositories[0];
        let first: Vec<_> = repository.tags.iter().map(|tag| tag.first_seen.map(CompactTime::timestamp)).collect();
        (repository.first_read_at.is_some(), first)
    };
    let day = |day: i64| ObservationContext::at(noon() + (24 * day).hours());
    let on = |day: i64| Some(noon() + (24 * day).hours());
    // What is there at the first look has no time of its own, and the repository has that of the look.
    assert_eq!(seen(&[("a", "1")], &day(0)).await, (true, vec![None]));
    assert_eq!(seen(&[("a", "1"), ("b", "1")], &day(1)).await.1, [None, on(1)], "new");
    assert_eq!(seen(&[("a", "1"), ("b", "1")], &day(2)).await.1, [None, on(1)], "seen again");
    assert_eq!(seen(&[("a", "2"), ("b", "1")], &day(3)).await.1, [on(3), on(1)], "moved");
    assert_eq!(seen(&[("b", "1")], &day(4)).await.1, [on(1)]);
    assert_eq!(seen(&[("a", "2"), ("b", "1")], &day(5)).await.1, [on(5), on(1)], "gone and back");
    let skewed = ObservationContext { clock_skewed: BTreeSet::from(["contoso".parse().unwrap()]), ..day(6) };
    seen(&[("a", "2"), ("b", "1"), ("c", "1")], &skewed).await;
    assert_eq!(seen(&[("a", "2"), ("b", "1"), ("c", "1")], &day(7)).await.1, [on(5), on(1), on(7)], "nothing recorded");
}

pub(super) async fn tag_lists(store: &StateStore) {
    let (repository, removed, lost) = ("shop/api".parse().unwrap(), "mine".parse().unwrap(), "lost".parse().unwrap());
    assert_eq!(store.last_seen(ENDPOINT, &repository, &lost).await.unwrap(), None);
    store.record_tag_lists(&inventory(&[("lost", "1"), ("mine", "1"), ("v1", "1")]), noon()).await.unwrap();
    let (lease, run, image) = (lease(store).await, new_run(1, noon()), manifest("1"));
    store.begin_run(&run).await.unwrap();
    let journaled = store.intend(&lease, run.id, &intent("mine", &image), &image, noon() + 1.hour()).await.unwrap();
    store.record_outcome(journaled.id(), &done(), noon() + 1.hour()).await.unwrap();

    let mut cut = inventory(&[("v1", "1")]);
    let gap = Gap { target: GapTarget::TagList, kind: "http-500", has_help: false, message: "cut".into() };
    cut.registries[0].repositories[0].gaps.push(gap);
    store.record_tag_lists(&cut, noon() + 2.hours()).await.unwrap();
    let found = store.last_seen(ENDPOINT, &repository, &lost).await.unwrap().unwrap();
    assert_eq!((found.at, found.missed_at), (noon(), None), "an incomplete list misses nothing");
    store.record_tag_lists(&inventory(&[("v1", "1")]), noon() + 3.hours()).await.unwrap();
    let found = store.last_seen(ENDPOINT, &repository, &lost).await.unwrap().unwrap();
    assert_eq!((found.at, found.missed_at), (noon(), Some(noon() + 3.hours())));
    assert_eq!(store.last_seen(ENDPOINT, &repository, &removed).await.unwrap(), None, "Tagwarden removed it");
    let there = store.last_seen(ENDPOINT, &repository, &"v1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((there.at, there.missed_at), (noon() + 3.hours(), None));
}

pub(super) async fn catalogues(store: &StateStore) {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let contoso = "contoso".parse().unwrap();
    assert_eq!(store.catalogue(&contoso, ENDPOINT).await.unwrap(), None);
    assert_eq!(store.accept_catalogue(ENDPOINT, "ada@here", noon()).await.unwrap(), None, "there is nothing to accept");
    let known = KnownCatalogue { names: names(&["a", "b", "c"]), trusted_at: Some(noon()), suspect: None };
    store.record_catalogue(ENDPOINT, &known, noon()).await.unwrap();
    assert_eq!(store.catalogue(&contoso, ENDPOINT).await.unwrap(), Some(known.clone()));
    let suspect = SuspectCatalogue { names: names(&["a"]), since: noon() + 1.hour(), reads: 2 };
    let doubted = KnownCatalogue { suspect: Some(suspect), ..known };
    store.record_catalogue(ENDPOINT, &doubted, noon() + 2.hours()).await.unwrap();
    assert_eq!(store.catalogue(&contoso, ENDPOINT).await.unwrap(), Some(doubted));
    assert_eq!(store.accept_catalogue(ENDPOINT, "ada@here", noon() + 3.hours()).await.unwrap(), Some(1));
    let accepted = KnownCatalogue { names: names(&["a"]), trusted_at: Some(noon() + 3.hours()), suspect: None };
    assert_eq!(store.catalogue(&contoso, ENDPOINT).await.unwrap(), Some(accepted));
    assert_eq!(store.catalogue(&contoso, "https://elsewhere.example").await.unwrap(), None);
}

pub(super) async fn registry_addresses(store: &StateStore) {
    let contoso = "contoso".parse().unwrap();
    let since = async |address: &str, now| store.registry_address_since(&contoso, address, now).await.unwrap();
    assert_eq!(since("https://a.example", noon()).await, None, "as far as the state goes back");
    assert_eq!(since("https://a.example", noon() + 1.hour()).await, None);
    assert_eq!(since("https://b.example", noon() + 2.hours()).await, Some(noon() + 2.hours()));
    assert_eq!(since("https://b.example", noon() + 3.hours()).await, Some(noon() + 2.hours()));
}

pub(super) async fn registry_experience(store: &StateStore) {
    use RemovalMethod::Untag;
    let contoso = "contoso".parse().unwrap();
    let response = async |now| store.deletion_response(ENDPOINT, Untag, now).await.unwrap();
    assert_eq!((store.untag_experience(ENDPOINT).await.unwrap(), response(noon()).await), (None, None));
    store.record_untag_experience(ENDPOINT, UntagExperience::ManifestSurvives, noon()).await.unwrap();
    assert_eq!(response(noon()).await, Some((DeletionResponse::Accepted, noon())));
    let later = noon() + 1.hour();
    store.record_deletion_response(ENDPOINT, Untag, DeletionResponse::Unsupported, later).await.unwrap();
    assert_eq!(response(later).await, Some((DeletionResponse::Unsupported, later)));
    assert_eq!(response(later + REFUSAL_TTL).await, None, "registries are upgraded");
    let known = Experience { effect: UntagExperience::Unsupported, since: later, last_at: later };
    assert_eq!(store.untag_experience(ENDPOINT).await.unwrap(), Some(known));
    assert!(known.is_valid_at(later) && !known.is_valid_at(later + REFUSAL_TTL));
    store.record_untag_experience(ENDPOINT, UntagExperience::ManifestDestroyed, later).await.unwrap();
    store.record_untag_experience(ENDPOINT, UntagExperience::ManifestSurvives, later + 1.hour()).await.unwrap();
    let found = store.untag_experience(ENDPOINT).await.unwrap().unwrap();
    assert_eq!(found.effect, UntagExperience::ManifestDestroyed, "nothing outweighs it");

    store.mark_untag_destructive(&contoso, noon()).await.unwrap();
    store.mark_untag_destructive(&contoso, later).await.unwrap();
    assert_eq!(store.untag_destructive_since(&contoso).await.unwrap(), Some(noon()), "the first time counts");
    assert!(store.forget_experience(&contoso, ENDPOINT).await.unwrap());
    assert!(!store.forget_experience(&contoso, ENDPOINT).await.unwrap());
    assert_eq!(store.untag_experience(ENDPOINT).await.unwrap(), None);
    assert_eq!(store.untag_destructive_since(&contoso).await.unwrap(), None);
    store.mark_untag_destructive(&contoso, noon()).await.unwrap();
    store.clear_untag_destructive(&contoso).await.unwrap();
    assert_eq!(store.untag_destructive_since(&contoso).await.unwrap(), None);
}

pub(super) async fn refused_tags(store: &StateStore) {
    let refusal = |text: &str, is_tag_specific| RemovalRefusal {
        repository: "shop/api".parse().unwrap(),
        tag: "v1".parse().unwrap(),
        digest: Digest::of(text.as_bytes()),
        message: "locked by a rule".into(),
        is_tag_specific,
    };
    let counts = async || {
        let tags = store.refused_tags(ENDPOINT).await.unwrap();
        tags.iter().map(|tag| tag.refusal_count).collect::<Vec<_>>()
    };
    assert_eq!(counts().await, [0_u32; 0]);
    store.record_refused_tags(ENDPOINT, &[refusal("1", true)], noon()).await.unwrap();
    store.record_refused_tags(ENDPOINT, &[refusal("1", true)], noon() + 1.hour()).await.unwrap();
    assert_eq!(counts().await, [2]);
    store.record_refused_tags(ENDPOINT, &[refusal("1", false)], noon() + 2.hours()).await.unwrap();
    assert_eq!(counts().await, [2], "it may be the whole registry that refuses");
    store.record_refused_tags(ENDPOINT, &[refusal("2", true)], noon() + 3.hours()).await.unwrap();
    assert_eq!(counts().await, [1], "another digest is another matter");
    assert_eq!(store.refused_tags("https://elsewhere.example").await.unwrap(), []);
    let (repository, tag) = ("shop/api".parse().unwrap(), "v1".parse().unwrap());
    store.forget_refused_tag(ENDPOINT, &repository, &tag).await.unwrap();
    assert_eq!(counts().await, [0_u32; 0]);
}

pub(super) async fn source_history(store: &StateStore) {
    let aks: SourceName = "aks".parse().unwrap();
    assert_eq!(store.source_baselines().await.unwrap(), BTreeMap::new());
    store.record_suspect_claims(&aks, 1, noon()).await.unwrap();
    assert_eq!(store.accept_source(&aks, "ada@here", noon()).await.unwrap(), None, "it never answered");
    store.record_source_baseline(&aks, 100, noon()).await.unwrap();
    store.record_suspect_claims(&aks, 7, noon() + 1.hour()).await.unwrap();
    let baseline =
        |claims, queried_at, suspect| BTreeMap::from([(aks.clone(), SourceBaseline { claims, queried_at, suspect })]);
    let suspect = Some((7, noon() + 1.hour()));
    assert_eq!(store.source_baselines().await.unwrap(), baseline(100, noon(), suspect));
    assert_eq!(store.accept_source(&aks, "ada@here", noon() + 2.hours()).await.unwrap(), Some(7));
    assert_eq!(store.source_baselines().await.unwrap(), baseline(7, noon() + 1.hour(), None));
    store.record_suspect_claims(&aks, 1, noon() + 3.hours()).await.unwrap();
    store.record_source_baseline(&aks, 9, noon() + 4.hours()).await.unwrap();
    assert_eq!(
        store.source_baselines().await.unwrap(),
        baseline(9, noon() + 4.hours(), None),
        "what is trusted ends it"
    );
}

pub(super) async fn maintenance(store: &StateStore) {
    use tagwarden::registry::ContentCache as _;
    let (lease, image) = (lease(store).await, manifest("1"));
    let old = noon() - 900.hours();
    for number in 0..2 {
        let run = new_run(number, old);
        store.begin_run(&run).await.unwrap();
        let journaled = store.intend(&lease, run.id, &intent("v1", &image), &image, old).await.unwrap();
        if number == 0 {
            store.record_outcome(journaled.id(), &done(), old).await.unwrap();
        }
        store.finish_run(run.id, &end(old)).await.unwrap();
        store.confirm_time(run.id, old).await.unwrap();
    }
    let cutoffs = |time| RetentionCutoffs { runs: time, plans: time };
    assert_eq!(store.prune(cutoffs(old)).await.unwrap(), PruneCounts::default(), "none is older");
    let counts = store.prune(cutoffs(noon())).await.unwrap();
    assert_eq!(counts, PruneCounts { runs: 1, entries: 1, ..PruneCounts::default() });
    let left = store.pending_entries().await.unwrap();
    assert_eq!(store.manifest_of(&left[0]).await.unwrap(), image, "what is pending stays, with the way back");

    store.store_manifest(&image).await;
    let mut unread = inventory(&[("v1", "2")]);
    unread.registries[0].gaps.push(Gap {
        target: GapTarget::Catalogue,
        kind: "http-500",
        has_help: false,
        message: "cut".into(),
    });
    collect_garbage(store, &unread, noon(), noon()).await.unwrap();
    assert_eq!(store.manifest(&image.digest).await, Some(image.clone()), "it may be in what was not read");
    collect_garbage(store, &inventory(&[("v1", "2")]), noon(), noon()).await.unwrap();
    assert_eq!(store.manifest(&image.digest).await, None);
}

pub(super) async fn storage(store: &StateStore) {
    store.warn_if_new(true).await.unwrap();
    store.verify_file().unwrap();
    store.verify_disk_space().await.unwrap();
    store.begin_run(&new_run(1, noon())).await.unwrap();
    store.clone().close().await;
    store.begin_run(&new_run(2, noon())).await.unwrap_err();
}
