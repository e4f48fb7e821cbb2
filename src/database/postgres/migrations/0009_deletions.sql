-- Whether a person confirmed the deletion of an account. One that nobody confirmed counts for the brake.
-- least_version: as it is

ALTER TABLE accounts ADD COLUMN deletion_confirmed BOOLEAN NOT NULL DEFAULT FALSE;
