-- Logins: the tokens that API users have, the assertions that they have used, and when each key pair was used. The auth servers
-- write these tables; docs/database.md says what each column means. Tokens are stored as their SHA-256.
--
-- No foreign key: a login never keeps an account or a key pair from being removed. A login whose account or key pair is gone
-- lets nobody in, because each use of it is judged by what is in `accounts` and `account_keys` then.
--
-- least_version: as it is

CREATE TABLE logins (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    address TEXT NOT NULL,
    began_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    access_hash BLOB NOT NULL,
    access_expires_at INTEGER NOT NULL,
    refresh_hash BLOB,
    family_seed BLOB,
    previous_access_hash BLOB,
    previous_access_expires_at INTEGER,
    previous_refresh_hash BLOB,
    ended_at INTEGER,
    end_reason TEXT,
    CONSTRAINT logins_hashes CHECK (
        length(access_hash) = 32 AND length(refresh_hash) = 32 AND length(family_seed) = 32
        AND length(previous_access_hash) = 32 AND length(previous_refresh_hash) = 32
    ),
    CONSTRAINT logins_family_whole CHECK ((refresh_hash IS NULL) = (family_seed IS NULL)),
    CONSTRAINT logins_previous_whole CHECK (
        (previous_access_hash IS NULL) = (previous_refresh_hash IS NULL)
        AND (previous_access_hash IS NULL) = (previous_access_expires_at IS NULL)
        AND (previous_access_hash IS NULL OR refresh_hash IS NOT NULL)
    ),
    CONSTRAINT logins_end_whole CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) STRICT;
-- Unique, so that two logins never have one token, even if random numbers repeat.
CREATE UNIQUE INDEX logins_access ON logins (access_hash);
CREATE UNIQUE INDEX logins_previous_access ON logins (previous_access_hash) WHERE previous_access_hash IS NOT NULL;
CREATE INDEX logins_account ON logins (account_id);
CREATE INDEX logins_expires ON logins (expires_at);

CREATE TABLE login_assertions (
    key_id TEXT NOT NULL,
    jti_hash BLOB NOT NULL CHECK (length(jti_hash) = 32),
    keep_until INTEGER NOT NULL,
    PRIMARY KEY (key_id, jti_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX login_assertions_keep_until ON login_assertions (keep_until);

CREATE TABLE key_uses (
    key_id TEXT NOT NULL PRIMARY KEY,
    first_used_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    CONSTRAINT key_uses_order CHECK (first_used_at <= last_used_at)
) STRICT;
