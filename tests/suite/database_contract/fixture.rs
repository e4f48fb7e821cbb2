//! Fresh SQLite and PostgreSQL databases, and accounts and changes to store in them.

use crate::support::postgres::{TestDatabase, postgres};
use jiff::Timestamp;
use opsadmin_operator::account::{
    Account, AccountId, AccountName, AffiliateName, AllowedIp, AllowedIps, ClusterId, Description, KeyEntropy, KeyId,
    KeyPair, KeyState, Owner, Role, RotationRequests, Settings, StoredKey, StoredSettings, Version, changes,
};
use opsadmin_operator::database::{
    AccountAdmin, Action, Change, DatabaseError, Keyring, UnknownAffiliate, WithLogins, open, open_with_logins,
};
use rand::TryRng as _;
use rand::rngs::SysRng;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, raw_sql};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// An empty database without tables. It is deleted when this value is dropped.
pub struct Fresh {
    url: String,
    keeper: Keeper,
}

enum Keeper {
    Folder(TempDir),
    Server(TestDatabase),
}

/// The value of one column of one row, as text; `None` for NULL.
pub type Cell = Option<String>;

impl Fresh {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            url: format!("sqlite://{}", folder.path().join("accounts.db").display()),
            keeper: Keeper::Folder(folder),
        }
    }

    pub async fn postgres(test_name: &str) -> Self {
        let database = postgres().await.database(test_name).await;
        Self { url: database.url().to_owned(), keeper: Keeper::Server(database) }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file of an SQLite database; `None` for PostgreSQL.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.keeper {
            Keeper::Folder(folder) => Some(folder.path().join("accounts.db")),
            Keeper::Server(database) => {
                assert!(self.url.ends_with(database.name()));
                None
            }
        }
    }

    /// Opens the database and creates its tables.
    pub async fn open(&self) -> Arc<dyn AccountAdmin> {
        let database = open(&self.url).unwrap();
        database.migrate().await.unwrap();
        database
    }

    /// Opens the database with its logins and creates its tables.
    pub async fn open_with_logins(&self) -> WithLogins {
        self.open().await.close().await;
        open_with_logins(&self.url).unwrap()
    }

    /// Runs SQL on a connection of its own, as a user does by hand. Foreign keys are enforced.
    pub async fn by_hand(&self, sql: &str) -> Result<Vec<Vec<Cell>>, sqlx::Error> {
        if self.file().is_some() {
            let mut connection = SqliteConnection::connect(&self.url).await?;
            let rows = raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await;
            connection.close().await?;
            Ok(rows?.iter().map(|row| (0..row.len()).map(|column| row.get_unchecked(column)).collect()).collect())
        } else {
            let mut connection = PgConnection::connect(&self.url).await?;
            // The simple protocol returns every value as text.
            let rows = raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await;
            connection.close().await?;
            Ok(rows?.iter().map(|row| (0..row.len()).map(|column| row.get_unchecked(column)).collect()).collect())
        }
    }

    /// Runs a query and returns the first column of each row.
    pub async fn column(&self, sql: &str) -> Vec<String> {
        let rows = self.by_hand(sql).await.unwrap();
        rows.into_iter().map(|mut row| row.swap_remove(0).unwrap_or_else(|| "NULL".to_owned())).collect()
    }

    /// Returns the number of rows of a table.
    pub async fn count(&self, table: &str) -> String {
        self.column(&format!("SELECT count(*) FROM {table}")).await.remove(0)
    }
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).unwrap();
    bytes
}

pub fn keyring() -> Keyring {
    Keyring::from_random(Zeroizing::new([7; 32]))
}

pub fn now() -> Timestamp {
    Timestamp::from_microsecond(1_790_000_000_123_456).unwrap()
}

pub fn owner(name: &str) -> Owner {
    owner_in("one", name)
}

pub fn owner_in(cluster: &str, name: &str) -> Owner {
    Owner { cluster: ClusterId::parse(cluster).unwrap(), namespace: "partners".to_owned(), name: name.to_owned() }
}

pub fn name(text: &str) -> AccountName {
    AccountName::parse(text).unwrap()
}

pub fn affiliate(text: &str) -> AffiliateName {
    AffiliateName::parse(text).unwrap()
}

pub fn ips(texts: &[&str]) -> AllowedIps {
    AllowedIps::from_networks(texts.iter().map(|text| AllowedIp::parse(text).unwrap()))
}

/// Settings with a default in every field but the name.
pub fn settings(account_name: &str) -> Settings {
    Settings {
        name: name(account_name),
        description: Description::default(),
        enabled: true,
        use_refresh_token: false,
        affiliate: None,
        roles: BTreeSet::new(),
        allowed_ips: AllowedIps::any(),
    }
}

/// Settings with a value other than the default in every field.
pub fn full_settings(account_name: &str) -> Settings {
    Settings {
        name: name(account_name),
        description: Description::parse("Zoë Ünal\n\treads plans; писать нельзя 🔌").unwrap(),
        enabled: false,
        use_refresh_token: true,
        affiliate: Some(affiliate("Énergie du Nord")),
        roles: BTreeSet::from([Role::Customer, Role::PlansAndRates]),
        allowed_ips: ips(&["203.0.113.7", "10.0.0.0/8", "2001:db8::/32"]),
    }
}

pub fn pair() -> KeyPair {
    let entropy = KeyEntropy { api_key: random(), secret_key: Zeroizing::new(random()) };
    KeyPair::from_entropy(KeyId::from_random(random()), &entropy)
}

pub fn stored(account: AccountId, pair: &KeyPair) -> StoredKey {
    StoredKey {
        id: pair.id,
        api_key: pair.api_key.clone(),
        sealed: keyring().seal(account, pair.id, &pair.secret_key, random()),
        state: KeyState::Active,
        created: now(),
    }
}

pub fn change(account: AccountId, action: Action) -> Change {
    Change { account, action, at: now(), actor: "controller".to_owned(), generation: Some(3), requested_by: None }
}

/// A rotation to this pair that ends the old pairs at once.
pub fn rotation(account: &Account, to: &KeyPair) -> Change {
    rotation_with_overlap(account, to, None, Vec::new())
}

/// A rotation to this pair. The active pair works until `old_expires`, and the pairs in `revoke` end at once.
pub fn rotation_with_overlap(
    account: &Account,
    to: &KeyPair,
    old_expires: Option<Timestamp>,
    revoke: Vec<KeyId>,
) -> Change {
    let key = stored(account.id, to);
    let (expected, answered) = (account.version, account.answered_requests.clone());
    change(account.id, Action::Rotate { expected, key, old_expires, revoke, answered })
}

/// A change that creates an account, and registers its affiliate if that is unknown.
pub fn creation(owner: Owner, settings: Settings) -> Change {
    let account = AccountId::from_random(random());
    let key = stored(account, &pair());
    let unknown_affiliate = UnknownAffiliate::Register;
    change(account, Action::Create { owner, settings, key, answered: RotationRequests::default(), unknown_affiliate })
}

pub async fn create(database: &dyn AccountAdmin, owner: Owner, settings: Settings) -> Account {
    database.commit(&creation(owner, settings)).await.unwrap()
}

/// A change of the observed account to the desired settings.
pub fn update(observed: &Account, settings: &Settings) -> Change {
    let action = Action::Update {
        expected: observed.version,
        settings: settings.clone(),
        changes: changes(&observed.settings, settings),
        unknown_affiliate: UnknownAffiliate::Refuse,
    };
    change(observed.id, action)
}

pub fn deletion(observed: &Account) -> Change {
    change(observed.id, Action::Delete { expected: observed.version, confirmed: false })
}

/// The account that the database must return after an update.
pub fn updated(observed: &Account, settings: &Settings) -> Account {
    Account { version: Version(observed.version.0 + 1), settings: StoredSettings::from(settings), ..observed.clone() }
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "an answer is made to be looked at once")]
pub fn assert_conflict<T: std::fmt::Debug>(answer: Result<T, DatabaseError>) {
    assert!(matches!(answer, Err(DatabaseError::Conflict)), "{answer:?}");
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "an answer is made to be looked at once")]
pub fn assert_name_taken<T: std::fmt::Debug>(answer: Result<T, DatabaseError>, taken: &str) {
    assert!(matches!(&answer, Err(DatabaseError::NameTaken { name }) if name.as_str() == taken), "{answer:?}");
}

/// A change that imports an account with these settings.
pub fn import(settings: Settings) -> Change {
    let account = AccountId::from_random(random());
    let key = stored(account, &pair());
    change(account, Action::Import { settings, key, adopter: None, unknown_affiliate: UnknownAffiliate::Register })
}

/// Returns the accounts of a list. Panics if one of them cannot be read.
pub fn readable(listed: Result<Vec<Result<Account, DatabaseError>>, DatabaseError>) -> Vec<Account> {
    listed.unwrap().into_iter().map(Result::unwrap).collect()
}

/// The folder with the migrations for this kind of database.
pub fn migrations_folder(fresh: &Fresh) -> PathBuf {
    let kind = if fresh.file().is_some() { "sqlite" } else { "postgres" };
    [env!("CARGO_MANIFEST_DIR"), "src/database", kind, "migrations"].iter().collect()
}

/// The names of this program's migrations, oldest first.
pub fn migrations() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/database/sqlite/migrations");
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.map(|name| name.strip_suffix(".sql").unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Migrates as another version of the program does: with the `first` oldest migrations of this program, then with the
/// migrations in `own`, which are pairs of name and SQL.
pub async fn migrate_as_another(fresh: &Fresh, first: usize, own: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    for name in migrations().iter().take(first) {
        let file = format!("{name}.sql");
        fs::copy(migrations_folder(fresh).join(&file), folder.path().join(&file)).unwrap();
    }
    for (name, sql) in own {
        fs::write(folder.path().join(format!("{name}.sql")), sql).unwrap();
    }
    let migrator = Migrator::new(folder.path()).await.unwrap();
    if fresh.file().is_some() {
        let mut connection = SqliteConnection::connect(&format!("{}?mode=rwc", fresh.url())).await.unwrap();
        migrator.run(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    } else {
        let mut connection = PgConnection::connect(fresh.url()).await.unwrap();
        migrator.run(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}
