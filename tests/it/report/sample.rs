//! A plan made by hand in which every kind of reason, of miss and of holder occurs.

use jiff::Timestamp;
use tagwarden::report::{
    DelayedActionView, DeletionView, DeletionsView, DependentView, DriftKind, DriftView, GapView, HolderView,
    IdleRepositoryView, KeptView, LimitsView, ObstacleView, PlanDocument, PolicyView, ReasonView, RecordDriftView,
    RefusalView, RegistryInfoView, RegistryView, RemovalView, RepositoryStorageView, RetainReasonView, SCHEMA,
    ShortfallView, SourceView, StorageView, SummaryView, UndecidedView, UnmatchedView, assign_plan_id, fingerprint,
    plan_attention,
};

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn digest(seed: u32) -> String {
    format!("sha256:{:08x}{seed:056x}", seed.wrapping_mul(2_654_435_761))
}

fn policy() -> String {
    "candidates".to_owned()
}

pub(crate) fn not_kept(shortfalls: Vec<ShortfallView>) -> ReasonView {
    ReasonView::NotKept { policy: policy(), shortfalls }
}

pub(crate) fn removal(number: u32, tag: &str) -> RemovalView {
    RemovalView {
        registry: "contoso".into(),
        repository: "shop/checkout".into(),
        tag: tag.into(),
        digest: digest(number),
        policy: policy(),
        enforce: true,
        method: "untag".into(),
        companion_of: None,
        pushed_at: Some(time("2026-10-01T10:00:00Z")),
        dated_at: Some(time("2026-10-01T10:00:00Z")),
        dated_by: "pushed".into(),
        age_seconds: Some(53 * 86_400 - 7 * 3_600),
        reclaimable_bytes: Some(52_428_800),
        shared_bytes: Some(1_048_576),
        refused_by_registry: None,
        verify: vec![format!(
            "az acr repository show --name contoso --subscription '00 1' --image shop/checkout:{tag}"
        )],
        reasons: vec![not_kept(vec![
            ShortfallView::Newest { rank: 12, count: 5 },
            ShortfallView::Within { age_seconds: 52 * 86_400, within: "14d".into() },
        ])],
    }
}

pub(crate) fn kept(number: u32, tag: &str, verdict: &str, reasons: Vec<ReasonView>) -> KeptView {
    KeptView {
        registry: "contoso".into(),
        repository: "shop/checkout".into(),
        tag: tag.into(),
        digest: Some(digest(number)),
        verdict: verdict.into(),
        dated_at: Some(time("2026-11-20T12:30:00Z")),
        dated_by: "created".into(),
        reasons,
    }
}

pub(crate) fn claim(by: &str, digest: Option<String>, holder: HolderView) -> ReasonView {
    let source = match &holder {
        HolderView::Release { .. } => "releases",
        HolderView::File { .. } => "helm",
        HolderView::Hold { .. } => "hold",
        HolderView::Pull { .. } => "pulls",
        HolderView::Workload { .. } => "aks-prod",
    };
    let reference = "contoso.azurecr.io/shop/checkout:release-1.4.2".into();
    ReasonView::Claimed { source: source.into(), by: by.into(), reference, digest, holder: Box::new(holder) }
}

fn release(status: &str, keep_until: Option<&str>) -> HolderView {
    HolderView::Release {
        file: "releases/checkout.json".into(),
        line: 12,
        service: Some("checkout".into()),
        environment: Some("production".into()),
        owner: Some("team-checkout@contoso.example".into()),
        approved_by: Some("Ada".into()),
        build: Some("20261101.4".into()),
        branch: Some("main".into()),
        released_at: Some(time("2026-11-01T09:00:00Z")),
        status: status.into(),
        keep_until: keep_until.map(time),
    }
}

fn workload(container: &str) -> HolderView {
    HolderView::Workload {
        place: "aks-prod".into(),
        namespace: "shop".into(),
        workload: "Deployment".into(),
        name: "checkout".into(),
        container: container.into(),
    }
}

fn in_repository(repository: &str, removals: u64, known: u64, unknown_removals: u64) -> RepositoryStorageView {
    RepositoryStorageView {
        repository: repository.into(),
        removals,
        exclusive_bytes: known * 52_428_800,
        shared_bytes: known * 1_048_576,
        unknown_removals,
    }
}

fn removals() -> Vec<RemovalView> {
    let versions = vec![
        ShortfallView::Bucket { period: "weekly".into(), count: 4 },
        ShortfallView::NewestPer { version: "minor".into(), rank: 3, count: 2 },
        ShortfallView::Matching {},
    ];
    let both =
        vec![not_kept(Vec::new()), ReasonView::NotKept { policy: "everything-else".into(), shortfalls: versions }];
    let companion = ReasonView::CompanionOfExpired { subject: digest(1), policy: policy() };
    vec![
        removal(1, "candidate-41"),
        RemovalView {
            enforce: false,
            reclaimable_bytes: None,
            shared_bytes: None,
            reasons: both,
            ..removal(2, "candidate-42")
        },
        RemovalView {
            companion_of: Some(digest(1)),
            reasons: vec![companion],
            pushed_at: None,
            dated_at: None,
            dated_by: "unknown".into(),
            age_seconds: None,
            ..removal(3, "sha256-ab12.sig")
        },
        RemovalView { repository: "shop/legacy".into(), ..removal(4, "candidate-7") },
    ]
}

/// Tags that texts keep.
fn kept_by_texts() -> [KeptView; 2] {
    [
        kept(
            25,
            "1.4.0",
            "protected",
            vec![
                ReasonView::Mentioned {
                    source: "deployments".into(),
                    text: "v1.4.0".into(),
                    holder: Box::new(HolderView::File { file: "runbooks/checkout.md".into(), line: 31 }),
                },
                not_kept(Vec::new()),
            ],
        ),
        kept(
            26,
            "candidate-10",
            "undecided",
            vec![
                ReasonView::UnresolvedReference {
                    source: "deployments".into(),
                    text: "contoso.azurecr.io/shop/checkout:$(TAG)".into(),
                    holder: Box::new(HolderView::File { file: "pipelines/deploy.yaml".into(), line: 12 }),
                },
                not_kept(Vec::new()),
            ],
        ),
    ]
}

fn kept_tags() -> Vec<KeptView> {
    let until = time("2026-12-04T12:30:00Z");
    let mut tags = vec![
        kept(
            10,
            "release-1.4.2",
            "protected",
            vec![
                claim("tag", None, release("active", Some("2027-01-31T00:00:00Z"))),
                claim("digest", None, HolderView::File { file: "deploy/values.yaml".into(), line: 7 }),
                claim("index-contains", Some(digest(77)), workload("web")),
                ReasonView::KeptMatching { policy: "releases-stay".into(), glob: "release-*".into() },
                ReasonView::KeptWithin { policy: policy(), within: "14d".into(), until },
                not_kept(Vec::new()),
            ],
        ),
        kept(11, "release-1.4.1", "protected", vec![claim("drifted-tag", Some(digest(12)), release("rollback", None))]),
        kept(13, "by-config", "protected", vec![claim("config", None, workload(""))]),
        kept(14, "locked", "protected", vec![ReasonView::Locked { on: "tag".into(), lock: "write".into() }]),
        kept(15, "child", "protected", vec![ReasonView::ChildOfKept { index: digest(10) }]),
        kept(16, "signature", "protected", vec![ReasonView::CompanionOfKept { subject: digest(10) }]),
        kept(17, "stray", "protected", vec![ReasonView::CompanionOfUnknown { subject: digest(99) }]),
        kept(18, "subject", "protected", vec![ReasonView::SubjectOfKept { referrer: digest(19) }]),
        kept(10, "same", "protected", vec![ReasonView::SharesManifest { tag: "release-1.4.2".into() }]),
        kept(20, "last", "protected", vec![ReasonView::LastTag {}]),
        kept(20, "all", "retained", vec![ReasonView::KeptAll { policy: "releases-stay".into() }]),
        kept(
            21,
            "candidate-50",
            "retained",
            vec![
                ReasonView::KeptNewest { policy: policy(), rank: 2, count: 5 },
                ReasonView::KeptWithin { policy: policy(), within: "14d".into(), until },
                ReasonView::KeptBucket { policy: policy(), rule: "weekly".into(), bucket: "2026-W47".into(), count: 4 },
                ReasonView::KeptVersion {
                    policy: "versions".into(),
                    version: "minor".into(),
                    line: "1.4".into(),
                    rank: 2,
                    count: 2,
                },
            ],
        ),
        KeptView {
            dated_at: None,
            dated_by: "unknown".into(),
            ..kept(
                22,
                "reproducible",
                "retained",
                vec![
                    ReasonView::Undated {
                        policy: policy(),
                        why: "before-2013".into(),
                        time: Some(time("1970-01-01T00:00:00Z")),
                    },
                    ReasonView::Undated {
                        policy: "versions".into(),
                        why: "future".into(),
                        time: Some(time("2031-01-01T00:00:00Z")),
                    },
                    ReasonView::NotAVersion { policy: "versions".into() },
                ],
            )
        },
        KeptView {
            digest: None,
            ..kept(
                23,
                "candidate-9",
                "undecided",
                vec![
                    ReasonView::SourceFailed { source: "aks-staging".into() },
                    ReasonView::Gap { at: "tag shop/checkout:candidate-9".into(), failure: "http-500".into() },
                    ReasonView::MaybeClaimed {
                        source: "aks-staging".into(),
                        digest: digest(98),
                        uncertainty: "configuration-unread".into(),
                        holder: Some(Box::new(HolderView::Workload {
                            place: "aks-staging".into(),
                            namespace: "shop".into(),
                            workload: "Pod".into(),
                            name: "checkout-7d9f".into(),
                            container: "app".into(),
                        })),
                    },
                    not_kept(Vec::new()),
                ],
            )
        },
        kept(24, "latest", "out-of-scope", vec![ReasonView::NotSelected {}]),
    ];
    tags.extend(kept_by_texts());
    tags
}

fn registry() -> RegistryView {
    RegistryView {
        name: "contoso".into(),
        kind: "acr".into(),
        endpoint: "https://contoso.azurecr.io".into(),
        identity: "managed identity of this machine".into(),
        removal: "untag".into(),
        obstacle: None,
        obstacles: vec![ObstacleView {
            repository: "shop/vendor".into(),
            message: "the token may not delete here; grant Container Registry Repository Contributor".into(),
        }],
        ability: None,
        notes: Vec::new(),
        info: Some(RegistryInfoView {
            subscription: "00000000-0000-0000-0000-000000000001".into(),
            resource_group: "rg-registry".into(),
            resource: "contoso".into(),
            tier: Some("premium".into()),
            permissions: Some("rbac-abac".into()),
            untagged_retention: DelayedActionView { state: "on".into(), days: Some(3) },
            soft_delete: DelayedActionView { state: "off".into(), days: None },
            replicas: vec!["northeurope".into(), "westus2".into()],
            stored_bytes: Some(1_099_511_627_776),
            cleanup_rules: Vec::new(),
        }),
        accepted: vec!["untagged-retention".into()],
        clock_ahead_seconds: Some(-1),
        clock: None,
        undo_seconds: Some(3 * 86_400),
        repositories: 2,
        tags: 20,
        indexes_read: None,
        gaps: vec![GapView {
            repository: Some("shop/checkout".into()),
            at: "tag candidate-9".into(),
            kind: "http-500".into(),
            message: "the registry answered 500 three times; try again later".into(),
            has_help: true,
        }],
        invalid_names: Vec::new(),
    }
}

fn sources() -> Vec<SourceView> {
    let answered = SourceView {
        name: "releases".into(),
        kind: "release-records".into(),
        state: "answered".into(),
        claims: 2,
        mentions: Some(0),
        unresolved: Some(0),
        protects: 3,
        undecided: None,
        as_of: Some(time("2026-11-22T22:00:00Z")),
        error: None,
        notes: vec!["1 retired record no longer protects".into()],
    };
    let texts = SourceView {
        name: "deployments".into(),
        kind: "image-references".into(),
        claims: 12,
        mentions: Some(1),
        unresolved: Some(3),
        protects: 1,
        undecided: Some(UndecidedView {
            tags: 1,
            repositories: 1,
            text: "contoso.azurecr.io/shop/checkout:$(TAG)".into(),
            place: "pipelines/deploy.yaml:12".into(),
        }),
        notes: Vec::new(),
        ..answered.clone()
    };
    let failed = SourceView {
        name: "aks-staging".into(),
        kind: "kubernetes".into(),
        state: "failed".into(),
        claims: 0,
        mentions: Some(0),
        unresolved: Some(0),
        protects: 0,
        undecided: None,
        as_of: None,
        error: Some("connection refused; is the cluster up?".into()),
        notes: Vec::new(),
    };
    vec![answered, failed, texts]
}

fn policies() -> Vec<PolicyView> {
    let view = |name: &str, mode: &str, expired| PolicyView {
        name: name.into(),
        mode: mode.into(),
        owner: Some("platform@contoso.example".into()),
        description: Some("Candidate builds expire two weeks after their last push.".into()),
        file: "policies/shop.yaml".into(),
        revision: digest(500),
        selected: Some(expired + 2),
        expired,
    };
    vec![view("candidates", "enforce", 4), view("everything-else", "dry-run", 1), view("releases-stay", "dry-run", 0)]
}

/// A rule that refuses and one that matched before.
fn unmatched() -> Vec<UnmatchedView> {
    let view = |rule: &str, state: &str, message: &str| UnmatchedView {
        policy: "releases-stay".into(),
        key: "tags".into(),
        rule: rule.into(),
        file: "policies/shop.yaml".into(),
        line: Some(7),
        state: state.into(),
        last_matched: (state == "matched-before").then(|| time("2026-11-20T03:00:00Z")),
        message: message.into(),
    };
    let refuses = "policies/shop.yaml:7: `tags: release-.*` of policy `releases-stay`, which keeps all, matches no tag";
    let before =
        "policies/shop.yaml:7: `tags: hotfix-*` of policy `releases-stay`, which keeps all, matches no tag any more";
    vec![view("release-.*", "refuses", refuses), view("hotfix-*", "matched-before", before)]
}

/// One finding of each kind.
fn drift() -> Vec<DriftView> {
    let finding = |kind, tag: &str, actual: Option<u32>, holder: &str| {
        let found = DriftView {
            severity: String::new(),
            kind: String::new(),
            registry: "contoso".into(),
            repository: "shop/checkout".into(),
            tag: Some(tag.into()),
            digest: Some(digest(12)),
            range: None,
            actual: actual.map(digest),
            source: "releases".into(),
            holder: holder.into(),
            message: String::new(),
        };
        DriftView::with_message(kind, found)
    };
    let workload = "aks-prod: shop/Deployment/checkout, container web and 3 more";
    vec![
        finding(DriftKind::DigestChanged, "release-1.4.1", Some(11), "rollback release of checkout in production"),
        finding(DriftKind::ImageMissing, "release-1.3.9", None, workload),
        finding(DriftKind::Untagged, "release-1.3.8", None, workload),
        finding(DriftKind::TagMissing, "release-1.3.7", None, "release of checkout in production"),
        finding(DriftKind::LastTag, "candidate-9", None, workload),
    ]
}

/// The plan, sealed.
pub(crate) fn plan() -> PlanDocument {
    let refusal = |binding, repository: &str, message: &str| RefusalView {
        kind: "percent-limit".into(),
        policy: None,
        registry: Some("contoso".into()),
        repository: Some(repository.into()),
        binding,
        message: message.into(),
    };
    let mut document = PlanDocument {
        schema: SCHEMA.into(),
        id: String::new(),
        fingerprint: String::new(),
        attention: Vec::new(),
        created_at: time("2026-11-23T03:00:00Z"),
        expires_at: time("2026-11-24T03:00:00Z"),
        mode: "approved".into(),
        evaluated_at: time("2026-11-23T03:00:00Z"),
        hypothetical: false,
        narrowed: None,
        blocked_by: None,
        accepted: Vec::new(),
        settings: digest(600),
        limits: LimitsView { untag: 1000, percent: 50, leave: 1, delete: 1000 },
        registries: vec![registry()],
        sources: sources(),
        policies: policies(),
        unmatched: unmatched(),
        idle: idle(),
        removals: removals().into(),
        kept: kept_tags().into(),
        is_applied: false,
        written_to: None,
        drift: vec![RecordDriftView {
            source: "releases".into(),
            holder: "rollback release of checkout in production (releases/checkout.json:12)".into(),
            registry: "contoso".into(),
            repository: "shop/checkout".into(),
            tag: "release-1.4.1".into(),
            recorded: digest(12),
            actual: Some(digest(11)),
        }],
        findings: drift(),
        storage: vec![StorageView {
            registry: "contoso".into(),
            exclusive_bytes: 157_286_400,
            shared_bytes: 3_145_728,
            unknown_removals: 1,
            bytes: "exact".into(),
            stored_bytes: Some(2_199_023_255_552),
            repositories: vec![in_repository("shop/checkout", 3, 2, 1), in_repository("shop/legacy", 1, 1, 0)],
        }],
        deletions: deletions(),
        holds: Vec::new(),
        refusals: vec![
            refusal(
                true,
                "shop/legacy",
                "contoso/shop/legacy: 1 of 1 tags would be removed, and at most 50% are allowed; raise `percent`, or keep more",
            ),
            refusal(
                false,
                "shop/checkout",
                "contoso/shop/checkout: 3 of 17 tags would be removed, and at most 10% are allowed (would hold if every policy said `enforce`)",
            ),
        ],
        summary: SummaryView {
            tags: 20,
            expired: 4,
            retained: 3,
            protected: 10,
            undecided: 2,
            out_of_scope: 1,
            reclaimable_bytes: 157_286_400,
            shared_bytes: 3_145_728,
            unknown_bytes_removals: 1,
            bytes: "exact".into(),
        },
    };
    document.attention = plan_attention(&document);
    document.fingerprint = fingerprint(&document);
    assign_plan_id(&mut document);
    document
}

/// Two manifests untagged before: one goes with what depends on it, one stays.
fn deletions() -> DeletionsView {
    let one = DeletionView {
        registry: "contoso".into(),
        repository: "shop/api".into(),
        digest: format!("sha256:{}", "1d".repeat(32)),
        tag: "candidate-17".into(),
        untagged_at: time("2026-11-01T03:00:00Z"),
        free_since: None,
        eligible_at: time("2026-11-15T03:00:00Z"),
        policies: vec!["candidate-builds".into()],
        enforce: true,
        deletable: true,
        dependents: vec![
            DependentView { role: "child".into(), digest: format!("sha256:{}", "2d".repeat(32)) },
            DependentView { role: "child".into(), digest: format!("sha256:{}", "3d".repeat(32)) },
            DependentView { role: "referrer".into(), digest: format!("sha256:{}", "4d".repeat(32)) },
        ],
        bytes: Some(3 << 20),
        bytes_are: "estimated".into(),
        refused: None,
        retain_reasons: Vec::new(),
    };
    let message = "aks-prod claims contoso.example/shop/api:candidate-18: Deployment shop/api in aks-prod".into();
    let staying = DeletionView {
        digest: format!("sha256:{}", "5d".repeat(32)),
        tag: "candidate-18".into(),
        deletable: false,
        dependents: Vec::new(),
        bytes: None,
        retain_reasons: vec![RetainReasonView { kind: "claimed".into(), message }],
        ..one.clone()
    };
    DeletionsView {
        eligible: vec![one, staying],
        pending: 3,
        next_eligible_at: Some(time("2026-11-25T03:00:00Z")),
        unlisted: vec!["fabrikam".into()],
        refusals: Vec::new(),
        ..DeletionsView::default()
    }
}

fn idle() -> Vec<IdleRepositoryView> {
    let of = |repository: &str, unknown: Option<&str>, last_pull, pulls_known| IdleRepositoryView {
        registry: "contoso".into(),
        repository: repository.into(),
        policy: "unused".into(),
        idle: "180d".into(),
        unknown: unknown.map(str::to_owned),
        last_push: Some(time("2025-11-23T03:00:00Z")),
        last_pull,
        pulls_known,
        tags: 12,
        in_use: 1,
        expired: if unknown.is_some() { 0 } else { 11 },
    };
    vec![
        of("shop/archive", None, Some(time("2026-01-23T03:00:00Z")), true),
        of("shop/attic", None, None, true),
        of("shop/cellar", Some("last-pull"), None, false),
        of("shop/shed", Some("use-before-removals"), Some(time("2026-01-23T03:00:00Z")), true),
    ]
}
