-- Which database this is: made once, copied with the database, and compared by whoever remembers it. A program that is
-- pointed at another database notices before it makes every account anew.
-- least_version: as it is

CREATE TABLE database_identity (
    id TEXT NOT NULL PRIMARY KEY,
    only_row BOOLEAN NOT NULL DEFAULT TRUE UNIQUE CHECK (only_row)
);

INSERT INTO database_identity (id) VALUES (gen_random_uuid()::text);

-- Whoever could read the tables until now can tell which database it is.
GRANT SELECT ON database_identity TO PUBLIC;
