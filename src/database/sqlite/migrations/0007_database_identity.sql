-- Which database this is: made once, copied with the database, and compared by whoever remembers it. A program that is
-- pointed at another database notices before it makes every account anew.
-- least_version: as it is

CREATE TABLE database_identity (
    id TEXT NOT NULL PRIMARY KEY,
    only_row INTEGER NOT NULL DEFAULT 1 UNIQUE CHECK (only_row = 1)
) STRICT;

INSERT INTO database_identity (id) VALUES (
    lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-8' ||
        substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))
);
