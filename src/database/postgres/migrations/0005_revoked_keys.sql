-- API keys that were revoked, or purged with their accounts, as SHA-256 in hexadecimal: whoever finds such a pair in a Secret, in
-- a backup or in a file to import does not take it back.
--
-- least_version: as it is
CREATE TABLE revoked_keys (
    api_key_sha256 TEXT NOT NULL PRIMARY KEY CHECK (length(api_key_sha256) = 64),
    revoked_at BIGINT NOT NULL,
    reason TEXT NOT NULL CHECK (reason IN ('revoked', 'purged'))
);

-- Whoever could read the tables until now can plan with this one too. A hash tells nobody the key.
GRANT SELECT ON revoked_keys TO PUBLIC;
