-- The keyring's keys that seal no more. A retired one is out of the keyring's file: nothing was sealed with it any more, and
-- whoever read the file before must seal nothing with it now.

CREATE TABLE outgoing_sealing_keys (
    id TEXT NOT NULL PRIMARY KEY,
    outgoing_since INTEGER NOT NULL,
    retired_at INTEGER
) STRICT;

CREATE TRIGGER account_keys_insert_sealed_with BEFORE INSERT ON account_keys
WHEN EXISTS (SELECT 1 FROM outgoing_sealing_keys WHERE id = NEW.sealed_with AND retired_at IS NOT NULL) BEGIN
    SELECT RAISE(ABORT, 'the keyring was rotated since this program read it; start it again with the keyring as it is now');
END;

CREATE TRIGGER account_keys_update_sealed_with BEFORE UPDATE OF sealed_with ON account_keys
WHEN EXISTS (SELECT 1 FROM outgoing_sealing_keys WHERE id = NEW.sealed_with AND retired_at IS NOT NULL) BEGIN
    SELECT RAISE(ABORT, 'the keyring was rotated since this program read it; start it again with the keyring as it is now');
END;
