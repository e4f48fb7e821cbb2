//! Queries for the rights of roles: which ones are missing, and which ones an auth server does not need.

/// The privileges that a controller needs and the current user lacks.
pub(super) const MISSING_PRIVILEGES: &str = "\
    SELECT privilege || ' ' || name FROM (VALUES \
        ('accounts', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), \
        ('account_roles', ARRAY['SELECT', 'INSERT', 'DELETE']), \
        ('account_allowed_ips', ARRAY['SELECT', 'INSERT', 'DELETE']), \
        ('account_keys', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), \
        ('affiliates', ARRAY['SELECT', 'INSERT']), \
        ('account_journal', ARRAY['SELECT', 'INSERT']), \
        ('outgoing_sealing_keys', ARRAY['SELECT']), \
        ('database_identity', ARRAY['SELECT']), \
        ('revoked_keys', ARRAY['SELECT', 'INSERT']), \
        ('schema_compatibility', ARRAY['SELECT']), \
        ('key_uses', ARRAY['SELECT']), \
        ('_sqlx_migrations', ARRAY['SELECT'])) AS needed (name, privileges) \
    CROSS JOIN LATERAL unnest(privileges) AS privilege \
    WHERE NOT has_table_privilege(name, privilege)";

/// What is wrong with the role `$1` of an auth server, and the statement that corrects it.
///
/// A role may have a right by itself, as everybody (`PUBLIC`), as a member of another role, or as a member of a predefined
/// role such as `pg_write_all_data`, which no access list of a table names. A right on single columns counts. It ends
/// together with the right on the table, if the role has it by itself: the access lists of columns are not read. A migration
/// gives everybody the right to read `revoked_keys`.
pub(super) const AUTH_SERVER_ROLE: &str = "\
    WITH role AS (SELECT oid, rolname, rolcanlogin, rolsuper FROM pg_roles WHERE rolname = $1), \
    needed (name, privileges) AS (VALUES \
        ('accounts', ARRAY['SELECT']), \
        ('account_roles', ARRAY['SELECT']), \
        ('account_allowed_ips', ARRAY['SELECT']), \
        ('account_keys', ARRAY['SELECT']), \
        ('database_identity', ARRAY['SELECT']), \
        ('schema_compatibility', ARRAY['SELECT']), \
        ('_sqlx_migrations', ARRAY['SELECT']), \
        ('logins', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), \
        ('login_assertions', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), \
        ('key_uses', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), \
        ('affiliates', ARRAY[]::text[]), \
        ('account_journal', ARRAY[]::text[]), \
        ('outgoing_sealing_keys', ARRAY[]::text[]), \
        ('revoked_keys', ARRAY[]::text[])), \
    excess AS (SELECT role.oid AS role, rolname, pg_class.oid AS table, name, relowner, relacl, privilege \
        FROM role CROSS JOIN needed JOIN pg_class ON pg_class.oid = name::regclass \
        CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege \
        WHERE NOT rolsuper AND privilege <> ALL (privileges) AND (name, privilege) <> ('revoked_keys', 'SELECT') AND CASE \
            WHEN privilege IN ('DELETE', 'TRUNCATE') THEN has_table_privilege(role.oid, pg_class.oid, privilege) \
            ELSE has_any_column_privilege(role.oid, pg_class.oid, privilege) END) \
    SELECT 'does not exist', format('CREATE ROLE %I LOGIN', $1::text) WHERE NOT EXISTS (SELECT FROM role) \
    UNION ALL SELECT 'may not log in', format('ALTER ROLE %I LOGIN', rolname) FROM role WHERE NOT rolcanlogin \
    UNION ALL SELECT 'may not CONNECT', format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), rolname) \
    FROM role WHERE NOT has_database_privilege(oid, current_database(), 'CONNECT') \
    UNION ALL SELECT 'may not use the schema ' || current_schema(), \
        format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), rolname) \
    FROM role WHERE NOT has_schema_privilege(oid, current_schema(), 'USAGE') \
    UNION ALL SELECT 'may not ' || privilege || ' ' || name, format('GRANT %s ON %I TO %I', privilege, name, rolname) \
    FROM role CROSS JOIN needed CROSS JOIN LATERAL unnest(privileges) AS privilege \
    WHERE NOT has_table_privilege(oid, name, privilege) \
    UNION ALL SELECT 'is a superuser', format('ALTER ROLE %I NOSUPERUSER', rolname) FROM role WHERE rolsuper \
    UNION ALL SELECT DISTINCT 'owns ' || name, format('ALTER TABLE %I OWNER TO %I', name, current_user) FROM excess \
    WHERE pg_has_role(role, relowner, 'USAGE') \
    UNION ALL SELECT DISTINCT 'may ' || privilege || ' ' || name || ', which it does not need', CASE \
        WHEN grantee = 0 THEN format('REVOKE %s ON %I FROM PUBLIC', privilege, name) \
        WHEN grantee <> role THEN format('REVOKE %I FROM %I', pg_get_userbyid(grantee), rolname) \
        ELSE format('REVOKE %s ON %I FROM %I', privilege, name, rolname) END \
    FROM excess LEFT JOIN LATERAL ( \
        SELECT acl.grantee FROM aclexplode(relacl) AS acl \
        WHERE privilege_type = privilege AND (acl.grantee = 0 OR pg_has_role(role, acl.grantee, 'USAGE')) \
        UNION SELECT oid FROM pg_roles WHERE rolname IN ('pg_read_all_data', 'pg_write_all_data') \
            AND (rolname = 'pg_read_all_data') = (privilege = 'SELECT') AND privilege <> 'TRUNCATE' \
            AND pg_has_role(role, oid, 'USAGE')) AS through ON true \
    WHERE NOT pg_has_role(role, relowner, 'USAGE')";
