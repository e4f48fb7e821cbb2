-- Names and descriptions are in any script.
DO $$
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'the encoding of this database is %, and it must be UTF8: CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0',
            current_setting('server_encoding');
    END IF;
END
$$;

-- The keyring's keys that seal no more. A retired one is out of the keyring's file: nothing was sealed with it any more, and
-- whoever read the file before must seal nothing with it now.
CREATE TABLE outgoing_sealing_keys (
    id TEXT NOT NULL PRIMARY KEY,
    outgoing_since BIGINT NOT NULL,
    retired_at BIGINT
);

CREATE FUNCTION account_keys_sealed_with() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM outgoing_sealing_keys WHERE id = NEW.sealed_with AND retired_at IS NOT NULL) THEN
        RAISE EXCEPTION 'the keyring was rotated since this program read it; start it again with the keyring as it is now';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER sealed_with BEFORE INSERT OR UPDATE OF sealed_with ON account_keys
    FOR EACH ROW EXECUTE FUNCTION account_keys_sealed_with();
