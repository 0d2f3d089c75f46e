//! Random worlds whose registries misbehave at random: nothing that stays is ever lost, and what may go goes in the end.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind, TagDeletion};

use super::crash::KillTimes;
use super::*;

const WORLDS: u64 = 12;

fn refusal(status: u16) -> FaultKind {
    let body = r#"{"errors":[{"code":"DENIED","message":"no"}]}"#.into();
    FaultKind::Status { status, headers: Vec::new(), body }
}

/// Misbehaviour that meets requests about one tag, and for how many of them.
fn misbehaviour(moments: &mut KillTimes) -> (Method, FaultKind, usize) {
    let deletion = |what, times| (Method::DELETE, what, times);
    match moments.next(14) {
        0 => deletion(refusal(403), usize::MAX),
        1 => deletion(refusal(400), usize::MAX),
        2 => deletion(FaultKind::status(503), 1),
        3 => deletion(FaultKind::status(503), usize::MAX),
        4 => deletion(FaultKind::HangUp { handled: true }, 1),
        5 => deletion(FaultKind::HangUp { handled: false }, 2),
        6 => deletion(FaultKind::HandledButStatus(502), 1),
        7 => deletion(FaultKind::TooManyRequests { retry_after: None }, 2),
        8 => deletion(FaultKind::status(423), usize::MAX),
        9 => deletion(FaultKind::status(500), usize::MAX),
        10 => deletion(FaultKind::status(404), 1),
        11 => deletion(FaultKind::HtmlPage, 1),
        12 => (Method::HEAD, FaultKind::status(500), 4),
        _ => deletion(FaultKind::CutBody, 1),
    }
}

/// Repositories with images that go and stay, some of them under several tags.
fn fill(walk: &WorkflowFixture, moments: &mut KillTimes) {
    for part in 0..=moments.next(3) {
        let repository = format!("shop/part-{part}");
        for number in 0..3 + i64::try_from(moments.next(8)).unwrap() {
            let image = image(&format!("{part}-{number}"), 90 - number);
            for tag in 0..=moments.next(2) {
                walk.put(&repository, &format!("candidate-{number}-{tag}"), &image);
            }
            if moments.next(5) == 0 {
                walk.put(&repository, &format!("release-{number}"), &image);
            }
        }
    }
}

async fn night(walk: &WorkflowFixture) -> StepResult {
    let app = walk.open().await.unwrap();
    let came = StepResult::from_result(app.run(&()).await);
    app.close().await;
    came
}

#[tokio::test]
async fn nothing_that_stays_is_lost_whatever_the_registry_does() {
    for world in 0..WORLDS {
        let mut moments = KillTimes(world * 7919 + 5);
        let deletion = match moments.next(6) {
            0 => TagDeletion::DeletesManifest,
            1 => TagDeletion::DeletesManifestWithLastTag,
            _ => TagDeletion::Untags,
        };
        let walk = WorkflowFixture::with(Options { tag_deletion: deletion, ..Options::default() }, "").await;
        walk.settings("enforce", "", "");
        fill(&walk, &mut moments);
        let whole = walk.tags();
        let plan = walk.plan().await;
        let going: Vec<(String, String)> =
            plan.removals.iter().map(|view| (view.repository.clone(), view.tag.clone())).collect();
        for (repository, tag) in &going {
            if moments.next(3) == 0 {
                let (method, what, times) = misbehaviour(&mut moments);
                let path = format!("{repository}/manifests/{tag}");
                walk.registry.inject(Fault::on(&path, what).method(method).times(times));
            }
        }
        let name = format!("world {world} ({deletion:?}), {} go", going.len());
        for last in [false, false, true] {
            if last {
                walk.registry.clear_faults();
                walk.advance_clock(40 * 24);
            }
            let came = night(&walk).await;
            let tags = walk.tags();
            for (place, digest) in whole.iter().filter(|(place, _)| !going.contains(place)) {
                assert_eq!(tags.get(place), Some(digest), "{name}: {place:?} was to stay: {}", came.text);
                let manifest = walk.registry.manifest(&place.0, digest);
                assert!(manifest.is_some(), "{name}: the image of {place:?} was to stay: {}", came.text);
            }
            walk.advance_clock(24);
        }
        walk.plan().await;
        walk.audit(None).await;
        let left: Vec<_> = walk.tags().into_keys().filter(|place| going.contains(place)).collect();
        match deletion {
            TagDeletion::Untags => assert!(left.is_empty(), "{name}: {left:?}"),
            // Where it is found out, all is there again; where only tags of images that keep one went, they may be gone.
            TagDeletion::DeletesManifest => assert_eq!(left.len(), going.len(), "{name}"),
            _ => {}
        }
        for digest in whole.values() {
            let lost = whole.iter().filter(|(_, of)| *of == digest).all(|(place, _)| {
                deletion != TagDeletion::Untags && walk.registry.manifest(&place.0, digest).is_none()
            });
            assert!(!lost, "{name}: an image was destroyed");
        }
    }
}
