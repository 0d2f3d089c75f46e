-- The signer whose signature of the applied plan was verified.
ALTER TABLE run_contexts ADD COLUMN signed_by TEXT;
