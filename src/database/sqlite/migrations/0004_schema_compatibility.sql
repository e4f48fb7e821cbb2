-- Which programs can work with this schema. `least_version` is the number of the newest migration that a program must know.
-- Each later migration says what it does to it. One that only adds what older programs can do without has the comment
-- `least_version: as it is`. Any other sets it to its own number: UPDATE schema_compatibility SET least_version = 5;

CREATE TABLE schema_compatibility (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    least_version INTEGER NOT NULL CHECK (least_version >= 1)
) STRICT;

INSERT INTO schema_compatibility (only_row, least_version) VALUES (1, 4);
