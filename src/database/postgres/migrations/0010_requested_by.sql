-- Who requested a change of a resource: `manager=NAME wrote=TIME claim=NAME`. Null: no resource requested it, or it is unknown.
-- least_version: as it is
ALTER TABLE account_journal ADD COLUMN requested_by TEXT;
