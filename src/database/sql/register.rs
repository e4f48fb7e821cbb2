//! The command line's view of the account database, [`AccountAdmin`], over SQL.

use super::commit::make;
use super::{CALL_TIMEOUT, Dialect, MANY_WITHIN, Session, SqlAccounts, journal, logins, read, reseal, write};
use crate::account::{Account, AccountId, AccountName, AffiliateName, ClusterId, KeyUse, Owner};
use crate::database::{
    AccountAdmin, Change, DatabaseError, JournalEntry, JournalRecord, Named, Resealed, RoleProblem, Schema, SealedPair,
};
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// An account's name, and cluster, namespace and name of its owner.
type NameRow = (String, Option<String>, Option<String>, Option<String>);

fn named((name, cluster, namespace, resource): NameRow) -> Named {
    let owner = || Some(Owner { cluster: ClusterId::parse(&cluster?).ok()?, namespace: namespace?, name: resource? });
    Named { name, owner: owner() }
}

#[async_trait]
impl<D: Dialect> AccountAdmin for SqlAccounts<D> {
    async fn list(&self) -> Result<Vec<Result<Account, DatabaseError>>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.each(&read::EVERY, &[])).await
    }

    async fn journal(&self, id: AccountId) -> Result<Vec<JournalEntry>, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let entries = journal::of(&mut session, id).await?;
            session.finish().await?;
            Ok(entries)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn journal_after(&self, after: i64, limit: u16) -> Result<Vec<JournalRecord>, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let records = journal::after(&mut session, after, limit).await?;
            session.finish().await?;
            Ok(records)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn commit_all(&self, changes: &[Change]) -> Result<(), DatabaseError> {
        let work = async {
            let mut session = self.dialect.write().await?;
            for change in changes {
                make::<D>(&mut session, change).await?;
            }
            session.finish().await?;
            Ok(())
        };
        self.answer(MANY_WITHIN, work).await
    }

    async fn list_undeclared(&self) -> Result<Vec<Result<Account, DatabaseError>>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.each(&read::UNDECLARED, &[])).await
    }

    async fn find_by_resource(&self, namespace: Option<&str>, name: &str) -> Result<Vec<Account>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.all(&read::BY_RESOURCE, &[namespace.into(), name.into()])).await
    }

    async fn find_deleted_by_name(&self, name: &AccountName) -> Result<Vec<Account>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.all(&read::DELETED_BY_NAME, &[name.comparable().as_str().into()])).await
    }

    async fn names(&self, limit: u16) -> Result<Vec<Named>, DatabaseError> {
        const NAMES: &str = "SELECT name, owner_cluster, owner_namespace, owner_name FROM accounts \
             WHERE deleted_at IS NULL ORDER BY name, id LIMIT $1";
        let work = async {
            let mut session = self.dialect.read().await?;
            let rows: Vec<NameRow> = session.rows(NAMES, &[i64::from(limit).into()]).await?;
            session.finish().await?;
            Ok(rows.into_iter().map(named).collect())
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn owners(&self) -> Result<Vec<Owner>, DatabaseError> {
        const OWNERS: &str = "SELECT owner_cluster, owner_namespace, owner_name FROM accounts \
             WHERE owner_cluster IS NOT NULL";
        let work = async {
            let mut session = self.dialect.read().await?;
            let rows: Vec<(String, String, String)> = session.rows(OWNERS, &[]).await?;
            session.finish().await?;
            // A row with an invalid cluster id cannot belong to a resource.
            let owner = |(cluster, namespace, name): (String, String, String)| {
                Some(Owner { cluster: ClusterId::parse(&cluster).ok()?, namespace, name })
            };
            Ok(rows.into_iter().filter_map(owner).collect())
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn uses(&self, account: Option<AccountId>) -> Result<Vec<KeyUse>, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let uses = logins::uses::of_account(&mut session, account).await?;
            session.finish().await?;
            Ok(uses)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn missing_privileges(&self) -> Result<Vec<String>, DatabaseError> {
        match D::MISSING_PRIVILEGES {
            Some(statement) => Ok(self.answer(CALL_TIMEOUT, self.texts(statement)).await?.into_iter().collect()),
            None => Ok(Vec::new()),
        }
    }

    async fn auth_server_role_problems(&self, role: &str) -> Result<Vec<RoleProblem>, DatabaseError> {
        let Some(statement) = D::AUTH_SERVER_ROLE else { return Ok(Vec::new()) };
        let work = async {
            let mut session = self.dialect.read().await?;
            let rows: Vec<(String, String)> = session.rows(statement, &[role.into()]).await?;
            session.finish().await?;
            Ok(rows.into_iter().map(|(problem, remedy)| RoleProblem { problem, remedy }).collect())
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn register_affiliate(&self, name: &AffiliateName, at: Timestamp) -> Result<bool, DatabaseError> {
        let work = async {
            let mut session = self.dialect.write().await?;
            let new = write::register_affiliate(&mut session, name, at).await?;
            session.finish().await?;
            Ok(new)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn sealed_pairs(&self) -> Result<BTreeMap<String, u64>, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let counts = reseal::count(&mut session).await?;
            session.finish().await?;
            Ok(counts.into_iter().map(|(key, pairs)| (key, u64::try_from(pairs).unwrap_or(0))).collect())
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn sealed_with_other_keys(
        &self,
        than_with: &str,
        after: Option<&SealedPair>,
        limit: u16,
    ) -> Result<Vec<SealedPair>, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let pairs = reseal::sealed_with_other_keys(&mut session, than_with, after, limit.into()).await?;
            session.finish().await?;
            Ok(pairs)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn reseal(&self, pairs: &[Resealed], at: Timestamp) -> Result<u64, DatabaseError> {
        let work = async {
            let mut session = self.dialect.write().await?;
            let stored = reseal::reseal(&mut session, pairs, at).await?;
            session.finish().await?;
            Ok(stored)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn supersede(&self, key: &str, at: Timestamp) -> Result<(), DatabaseError> {
        let work = async {
            let mut session = self.dialect.write().await?;
            reseal::supersede(&mut session, key, at).await?;
            session.finish().await?;
            Ok(())
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn outgoing_keys(&self) -> Result<BTreeSet<String>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.texts("SELECT id FROM outgoing_sealing_keys")).await
    }

    async fn retire(&self, keys: &BTreeSet<String>, at: Timestamp) -> Result<BTreeSet<String>, DatabaseError> {
        let work = async {
            let mut session = self.dialect.write().await?;
            if let Some(lock) = D::LOCK_KEYS {
                session.run(lock, &[]).await?;
            }
            let retired = reseal::retire(&mut session, keys, at).await?;
            session.finish().await?;
            Ok(retired)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn schema(&self) -> Result<Schema, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.found_schema()).await
    }
}
