-- Tells an entry that is sent again from another one: the first request may arrive late, or may have been carried out
-- although its answer was lost.
ALTER TABLE journal ADD COLUMN key UUID;
CREATE UNIQUE INDEX journal_keys ON journal (key) WHERE key IS NOT NULL;

-- Writes entries in their order; one whose key is there already is not written again. With an epoch, all of them without
-- an outcome are intents to remove something under the lease to run of that epoch, the earliest of that time: none is
-- written unless that lease and those of their registries are held, nobody asks for no more removals, and nothing in their
-- repositories is held.
CREATE OR REPLACE FUNCTION write_journal_entries(entries json, manifests json, of_epoch bigint, earliest text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[];
BEGIN
    IF of_epoch IS NOT NULL THEN
        -- Nobody else can take the lease until this is committed, and holds are set under a stronger lock of the same row:
        -- each statement below sees those that were set before.
        PERFORM FROM leases WHERE scope = 'run' AND epoch = of_epoch AND expires_at > clock_timestamp() FOR SHARE;
        IF NOT FOUND
           OR EXISTS (SELECT FROM stop_requests WHERE until > earliest)
           OR EXISTS (
               SELECT FROM json_to_recordset(entries) AS new (repository text, outcome text, endpoint text)
               WHERE new.outcome IS NULL AND new.endpoint IS NOT NULL
                 AND (NOT EXISTS (SELECT FROM registry_leases AS own
                                  WHERE own.endpoint = new.endpoint AND own.run_epoch = of_epoch
                                    AND own.expires_at > clock_timestamp())
                      OR EXISTS (SELECT FROM holds
                                 WHERE holds.endpoint = new.endpoint AND holds.repository = new.repository
                                   AND holds.ended_at IS NULL AND holds.until > earliest)))
        THEN
            RETURN NULL;
        END IF;
    END IF;
    WITH written AS (
        INSERT INTO journal (run, action, registry, repository, tag, digest, media_type, policy, evidence, intended_at,
                             outcome, skip, detail, resolved_at, endpoint, dated_at, dated_by, epoch, key)
        SELECT run, action, registry, repository, tag, digest, media_type, policy, evidence, intended_at,
               outcome, skip, detail, resolved_at, endpoint, dated_at, dated_by, epoch, key
        FROM json_to_recordset(entries) AS new (
            place bigint, run text, action text, registry text, repository text, tag text, digest text, media_type text,
            policy text, evidence text, intended_at text, outcome text, skip text, detail text, resolved_at text,
            endpoint text, dated_at text, dated_by text, epoch bigint, key uuid)
        ORDER BY place
        ON CONFLICT (key) WHERE key IS NOT NULL DO UPDATE SET key = excluded.key
        RETURNING id
    ) SELECT array_agg(id ORDER BY id) INTO ids FROM written;
    IF manifests IS NOT NULL THEN
        INSERT INTO journaled_manifests (digest, bytes)
        SELECT digest, decode(hex, 'hex') FROM json_to_recordset(manifests) AS new (digest text, hex text)
        ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes
        WHERE journaled_manifests.bytes IS DISTINCT FROM excluded.bytes;
    END IF;
    RETURN array_to_json(ids)::text;
END
$$;
