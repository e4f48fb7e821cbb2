-- Whether a person confirmed the deletion of an account. One that nobody confirmed counts for the brake.
-- least_version: as it is

ALTER TABLE accounts ADD COLUMN deletion_confirmed INTEGER NOT NULL DEFAULT 0 CHECK (deletion_confirmed IN (0, 1));
