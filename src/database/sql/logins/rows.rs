//! The rows of the tables of logins, and their conversion to logins and uses of key pairs.

use crate::account::{AccountId, KeyId};
use crate::database::DatabaseError;
use crate::database::sql::Value;
use crate::database::sql::rows::Cell;
use crate::login::{
    End, EndReason, Family, FamilySeed, Generation, IssuedToken, Login, LoginId, TokenHash, Tokens, UsedAssertion,
};
use base64::prelude::*;
use sqlx::FromRow;
use std::net::IpAddr;

/// A row of `logins`.
#[derive(FromRow)]
pub(super) struct LoginRow {
    id: String,
    account_id: String,
    key_id: String,
    address: String,
    began_at: i64,
    expires_at: i64,
    access_hash: Vec<u8>,
    access_expires_at: i64,
    refresh_hash: Option<Vec<u8>>,
    family_seed: Option<Vec<u8>>,
    previous_access_hash: Option<Vec<u8>>,
    previous_access_expires_at: Option<i64>,
    previous_refresh_hash: Option<Vec<u8>>,
    ended_at: Option<i64>,
    end_reason: Option<String>,
}

/// The columns of `logins`, in the order of [`NewLogin::values`].
const COLUMNS: [&str; 15] = [
    "id",
    "account_id",
    "key_id",
    "address",
    "began_at",
    "expires_at",
    "access_hash",
    "access_expires_at",
    "refresh_hash",
    "family_seed",
    "previous_access_hash",
    "previous_access_expires_at",
    "previous_refresh_hash",
    "ended_at",
    "end_reason",
];

/// A new row of `logins`. Holds what a [`Login`] has in another form than its columns.
pub(super) struct NewLogin<'a> {
    login: &'a Login,
    id: String,
    account: String,
    key: String,
    address: String,
}

impl LoginRow {
    /// Returns the login of this row.
    pub fn decode(self) -> Result<Login, DatabaseError> {
        let cell = |column| self.cell(column);
        let access = IssuedToken {
            hash: self.hash("access_hash", &self.access_hash)?,
            expires: cell("access_expires_at").time(self.access_expires_at)?,
        };
        let tokens = match (&self.refresh_hash, &self.family_seed) {
            (None, None) => Tokens::Access(access),
            (Some(refresh), Some(seed)) => Tokens::Family(Family {
                seed: FamilySeed::from_bytes(self.bytes("family_seed", seed)?),
                current: Generation { refresh: self.hash("refresh_hash", refresh)?, access },
                previous: self.previous()?,
                expires: cell("expires_at").time(self.expires_at)?,
            }),
            _ => return Err(cell("family_seed").unreadable("the family is not whole".to_owned())),
        };
        let address: IpAddr =
            self.address.parse().map_err(|_| cell("address").unreadable("it is not an IP address".to_owned()))?;
        Ok(Login {
            id: cell("id").id(&self.id, LoginId::parse)?,
            account: cell("account_id").id(&self.account_id, AccountId::parse)?,
            key: cell("key_id").id(&self.key_id, KeyId::parse)?,
            began: cell("began_at").time(self.began_at)?,
            address,
            tokens,
            end: self.end()?,
        })
    }

    fn previous(&self) -> Result<Option<Generation>, DatabaseError> {
        let columns = (&self.previous_refresh_hash, &self.previous_access_hash, self.previous_access_expires_at);
        match columns {
            (None, None, None) => Ok(None),
            (Some(refresh), Some(access), Some(expires)) => Ok(Some(Generation {
                refresh: self.hash("previous_refresh_hash", refresh)?,
                access: IssuedToken {
                    hash: self.hash("previous_access_hash", access)?,
                    expires: self.cell("previous_access_expires_at").time(expires)?,
                },
            })),
            _ => Err(self.cell("previous_refresh_hash").unreadable("the generation is not whole".to_owned())),
        }
    }

    fn end(&self) -> Result<Option<End>, DatabaseError> {
        match (self.ended_at, &self.end_reason) {
            (None, None) => Ok(None),
            (Some(at), Some(reason)) => Ok(Some(End {
                at: self.cell("ended_at").time(at)?,
                reason: EndReason::parse(reason)
                    .ok_or_else(|| self.cell("end_reason").unreadable(format!("{reason:?} is no reason")))?,
            })),
            _ => Err(self.cell("end_reason").unreadable("the end is not whole".to_owned())),
        }
    }

    fn hash(&self, column: &'static str, bytes: &[u8]) -> Result<TokenHash, DatabaseError> {
        self.bytes(column, bytes).map(TokenHash::from_bytes)
    }

    fn bytes(&self, column: &'static str, bytes: &[u8]) -> Result<[u8; 32], DatabaseError> {
        bytes.try_into().map_err(|_| self.cell(column).unreadable(format!("it has {} bytes, not 32", bytes.len())))
    }

    fn cell(&self, column: &'static str) -> Cell<'_> {
        Cell { table: "logins", column, row: &self.id }
    }
}

impl<'a> NewLogin<'a> {
    pub fn of(login: &'a Login) -> Self {
        Self {
            login,
            id: login.id.to_string(),
            account: login.account.to_string(),
            key: login.key.to_string(),
            address: login.address.to_string(),
        }
    }

    /// Returns the values of the columns, in the order of the `INSERT`.
    pub fn values(&self) -> [Value<'_>; 15] {
        let (access, family) = match &self.login.tokens {
            Tokens::Access(access) => (access, None),
            Tokens::Family(family) => (&family.current.access, Some(family)),
        };
        let previous = family.and_then(|family| family.previous.as_ref());
        let end = self.login.end;
        [
            self.id.as_str().into(),
            self.account.as_str().into(),
            self.key.as_str().into(),
            self.address.as_str().into(),
            self.login.began.as_microsecond().into(),
            self.login.expires().as_microsecond().into(),
            access.hash.as_bytes().as_slice().into(),
            access.expires.as_microsecond().into(),
            family.map(|family| family.current.refresh.as_bytes().as_slice()).into(),
            family.map(|family| family.seed.expose().as_slice()).into(),
            previous.map(|previous| previous.access.hash.as_bytes().as_slice()).into(),
            previous.map(|previous| previous.access.expires.as_microsecond()).into(),
            previous.map(|previous| previous.refresh.as_bytes().as_slice()).into(),
            end.map(|end| end.at.as_microsecond()).into(),
            end.map(|end| end.reason.as_str()).into(),
        ]
    }

    /// Returns the columns, under their names, and the assertion as JSON, with bytes in base64.
    pub fn json(&self, assertion: &UsedAssertion) -> serde_json::Value {
        let mut row: serde_json::Map<_, _> =
            COLUMNS.into_iter().zip(self.values()).map(|(column, value)| (column.to_owned(), as_json(value))).collect();
        row.insert("jti_hash".to_owned(), as_json(assertion.hash.as_bytes().as_slice().into()));
        row.insert("keep_until".to_owned(), assertion.until.as_microsecond().into());
        row.into()
    }
}

fn as_json(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::Text(text) => text.into(),
        Value::MaybeText(text) => text.into(),
        Value::Int(number) => number.into(),
        Value::MaybeInt(number) => number.into(),
        Value::Bool(truth) => truth.into(),
        Value::Bytes(bytes) => BASE64_STANDARD.encode(bytes).into(),
        Value::MaybeBytes(bytes) => bytes.map(|bytes| BASE64_STANDARD.encode(bytes)).into(),
    }
}
