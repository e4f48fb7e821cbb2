//! Records an assertion together with what it is accepted for, within the given transaction.

use super::rows::NewLogin;
use crate::database::sql::fault::Fault;
use crate::database::sql::{Session, Value};
use crate::login::{AssertionUse, Generation, Generations, Login, LoginId, RefreshWrite, TokenHash, UsedAssertion};
use std::collections::HashSet;

/// `$1` to `$15`: the columns of [`NewLogin`]; `$16` to `$18`: key pair, hash and end of the assertion. Answers no row
/// for a replay.
const BEGIN: &str = "WITH first AS (INSERT INTO login_assertions (key_id, jti_hash, keep_until) VALUES ($16, $17, $18) \
     ON CONFLICT (key_id, jti_hash) DO NOTHING RETURNING key_id) \
     INSERT INTO logins (id, account_id, key_id, address, began_at, expires_at, access_hash, access_expires_at, \
     refresh_hash, family_seed, previous_access_hash, previous_access_expires_at, previous_refresh_hash, ended_at, \
     end_reason) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15 FROM first RETURNING id";

/// The same for several logins; `$1`: a JSON list of [`NewLogin::json`]. Answers the ids of those that began. Assertions
/// are added in one order by all servers, so that no two wait for each other.
const BEGIN_MANY: &str = "WITH asked AS (SELECT DISTINCT ON (key_id, jti_hash) * FROM jsonb_to_recordset($1::jsonb) \
     AS asked (id text, account_id text, key_id text, address text, began_at bigint, expires_at bigint, \
     access_hash text, access_expires_at bigint, refresh_hash text, family_seed text, previous_access_hash text, \
     previous_access_expires_at bigint, previous_refresh_hash text, ended_at bigint, end_reason text, jti_hash text, \
     keep_until bigint) ORDER BY key_id, jti_hash), \
     first AS (INSERT INTO login_assertions (key_id, jti_hash, keep_until) \
     SELECT key_id, decode(jti_hash, 'base64'), keep_until FROM asked \
     ON CONFLICT (key_id, jti_hash) DO NOTHING RETURNING key_id, jti_hash) \
     INSERT INTO logins (id, account_id, key_id, address, began_at, expires_at, access_hash, access_expires_at, \
     refresh_hash, family_seed, previous_access_hash, previous_access_expires_at, previous_refresh_hash, ended_at, \
     end_reason) SELECT id, account_id, asked.key_id, address, began_at, expires_at, decode(access_hash, 'base64'), \
     access_expires_at, decode(refresh_hash, 'base64'), decode(family_seed, 'base64'), \
     decode(previous_access_hash, 'base64'), previous_access_expires_at, decode(previous_refresh_hash, 'base64'), \
     ended_at, end_reason FROM asked JOIN first ON first.key_id = asked.key_id \
     AND first.jti_hash = decode(asked.jti_hash, 'base64') RETURNING id";

const ADD_LOGIN: &str = "INSERT INTO logins (id, account_id, key_id, address, began_at, expires_at, access_hash, \
     access_expires_at, refresh_hash, family_seed, previous_access_hash, previous_access_expires_at, \
     previous_refresh_hash, ended_at, end_reason) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";

const ADD_ASSERTION: &str = "INSERT INTO login_assertions (key_id, jti_hash, keep_until) VALUES ($1, $2, $3) \
     ON CONFLICT (key_id, jti_hash) DO NOTHING RETURNING key_id";

const REFRESH: &str = "UPDATE logins SET access_hash = $3, access_expires_at = $4, refresh_hash = $5, \
     previous_access_hash = $6, previous_access_expires_at = $7, previous_refresh_hash = $8 \
     WHERE id = $1 AND refresh_hash = $2 AND ended_at IS NULL RETURNING id";

/// An assertion, and what it is accepted for.
#[derive(Debug)]
pub(in crate::database) enum Acceptance {
    /// A new login.
    Begin { login: Login, assertion: UsedAssertion },
    /// The next generation of a family whose current refresh token is `expected`.
    Refresh { login: LoginId, expected: TokenHash, next: Generations, assertion: UsedAssertion },
    /// Nothing that is written.
    Nothing { assertion: UsedAssertion },
}

/// The outcome of an [`Acceptance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::database) enum Accepted {
    /// Everything was written.
    Done,
    /// The assertion was used before. Nothing was written.
    Replay,
    /// The login ended or changed in the meantime. Nothing may be committed.
    Overtaken,
}

/// Writes an acceptance. Only [`Accepted::Done`] may be committed.
pub(in crate::database) async fn accept<S: Session>(
    session: &mut S,
    acceptance: &Acceptance,
) -> Result<Accepted, Fault> {
    if !is_first_use(session, acceptance.assertion()).await? {
        return Ok(Accepted::Replay);
    }
    match acceptance {
        Acceptance::Nothing { .. } => Ok(Accepted::Done),
        Acceptance::Begin { login, .. } => {
            session.run(ADD_LOGIN, &NewLogin::of(login).values()).await?;
            Ok(Accepted::Done)
        }
        Acceptance::Refresh { login, expected, next, .. } => {
            let login = login.to_string();
            let [access, expires, refresh] = generation(&next.current);
            let [previous_access, previous_expires, previous_refresh] = generation(&next.previous);
            let values = [
                login.as_str().into(),
                expected.as_bytes().as_slice().into(),
                access,
                expires,
                refresh,
                previous_access,
                previous_expires,
                previous_refresh,
            ];
            let refreshed: Vec<(String,)> = session.rows(REFRESH, &values).await?;
            Ok(if refreshed.is_empty() { Accepted::Overtaken } else { Accepted::Done })
        }
    }
}

/// Begins a login in one statement, for a database whose statements may contain several writes.
pub(in crate::database) async fn begin_in_one_statement<S: Session>(
    session: &mut S,
    login: &Login,
    assertion: &UsedAssertion,
) -> Result<Accepted, Fault> {
    let (login, key) = (NewLogin::of(login), assertion.key.to_string());
    let values: Vec<Value<'_>> = login.values().into_iter().chain(assertion_values(assertion, &key)).collect();
    let begun: Vec<(String,)> = session.rows(BEGIN, &values).await?;
    Ok(if begun.is_empty() { Accepted::Replay } else { Accepted::Done })
}

/// Begins logins in one statement, and returns the ids of those whose assertion is used for the first time. Of several
/// with one assertion, one begins.
pub(in crate::database) async fn begin_many<'a, S: Session>(
    session: &mut S,
    logins: impl Iterator<Item = (&'a Login, &'a UsedAssertion)>,
) -> Result<HashSet<String>, Fault> {
    let listed: serde_json::Value = logins.map(|(login, assertion)| NewLogin::of(login).json(assertion)).collect();
    let begun: Vec<(String,)> = session.rows(BEGIN_MANY, &[listed.to_string().as_str().into()]).await?;
    Ok(begun.into_iter().map(|(id,)| id).collect())
}

async fn is_first_use<S: Session>(session: &mut S, assertion: &UsedAssertion) -> Result<bool, Fault> {
    let key = assertion.key.to_string();
    let added: Vec<(String,)> = session.rows(ADD_ASSERTION, &assertion_values(assertion, &key)).await?;
    Ok(!added.is_empty())
}

fn assertion_values<'a>(assertion: &'a UsedAssertion, key: &'a str) -> [Value<'a>; 3] {
    [key.into(), assertion.hash.as_bytes().as_slice().into(), assertion.until.as_microsecond().into()]
}

fn generation(generation: &Generation) -> [Value<'_>; 3] {
    [
        generation.access.hash.as_bytes().as_slice().into(),
        generation.access.expires.as_microsecond().into(),
        generation.refresh.as_bytes().as_slice().into(),
    ]
}

impl Acceptance {
    fn assertion(&self) -> &UsedAssertion {
        match self {
            Self::Begin { assertion, .. } | Self::Refresh { assertion, .. } | Self::Nothing { assertion } => assertion,
        }
    }
}

impl From<Accepted> for AssertionUse {
    fn from(accepted: Accepted) -> Self {
        match accepted {
            Accepted::Done => Self::First,
            // Only a refresh can be overtaken. If it were anything else, the assertion would not have been recorded.
            Accepted::Replay | Accepted::Overtaken => Self::Replay,
        }
    }
}

impl From<Accepted> for RefreshWrite {
    fn from(accepted: Accepted) -> Self {
        match accepted {
            Accepted::Done => Self::Done,
            Accepted::Replay => Self::Replay,
            Accepted::Overtaken => Self::Overtaken,
        }
    }
}
