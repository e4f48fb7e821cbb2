-- Every change of an account gives it another version, whoever makes it and in whichever of its tables. Whoever watches
-- versions misses nothing, and a change that was planned before somebody else's is refused.

CREATE FUNCTION accounts_next_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;

CREATE TRIGGER accounts_next_version BEFORE UPDATE ON accounts
    FOR EACH ROW WHEN (NEW.version = OLD.version) EXECUTE FUNCTION accounts_next_version();

-- What belongs to an account changed. A row of `accounts` that this transaction wrote has its new version already: `xmin`
-- is the transaction that wrote a row.
CREATE FUNCTION account_parts_next_version() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        UPDATE accounts SET version = version + 1
            WHERE id IN (SELECT account_id FROM gone) AND xmin <> pg_current_xact_id()::xid;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        UPDATE accounts SET version = version + 1
            WHERE id IN (SELECT account_id FROM come) AND xmin <> pg_current_xact_id()::xid;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        UPDATE accounts SET version = version + 1 WHERE xmin <> pg_current_xact_id()::xid;
    END IF;
    RETURN NULL;
END
$$;

DO $$
DECLARE
    part TEXT;
BEGIN
    FOREACH part IN ARRAY ARRAY['account_roles', 'account_allowed_ips', 'account_keys'] LOOP
        EXECUTE format('CREATE TRIGGER next_version_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS come '
            'FOR EACH STATEMENT EXECUTE FUNCTION account_parts_next_version()', part);
        EXECUTE format('CREATE TRIGGER next_version_update AFTER UPDATE ON %I REFERENCING OLD TABLE AS gone NEW TABLE AS come '
            'FOR EACH STATEMENT EXECUTE FUNCTION account_parts_next_version()', part);
        EXECUTE format('CREATE TRIGGER next_version_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS gone '
            'FOR EACH STATEMENT EXECUTE FUNCTION account_parts_next_version()', part);
        EXECUTE format('CREATE TRIGGER next_version_truncate AFTER TRUNCATE ON %I '
            'FOR EACH STATEMENT EXECUTE FUNCTION account_parts_next_version()', part);
    END LOOP;
END
$$;
