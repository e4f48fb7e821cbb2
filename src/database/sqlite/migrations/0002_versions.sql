-- Every change of an account gives it another version, whoever makes it and in whichever of its tables. Whoever watches
-- versions misses nothing, and a change that was planned before somebody else's is refused.
--
-- SQLite has no way to tell that a transaction has counted already, so these count each row; the program's own
-- transactions end by counting themselves as one.

CREATE TRIGGER accounts_next_version AFTER UPDATE ON accounts WHEN NEW.version = OLD.version BEGIN
    UPDATE accounts SET version = version + 1 WHERE id = NEW.id;
END;

CREATE TRIGGER account_roles_insert_next_version AFTER INSERT ON account_roles BEGIN
    UPDATE accounts SET version = version + 1 WHERE id = NEW.account_id;
END;

CREATE TRIGGER account_roles_update_next_version AFTER UPDATE ON account_roles BEGIN
    UPDATE accounts SET version = version + 1 WHERE id IN (OLD.account_id, NEW.account_id);
END;

CREATE TRIGGER account_roles_delete_next_version AFTER DELETE ON account_roles BEGIN
    UPDATE accounts SET version = version + 1 WHERE id = OLD.account_id;
END;

CREATE TRIGGER account_allowed_ips_insert_next_version AFTER INSERT ON account_allowed_ips BEGIN
    UPDATE accounts SET version = version + 1 WHERE id = NEW.account_id;
END;

CREATE TRIGGER account_allowed_ips_update_next_version AFTER UPDATE ON account_allowed_ips BEGIN
    UPDATE accounts SET version = version + 1 WHERE id IN (OLD.account_id, NEW.account_id);
END;

CREATE TRIGGER account_allowed_ips_delete_next_version AFTER DELETE ON account_allowed_ips BEGIN
    UPDATE accounts SET version = version + 1 WHERE id = OLD.account_id;
END;

CREATE TRIGGER account_keys_insert_next_version AFTER INSERT ON account_keys BEGIN
    UPDATE accounts SET version = version + 1 WHERE id = NEW.account_id;
END;

CREATE TRIGGER account_keys_update_next_version AFTER UPDATE ON account_keys BEGIN
    UPDATE accounts SET version = version + 1 WHERE id IN (OLD.account_id, NEW.account_id);
END;

CREATE TRIGGER account_keys_delete_next_version AFTER DELETE ON account_keys BEGIN
    UPDATE accounts SET version = version + 1 WHERE id = OLD.account_id;
END;
