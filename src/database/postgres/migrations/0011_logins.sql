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
    began_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    access_hash BYTEA NOT NULL,
    access_expires_at BIGINT NOT NULL,
    refresh_hash BYTEA,
    family_seed BYTEA,
    previous_access_hash BYTEA,
    previous_access_expires_at BIGINT,
    previous_refresh_hash BYTEA,
    ended_at BIGINT,
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
);
-- Unique, so that two logins never have one token, even if random numbers repeat.
CREATE UNIQUE INDEX logins_access ON logins (access_hash);
CREATE UNIQUE INDEX logins_previous_access ON logins (previous_access_hash) WHERE previous_access_hash IS NOT NULL;
CREATE INDEX logins_account ON logins (account_id);
CREATE INDEX logins_expires ON logins (expires_at);

CREATE TABLE login_assertions (
    key_id TEXT NOT NULL,
    jti_hash BYTEA NOT NULL CHECK (length(jti_hash) = 32),
    keep_until BIGINT NOT NULL,
    PRIMARY KEY (key_id, jti_hash)
);
CREATE INDEX login_assertions_keep_until ON login_assertions (keep_until);

CREATE TABLE key_uses (
    key_id TEXT NOT NULL PRIMARY KEY,
    first_used_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    CONSTRAINT key_uses_order CHECK (first_used_at <= last_used_at)
);

-- Whoever could read the tables until now can tell when a key pair was used.
GRANT SELECT ON key_uses TO PUBLIC;

-- Whoever listens on `opsadmin_access` is told of each change of any account when it is committed, as JSON: the account's id
-- and its version; no version if the account is gone. Also of each login that ends: its id. An empty text means that any
-- account and any login may have changed. `opsadmin_accounts` tells only of accounts with an owner.
CREATE FUNCTION accounts_tell_access() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told TEXT[] := '{}';
    news TEXT;
BEGIN
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.id <> NEW.id) THEN
        told := array_append(told, json_build_object('account', OLD.id)::text);
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        told := array_append(told, json_build_object('account', NEW.id, 'version', NEW.version)::text);
    END IF;
    FOREACH news IN ARRAY told LOOP
        -- A longer one would be refused, and the change with it.
        PERFORM pg_notify('opsadmin_access', CASE WHEN octet_length(news) < 8000 THEN news ELSE '' END);
    END LOOP;
    RETURN NULL;
END
$$;

CREATE FUNCTION logins_tell_access() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    news TEXT := json_build_object('login', OLD.id)::text;
BEGIN
    PERFORM pg_notify('opsadmin_access', CASE WHEN octet_length(news) < 8000 THEN news ELSE '' END);
    RETURN NULL;
END
$$;

CREATE FUNCTION truncate_tell_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('opsadmin_access', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER accounts_tell_access AFTER INSERT OR UPDATE OR DELETE ON accounts
    FOR EACH ROW EXECUTE FUNCTION accounts_tell_access();
CREATE TRIGGER accounts_tell_access_truncate AFTER TRUNCATE ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION truncate_tell_access();

CREATE TRIGGER logins_tell_access_end AFTER UPDATE OF ended_at ON logins
    FOR EACH ROW WHEN (OLD.ended_at IS DISTINCT FROM NEW.ended_at) EXECUTE FUNCTION logins_tell_access();
-- The rows that are removed because they have expired are told to nobody.
CREATE TRIGGER logins_tell_access_delete AFTER DELETE ON logins
    FOR EACH ROW WHEN (OLD.expires_at > extract(epoch FROM clock_timestamp()) * 1000000)
    EXECUTE FUNCTION logins_tell_access();
CREATE TRIGGER logins_tell_access_truncate AFTER TRUNCATE ON logins
    FOR EACH STATEMENT EXECUTE FUNCTION truncate_tell_access();
