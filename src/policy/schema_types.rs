//! The shape of a policy file as types, for its JSON schema.
//!
//! Nothing is read through these types: the reader tells faults better from the tree of the file. A test holds the two
//! together: what the schema accepts is read, and what it refuses is refused.

use std::collections::BTreeMap;

use schemars::JsonSchema;

/// Policies for Tagwarden: which tags of which repositories stay, and which may go.
#[derive(JsonSchema)]
#[schemars(rename = "Tagwarden policies", deny_unknown_fields)]
pub struct PolicyFile {
    /// The policies of this file. A tag expires only if every policy that selects it expires it.
    #[schemars(length(min = 1))]
    pub policies: Vec<PolicyShape>,
}

/// One policy: what it selects, and what of that stays.
#[derive(JsonSchema)]
#[schemars(
    rename = "Policy",
    deny_unknown_fields,
    extend("oneOf" = [
        { "description": "A policy on tags.", "required": ["keep"], "not": { "required": ["untagged"] } },
        {
            "description": "A policy on manifests without a tag.",
            "required": ["untagged"],
            "properties": {
                "keep": false, "group_by": false, "then": false, "limits": false,
                "select": {
                    "properties": {
                        "tags": false, "pattern": false, "types": false, "idle": false,
                        "annotations": false, "labels": false,
                    },
                },
            },
        },
    ])
)]
pub struct PolicyShape {
    /// Its name, unique over all policy files: letters, digits, `-`, `_` and `.`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"), example = &"candidate-builds")]
    pub name: String,
    /// What it is for, in your own words; reports show it.
    #[schemars(length(min = 1), example = &"Candidate builds expire two weeks after their last push.")]
    pub description: Option<String>,
    /// Whom to ask about it.
    #[schemars(length(min = 1), example = &"platform@contoso.example")]
    pub owner: Option<String>,
    /// Which tags it speaks of.
    pub select: SelectShape,
    /// Named groups of `pattern`: the keep rules apply apart to each combination of their values.
    #[schemars(length(min = 1), inner(length(min = 1)), extend("uniqueItems" = true), example = ["branch"])]
    pub group_by: Option<Vec<String>>,
    /// What stays. A tag stays if any rule keeps it. A policy on tags has it, one with `untagged` does not.
    pub keep: Option<KeepShape>,
    /// What becomes of manifests that no tag references, whoever left them. A policy with it speaks of no tags: it has
    /// neither `keep`, `tags`, `pattern`, `group_by`, `then` nor `limits`.
    pub untagged: Option<UntaggedShape>,
    /// What comes after an untag. Default: nothing, so that every untag can be undone while the manifest is there.
    pub then: Option<ThenShape>,
    /// Whether what it expires may really be removed, where the settings enforce, too. Default: dry-run.
    #[schemars(default = "dry_run", example = &"enforce")]
    pub mode: Option<ModeShape>,
    /// Limits for this policy alone, below those of the settings. Above a limit the run refuses; it does not pick.
    pub limits: Option<LimitsShape>,
    /// When the daemon lets it remove, instead of the schedule of the settings: five fields (minute, hour, day, month,
    /// weekday), or a nickname such as `@weekly`.
    #[schemars(
        regex(pattern = r"^\s*(@[A-Za-z]+|\S+(\s+\S+){4})\s*$"),
        example = &"0 3 * * 0"
    )]
    pub schedule: Option<String>,
    /// Rules that may match nothing: `true` for all of them, or a list. Without it, an enforcing run refuses what a rule
    /// that protects tags and never matched might have protected.
    pub allow_unmatched: Option<AllowUnmatchedShape>,
}

/// `true`, or rules of this policy as they are written.
#[derive(JsonSchema)]
#[schemars(rename = "AllowUnmatched", untagged)]
pub enum AllowUnmatchedShape {
    /// All rules, or none.
    Every(bool),
    /// These rules.
    Rules(#[schemars(length(min = 1), inner(regex(pattern = r"\S")), example = ["!hotfix-*"])] Vec<String>),
}

/// Which tags a policy speaks of. What is left out means all.
#[derive(JsonSchema)]
#[schemars(
    rename = "Select",
    deny_unknown_fields,
    extend("minProperties" = 1, "not" = { "required": ["tags", "pattern"] })
)]
pub struct SelectShape {
    /// Registries, by their names in the settings. Default: all.
    #[schemars(length(min = 1), inner(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")), example = ["contoso"])]
    pub registries: Option<Vec<String>>,
    /// Repositories, by globs: `*` stays inside one path segment, `**` crosses them, `!` takes away. Default: all.
    #[schemars(
        length(min = 1),
        inner(regex(pattern = r"^(!?[^!\s].*)$")),
        extend("contains" = { "pattern": "^[^!]" }),
        example = ["shop/**", "!shop/legacy/**"]
    )]
    pub repositories: Option<Vec<String>>,
    /// Tags, by globs; `!` takes away. Default: all.
    #[schemars(
        length(min = 1),
        inner(regex(pattern = r"^(!?[^!\s].*)$")),
        extend("contains" = { "pattern": "^[^!]" }),
        example = ["candidate-*", "!*-hold"]
    )]
    pub tags: Option<Vec<String>>,
    /// Tags, by a regular expression that must match the whole tag; instead of `tags`.
    #[schemars(length(min = 1), example = &r"(?<branch>.+)-\d+")]
    pub pattern: Option<String>,
    /// Types of artifacts, by words or media types. Default: all. Where the type of a tag is unknown, the tag stays.
    #[schemars(
        length(min = 1),
        inner(regex(pattern = r"^(image|index|chart|signature|attestation|sbom|cache|wasm|[^*! ]+/[^*! ]*|/[^*! ]*)$")),
        extend("uniqueItems" = true),
        example = ["image", "index"]
    )]
    pub types: Option<Vec<String>>,
    /// Repositories to which nothing was pushed, and from which nothing was pulled, within this time before now. Where
    /// that is unknown, the tags stay.
    #[schemars(
        regex(pattern = r"^\s*([0-9]+\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|wks?|w|years?|yrs?|y)\s*)+$"),
        example = &"180d"
    )]
    pub idle: Option<String>,
    /// Annotations of the manifest, each with one value or several, by globs. `*` alone means any value. Where an annotation is
    /// unknown, the tag stays.
    #[schemars(extend("minProperties" = 1, "propertyNames" = { "pattern": r"\S" }))]
    pub annotations: Option<BTreeMap<String, TextValuesShape>>,
    /// Labels of the image, like `annotations`.
    #[schemars(extend("minProperties" = 1, "propertyNames" = { "pattern": r"\S" }))]
    pub labels: Option<BTreeMap<String, TextValuesShape>>,
}

/// One value or several, by globs; `!` takes away.
#[derive(JsonSchema)]
#[schemars(rename = "TextValues", untagged)]
pub enum TextValuesShape {
    /// One glob.
    One(#[schemars(regex(pattern = r"^\s*[^!\s]"), example = &"checkout")] String),
    /// Several globs.
    Several(
        #[schemars(
            length(min = 1),
            inner(regex(pattern = r"^(!?\s*[^!\s].*)$")),
            extend("contains" = { "pattern": "^[^!]" }),
            example = ["https://github.com/acme/*", "!https://github.com/acme/legacy"]
        )]
        Vec<String>,
    ),
}

/// `all`, `none`, or a list of rules.
#[derive(JsonSchema)]
#[schemars(rename = "Keep", untagged)]
pub enum KeepShape {
    /// One word for everything that is selected.
    Word(KeepWordShape),
    /// A tag stays if any of these keeps it.
    Rules(#[schemars(length(min = 1))] Vec<RuleShape>),
}

/// One word for everything that is selected.
#[derive(JsonSchema)]
#[schemars(rename = "KeepWord", rename_all = "snake_case")]
pub enum KeepWordShape {
    /// Everything stays.
    All,
    /// Nothing stays by this policy.
    None,
}

/// One keep rule.
#[derive(JsonSchema)]
#[schemars(rename = "Rule", rename_all = "snake_case")]
pub enum RuleShape {
    /// The newest so many distinct images, per repository and group.
    Newest(#[schemars(range(min = 1, max = 4_294_967_295_u32), example = 5)] u32),
    /// What was pushed within this time before now: `14d`, `36h`, `1d 12h`. Months are refused; `m` is minutes.
    Within(
        #[schemars(
            regex(pattern = r"^\s*([0-9]+\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|wks?|w|years?|yrs?|y)\s*)+$"),
            example = &"14d"
        )]
        String,
    ),
    /// The newest of each of the last so many days that have one.
    Daily(#[schemars(range(min = 1, max = 4_294_967_295_u32), example = 7)] u32),
    /// The newest of each of the last so many ISO weeks that have one.
    Weekly(#[schemars(range(min = 1, max = 4_294_967_295_u32), example = 4)] u32),
    /// The newest of each of the last so many months that have one.
    Monthly(#[schemars(range(min = 1, max = 4_294_967_295_u32), example = 12)] u32),
    /// The newest of each of the last so many years that have one.
    Yearly(#[schemars(range(min = 1, max = 4_294_967_295_u32), example = 3)] u32),
    /// The highest versions of each version line.
    NewestPer(NewestPerShape),
    /// Images pulled or pushed within this time before now, where the registry records pulls. Where it may not, everything
    /// stays.
    PulledWithin(
        #[schemars(
            regex(pattern = r"^\s*([0-9]+\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|wks?|w|years?|yrs?|y)\s*)+$"),
            example = &"30d"
        )]
        String,
    ),
    /// The most distinct images that the rules by time keep beside it, the newest first, per repository and group. Needs
    /// `within` beside it, and what that keeps stays.
    AtMost(#[schemars(range(min = 1, max = 4_294_967_295_u32), example = 20)] u32),
    /// Tags that these globs match.
    Matching(
        #[schemars(
            length(min = 1),
            inner(regex(pattern = r"^(!?[^!\s].*)$")),
            extend("contains" = { "pattern": "^[^!]" }),
            example = ["*-lts"]
        )]
        Vec<String>,
    ),
    /// All tags of an image that has such a tag, and one pushed so recently.
    ImageWith(ImageWithShape),
}

/// An image by the names and times of its tags; one of the two must be there.
#[derive(JsonSchema)]
#[schemars(rename = "ImageWith", deny_unknown_fields, extend("minProperties" = 1))]
pub struct ImageWithShape {
    /// One of the image's tags matches these globs, selected by the policy or not.
    #[schemars(
        length(min = 1),
        inner(regex(pattern = r"^(!?[^!\s].*)$")),
        extend("contains" = { "pattern": "^[^!]" }),
        example = ["release-*"]
    )]
    pub tags: Option<Vec<String>>,
    /// One of the image's tags was pushed within this time before now.
    #[schemars(
        regex(pattern = r"^\s*([0-9]+\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|wks?|w|years?|yrs?|y)\s*)+$"),
        example = &"30d"
    )]
    pub within: Option<String>,
}

/// The highest versions of each version line.
#[derive(JsonSchema)]
#[schemars(rename = "NewestPer", deny_unknown_fields)]
pub struct NewestPerShape {
    /// Versions that agree up to this part are one line.
    pub version: VersionShape,
    /// How many images of each line.
    #[schemars(range(min = 1, max = 4_294_967_295_u32), example = 2)]
    pub count: u32,
}

/// Versions that agree up to this part are one line.
#[derive(JsonSchema)]
#[schemars(rename = "Version", rename_all = "snake_case")]
pub enum VersionShape {
    /// 1.x.y
    Major,
    /// 1.2.x
    Minor,
    /// 1.2.3 with its pre-releases
    Patch,
}

/// What comes after an untag.
#[derive(JsonSchema)]
#[schemars(rename = "Then", deny_unknown_fields)]
pub struct ThenShape {
    /// A manifest is deleted so long after Tagwarden removed its last tag, if nothing tags, claims, contains or refers to
    /// it by then: `after 14d`.
    #[schemars(
        regex(pattern = r"^\s*after ([0-9]+\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|wks?|w|years?|yrs?|y)\s*)+$"),
        example = &"after 14d"
    )]
    pub delete_manifest: String,
}

/// What becomes of manifests that no tag references.
#[derive(JsonSchema)]
#[schemars(rename = "Untagged", deny_unknown_fields)]
pub struct UntaggedShape {
    /// A manifest is deleted once every run has found it free for so long: no tag, no index, no referrer, no claim, mention,
    /// lock or hold: `after 30d`.
    #[schemars(
        regex(pattern = r"^\s*after ([0-9]+\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|wks?|w|years?|yrs?|y)\s*)+$"),
        example = &"after 30d"
    )]
    pub delete: String,
}

/// Whether what a policy expires may really be removed.
#[derive(JsonSchema)]
#[schemars(rename = "Mode", rename_all = "kebab-case")]
pub enum ModeShape {
    /// It is only reported.
    DryRun,
    /// It may be removed.
    Enforce,
}

/// Limits for one policy.
#[derive(JsonSchema)]
#[schemars(rename = "Limits", deny_unknown_fields, extend("minProperties" = 1))]
pub struct LimitsShape {
    /// Most removals of this policy in one run.
    #[schemars(range(min = 1, max = 4_294_967_295_u32), example = 200)]
    pub untag: Option<u32>,
    /// Most removals of this policy per repository, in percent of its tags.
    #[schemars(range(min = 1, max = 100), example = 30)]
    pub percent: Option<u32>,
}

fn dry_run() -> &'static str {
    "dry-run"
}
