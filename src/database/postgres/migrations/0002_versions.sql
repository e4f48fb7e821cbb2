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

-- Whoever listens on `opsadmin_accounts` is told of each change when it is committed, as JSON: cluster, namespace and name
-- of the account's owner, and the account's version; no version if the owner has no account any more. An empty text means
-- that any account may have changed.
CREATE FUNCTION accounts_tell() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told TEXT[] := '{}';
    news TEXT;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        told := ARRAY[''];
    END IF;
    IF TG_OP IN ('UPDATE', 'DELETE') AND OLD.owner_cluster IS NOT NULL AND (TG_OP = 'DELETE'
        OR (OLD.owner_cluster, OLD.owner_namespace, OLD.owner_name)
            IS DISTINCT FROM (NEW.owner_cluster, NEW.owner_namespace, NEW.owner_name))
    THEN
        told := array_append(told, json_build_object('cluster', OLD.owner_cluster, 'namespace', OLD.owner_namespace,
            'name', OLD.owner_name)::text);
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') AND NEW.owner_cluster IS NOT NULL THEN
        told := array_append(told, json_build_object('cluster', NEW.owner_cluster, 'namespace', NEW.owner_namespace,
            'name', NEW.owner_name, 'version', NEW.version)::text);
    END IF;
    FOREACH news IN ARRAY told LOOP
        -- A longer one would be refused, and the change with it.
        PERFORM pg_notify('opsadmin_accounts', CASE WHEN octet_length(news) < 8000 THEN news ELSE '' END);
    END LOOP;
    RETURN NULL;
END
$$;

CREATE TRIGGER accounts_tell AFTER INSERT OR UPDATE OR DELETE ON accounts
    FOR EACH ROW EXECUTE FUNCTION accounts_tell();
CREATE TRIGGER accounts_tell_truncate AFTER TRUNCATE ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_tell();
