//! The shape of a fixture as types, for its JSON schema. As with policies, nothing is read through them.

use std::collections::BTreeMap;

use schemars::JsonSchema;

/// Tests of Tagwarden policies: tags of a made-up repository, and what should become of them. `tagwarden test` runs them.
#[derive(JsonSchema)]
#[schemars(rename = "Tagwarden policy tests", deny_unknown_fields)]
pub struct PolicyTestsShape {
    /// The policies that are tested: a file or a folder, relative to this file. Default: the file of the same name
    /// without `.test`.
    #[schemars(length(min = 1), example = &"candidates.yaml")]
    pub policies: Option<String>,
    /// The time for which is decided. Default: 2026-01-01T12:00:00Z.
    #[schemars(length(min = 1), example = &"2026-11-23T12:00:00Z", default = "noon")]
    pub now: Option<String>,
    /// The time zone in which days, weeks, months and years are cut, as an IANA name. Default: UTC.
    #[schemars(length(min = 1), example = &"Europe/London", default = "utc")]
    pub timezone: Option<String>,
    /// The tests.
    #[schemars(length(min = 1))]
    pub tests: Vec<TestShape>,
}

/// One test: a repository, and what should become of its tags.
#[derive(JsonSchema)]
#[schemars(rename = "Test", deny_unknown_fields)]
pub struct TestShape {
    /// What should hold, in your own words.
    #[schemars(length(min = 1), example = &"an image goes two weeks after its push")]
    pub name: String,
    /// The registry. Default: the first one that the policies name.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"), example = &"contoso")]
    pub registry: Option<String>,
    /// The repository; the policies should select it.
    #[schemars(length(min = 1, max = 255), example = &"shop/api")]
    pub repository: String,
    /// The time for which this test is decided, instead of that of the file.
    #[schemars(length(min = 1), example = &"2026-11-23T12:00:00Z")]
    pub now: Option<String>,
    /// Whether all sources answered. `missing`: one failed, so that nothing is sure.
    #[schemars(default = "complete")]
    pub evidence: Option<EvidenceShape>,
    /// The tags of the repository, each with its facts and what should become of it.
    #[schemars(
        extend("minProperties" = 1, "propertyNames" = { "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$" })
    )]
    pub tags: BTreeMap<String, TagShape>,
}

/// A tag: its facts, and what should become of it.
#[derive(JsonSchema)]
#[schemars(
    rename = "Tag",
    deny_unknown_fields,
    extend("dependentRequired" = { "by": ["expect"], "because": ["expect"] })
)]
pub struct TagShape {
    /// When it was pushed: how long before now (`20d`, `36h`), a time, or a day. Without it the tag has no time.
    #[schemars(length(min = 1), example = &"20d")]
    pub pushed: Option<String>,
    /// Its last pull: how long before now, a time, or a day, or `never`. Without it the time is unknown.
    #[schemars(length(min = 1), example = &"3d")]
    pub pulled: Option<String>,
    /// The type of its artifact: a word such as `chart`, or a media type. Without it the type is unknown.
    #[schemars(
        regex(pattern = r"^(image|index|chart|signature|attestation|sbom|cache|wasm|.*/.*)$"),
        example = &"image"
    )]
    pub r#type: Option<String>,
    /// All annotations of its manifest. Without it they are unknown.
    pub annotations: Option<BTreeMap<String, String>>,
    /// All labels of its image. Without it they are unknown.
    pub labels: Option<BTreeMap<String, String>>,
    /// When it was put back: how long before now, a time, or a day. It counts by `pushed`, its original time.
    #[schemars(length(min = 1), example = &"1h")]
    pub restored: Option<String>,
    /// How long it is still held (`14d`), or until which time or day.
    #[schemars(length(min = 1), example = &"14d")]
    pub held: Option<String>,
    /// A word for the image that it names. Tags of one word are tags of one image. Default: an image of its own.
    #[schemars(length(min = 1), example = &"a")]
    pub image: Option<String>,
    /// A lock in the registry.
    pub lock: Option<LockShape>,
    /// Whether a source claims it: the tag by its name, or its image by digest.
    pub claimed: Option<ClaimedShape>,
    /// What should become of it. A tag without this is only there beside the others.
    pub expect: Option<VerdictShape>,
    /// The policy that must be among those that decide so.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"), example = &"candidate-builds")]
    pub by: Option<String>,
    /// A reason, or several, that must be given.
    pub because: Option<BecauseShape>,
}

/// Whether all sources answered.
#[derive(JsonSchema)]
#[schemars(rename = "Evidence", rename_all = "snake_case")]
pub enum EvidenceShape {
    /// All answered.
    Complete,
    /// One failed.
    Missing,
}

/// A lock in the registry.
#[derive(JsonSchema)]
#[schemars(rename = "Lock")]
pub enum LockShape {
    /// It may not be deleted.
    #[schemars(rename = "delete")]
    Delete,
    /// It may not be written.
    #[schemars(rename = "write")]
    Write,
    /// Neither.
    #[schemars(rename = "delete+write")]
    DeleteAndWrite,
}

/// What a source names.
#[derive(JsonSchema)]
#[schemars(rename = "Claimed", rename_all = "snake_case")]
pub enum ClaimedShape {
    /// The tag, by its name.
    Tag,
    /// The image, by its digest: all its tags are protected.
    Digest,
}

/// What should become of a tag.
#[derive(JsonSchema)]
#[schemars(rename = "Verdict", rename_all = "kebab-case")]
pub enum VerdictShape {
    /// It goes.
    Expired,
    /// A keep rule keeps it.
    Retained,
    /// A claim, a lock or the like holds it.
    Protected,
    /// Something needed to be sure is missing.
    Undecided,
    /// No policy selects it.
    OutOfScope,
}

/// One reason or several.
#[derive(JsonSchema)]
#[schemars(rename = "Because", untagged)]
pub enum BecauseShape {
    /// One.
    One(ReasonShape),
    /// Several; all must be given.
    Several(#[schemars(length(min = 1))] Vec<ReasonShape>),
}

/// A reason, by its name in reports.
#[derive(JsonSchema)]
#[schemars(rename = "Reason", rename_all = "kebab-case")]
pub enum ReasonShape {
    /// No policy selects it.
    NotSelected,
    /// It is held.
    Held,
    /// A source claims it.
    Claimed,
    /// The registry has locked it.
    Locked,
    /// `keep: all` keeps it.
    KeptAll,
    /// `newest` keeps it.
    KeptNewest,
    /// `within` keeps it.
    KeptWithin,
    /// `daily`, `weekly`, `monthly` or `yearly` keeps it.
    KeptBucket,
    /// `newest_per` keeps it.
    KeptVersion,
    /// `matching` keeps it.
    KeptMatching,
    /// `image_with` keeps it.
    KeptImageWith,
    /// `pulled_within` keeps it.
    KeptPulled,
    /// A rule goes by pulls, and the last one is unknown.
    PullTimeUnknown,
    /// A rule goes by time, and it has none that can be trusted.
    Undated,
    /// A rule goes by version, and it is none.
    NotAVersion,
    /// A policy selects by a fact that is unknown.
    SelectionUnknown,
    /// A source failed.
    SourceFailed,
    /// A policy does not keep it.
    NotKept,
    /// It is a signature or the like of an image that is not there.
    CompanionOfUnknown,
}

fn noon() -> &'static str {
    "2026-01-01T12:00:00Z"
}

fn utc() -> &'static str {
    "UTC"
}

fn complete() -> &'static str {
    "complete"
}
