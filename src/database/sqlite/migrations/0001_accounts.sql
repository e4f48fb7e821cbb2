-- API accounts. docs/database.md says what each column means, for whoever reads or edits them.
-- Times are microseconds since 1970-01-01T00:00:00Z. STRICT, since SQLite would otherwise store any type anywhere;
-- a strict table has no BOOLEAN, so 0 and 1 are checked instead.

CREATE TABLE affiliates (
    name TEXT NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    use_refresh_token INTEGER NOT NULL CHECK (use_refresh_token IN (0, 1)),
    -- Never SET NULL: an account without an affiliate sees the plans of all of them.
    affiliate TEXT REFERENCES affiliates (name) ON DELETE RESTRICT ON UPDATE RESTRICT,
    any_ip INTEGER NOT NULL CHECK (any_ip IN (0, 1)),
    owner_cluster TEXT,
    owner_namespace TEXT,
    owner_name TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    retained_at INTEGER,
    deleted_at INTEGER,
    suspended_at INTEGER,
    suspended_reason TEXT,
    answered_trigger TEXT,
    answered_annotation TEXT,
    CONSTRAINT accounts_version CHECK (version >= 1),
    CONSTRAINT accounts_owner_whole CHECK (
        (owner_cluster IS NULL) = (owner_namespace IS NULL) AND (owner_cluster IS NULL) = (owner_name IS NULL)
    ),
    CONSTRAINT accounts_deleted_is_disabled CHECK (deleted_at IS NULL OR NOT enabled),
    CONSTRAINT accounts_suspension_whole CHECK ((suspended_at IS NULL) = (suspended_reason IS NULL))
) STRICT;

-- The owner's index stands behind the name's, since SQLite checks the newest first: who makes one account twice breaks
-- both, and shall hear of the owner.
CREATE UNIQUE INDEX accounts_live_name ON accounts (name_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX accounts_owner ON accounts (owner_cluster, owner_namespace, owner_name)
    WHERE owner_cluster IS NOT NULL;

CREATE TABLE account_roles (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    role TEXT NOT NULL,
    PRIMARY KEY (account_id, role)
) STRICT;

CREATE TABLE account_allowed_ips (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    cidr TEXT NOT NULL,
    PRIMARY KEY (account_id, cidr)
) STRICT;

CREATE TABLE account_keys (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    api_key TEXT NOT NULL UNIQUE,
    secret_key_sealed BLOB NOT NULL,
    sealed_with TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;
CREATE INDEX account_keys_account ON account_keys (account_id);

-- No foreign key: history outlives the account.
CREATE TABLE account_journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    generation INTEGER,
    action TEXT NOT NULL,
    changes TEXT NOT NULL
) STRICT;
CREATE INDEX account_journal_account ON account_journal (account_id, id);
