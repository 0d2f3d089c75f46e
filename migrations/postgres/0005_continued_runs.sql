-- The run whose plan this one goes on with, because its daemon died or gave up the schedule.
ALTER TABLE run_contexts ADD COLUMN continues TEXT COLLATE "C";
