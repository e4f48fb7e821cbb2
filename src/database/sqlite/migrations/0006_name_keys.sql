-- least_version: as it is
--
-- Names that look the same are one name. What they are compared by is computed anew by the program, in the transaction of this
-- migration (sql/name_keys.rs), since SQL has no way to do that which both databases share.

SELECT 1;
