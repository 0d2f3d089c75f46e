//! The tables of a state, as both databases have them.

use sha2::{Digest as _, Sha256};

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Its columns; those of its key, by which its rows are sorted, come first.
    pub(super) columns: &'static [Column],
    /// The number of columns of the key.
    pub(super) key: usize,
    /// Where the database gives the numbers of a column itself.
    pub(super) numbered: Option<&'static str>,
}

/// A column.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

impl Column {
    /// Its name in PostgreSQL, where it differs.
    pub(super) fn postgres_name(&self, table: &Table) -> &'static str {
        if table.name == "leases" && self.name == "name" { "scope" } else { self.name }
    }
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Flag,
    Bytes,
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(Option<String>),
    Number(Option<i64>),
    Flag(Option<bool>),
    Bytes(Option<Vec<u8>>),
}

impl Value {
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Text(text) => text.as_ref().map_or(0, String::len),
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, Vec::len),
            Self::Number(_) | Self::Flag(_) => 8,
        }
    }

    /// Adds the value to a hash: whether there is one, its length, and its bytes.
    pub(super) fn hash_into(&self, hash: &mut Sha256) {
        let number;
        let storable;
        let bytes: Option<&[u8]> = match self {
            // PostgreSQL has another character for the one that it cannot store.
            Self::Text(Some(text)) if text.contains('\0') => {
                storable = text.replace('\0', "\u{fffd}");
                Some(storable.as_bytes())
            }
            Self::Text(text) => text.as_ref().map(String::as_bytes),
            Self::Bytes(bytes) => bytes.as_deref(),
            Self::Number(value) => {
                number = value.unwrap_or_default().to_le_bytes();
                value.is_some().then_some(&number)
            }
            Self::Flag(value) => {
                number = i64::from(value.unwrap_or_default()).to_le_bytes();
                value.is_some().then_some(&number)
            }
        };
        match bytes {
            None => hash.update([0]),
            Some(bytes) => {
                hash.update([1]);
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
            }
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { text.as_deref() } else { None }
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { bytes.as_deref() } else { None }
    }
}

macro_rules! kind {
    (t) => {
        Kind::Text
    };
    (n) => {
        Kind::Number
    };
    (f) => {
        Kind::Flag
    };
    (b) => {
        Kind::Bytes
    };
}

/// A table by its name, the columns of its key behind `by`, its other columns, and perhaps the column that the database
/// numbers.
macro_rules! table {
    ($name:literal by $($key:ident: $key_kind:ident),+ $(; $($column:ident: $kind:ident),+)? $(; numbered $number:literal)?) => {
        Table {
            name: $name,
            columns: &[
                $(Column { name: stringify!($key), kind: kind!($key_kind) },)+
                $($(Column { name: stringify!($column), kind: kind!($kind) },)+)?
            ],
            key: [$(stringify!($key)),+].len(),
            numbered: [None::<&'static str> $(, Some($number))?][table!(@last $($number)?)],
        }
    };
    (@last) => { 0 };
    (@last $number:literal) => { 1 };
}

/// All tables, each behind those that it refers to.
pub(super) const TABLES: &[Table] = &[
    table!("runs" by id: t; kind: t, mode: t, started_at: t, started_by: t, version: t, approved_by: t, ticket: t,
           ended_at: t, outcome: t, exit_code: n, summary: t, error: t, number: n, clock_confirmed: f; numbered "number"),
    table!("run_contexts" by run: t; revision: t, git_commit: t, enforced_policies: t, blocked_by: t, override_reason: t,
           continues: t, signed_by: t),
    table!("policy_sets" by revision: t; policies: t),
    table!("policy_texts" by revision: t; text: t),
    table!("plans" by run: t; plan_id: t, head: b, whole: f),
    table!("plan_chunks" by run: t, ordinal: n; registry: t, repository: t, expired: n, retained: n, protected: n,
           undecided: n, out_of_scope: n, reclaimable_bytes: n, shared_bytes: n, unknown_bytes_removals: n, hash: t,
           removals: b),
    table!("kept_lists" by hash: t; bytes: b),
    table!("plan_kept" by run: t, ordinal: n; list: t),
    table!("journal" by id: n; run: t, action: t, registry: t, repository: t, tag: t, digest: t, media_type: t, policy: t,
           evidence: t, intended_at: t, outcome: t, skip: t, detail: t, resolved_at: t, endpoint: t, dated_at: t,
           dated_by: t, epoch: n; numbered "id"),
    table!("journaled_manifests" by digest: t; bytes: b),
    table!("leases" by name: t; epoch: n, holder: t, taken_at: t),
    table!("registry_leases" by endpoint: t; epoch: n, run_epoch: n, holder: t, taken_at: t),
    table!("holds" by id: n; endpoint: t, registry: t, repository: t, tag: t, digest: t, origin: t, reason: t, held_by: t,
           since: t, until: t, entry: n, ended_at: t, ended_by: t; numbered "id"),
    table!("restored_tags" by endpoint: t, repository: t, tag: t; digest: t, dated_at: t, dated_by: t, entry: n,
           restored_at: t, complete: f, registry_time: t),
    table!("stop_requests" by id: n; requested_by: t, until: t; numbered "id"),
    table!("schedules" by schedule: t; processed_until: t),
    table!("clock" by id: n; confirmed_at: t, accepted_after: n, accepted_at: t, accepted_by: t, accepted_reason: t),
    table!("notifications" by receiver: t, problem: t; sent_at: t),
    table!("first_reads" by endpoint: t; first_read_at: t),
    table!("observed_repositories" by id: n; endpoint: t, repository: t, first_read_at: t, pending: f, missed_since: t;
           numbered "id"),
    table!("observations" by repository_id: n, tag: t; digest: t, first_seen: t, presence: n),
    table!("tag_lists" by endpoint: t, repository: t; seen_at: t, hash: t, lines: b),
    table!("missing_tags" by endpoint: t, repository: t, tag: t, missed_at: t; digest: t, seen_at: t),
    table!("free_manifests" by endpoint: t, repository: t, digest: t; since: t),
    table!("catalogues" by endpoint: t; names: t, trusted_at: t, suspect_names: t, suspect_since: t, suspect_reads: n,
           accepted_by: t, accepted_at: t),
    table!("registry_addresses" by registry: t; address: t, since: t),
    table!("experience" by endpoint: t, method: t, effect: t; since: t, last_at: t),
    table!("destructive_untags" by registry: t; since: t),
    table!("refused_tags" by endpoint: t, repository: t, tag: t; digest: t, times: n, last_at: t, message: t),
    table!("source_baselines" by source: t; claims: n, queried_at: t, suspect_claims: n, suspect_at: t, accepted_by: t,
           accepted_at: t),
    table!("rule_revisions" by part: t, revision: t; git_commit: t, committed_at: t, first_seen_at: t, first_seen_by: t,
           seen_at: t, seen_by: t, superseded_at: t, accepted_by: t, accepted_reason: t),
    table!("rule_matches" by policy: t, key: t, rule: t, endpoint: t; matched_at: t),
    table!("unmatched_rules" by policy: t, key: t, rule: t; judged_at: t),
    table!("manifests" by digest: t; media_type: t, bytes: b),
    table!("configs" by digest: t; created_at: t),
];
