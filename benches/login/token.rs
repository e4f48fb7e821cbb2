//! `/token`, against the bare insert of the same rows by as many connections; and the memory that live tokens take.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use jiff::Timestamp;
use rand::TryRng as _;
use rand::rngs::SysRng;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use uuid::Uuid;

use super::load::send;
use super::partners::{access_token, question};
use super::processes::{memory, processor_time};
use super::world::{AUTH_SERVER, AuthServer, Engine, World};

/// The measurements of each kind, taken in turn.
const ROUNDS: usize = 5;
/// The connections of clients. The auth server has half as many to the database.
const CONNECTIONS: usize = 16;
const DATABASE_CONNECTIONS: usize = 8;
const LOGINS: usize = 2_400;

/// The bound of the promise, for PostgreSQL.
const LOGINS_OF_BARE: f64 = 0.7;

/// The number of live tokens whose memory is measured, and the bound of the promise in KiB.
const LIVE_TOKENS: usize = 100_000;
const MEMORY: u64 = 64 * 1024;

/// The rows that a login writes.
const BARE: &str = "WITH first AS (INSERT INTO login_assertions (key_id, jti_hash, keep_until) VALUES ($1, $2, $3) \
    RETURNING key_id) INSERT INTO logins (id, account_id, key_id, address, began_at, expires_at, access_hash, \
    access_expires_at) SELECT $4, $5, $1, $6, $3, $3, $7, $3 FROM first";

/// The same for SQLite, which has no statement that writes two tables.
const BARE_ASSERTION: &str = "INSERT INTO login_assertions (key_id, jti_hash, keep_until) VALUES ($1, $2, $3)";
const BARE_LOGIN: &str = "INSERT INTO logins (id, account_id, key_id, address, began_at, expires_at, access_hash, \
    access_expires_at) VALUES ($1, $2, $3, $4, $5, $5, $6, $5)";

pub struct Measured {
    engine: Engine,
    bare_per_second: f64,
    logins_per_second: f64,
    cpu: Duration,
    /// In KiB, for [`LIVE_TOKENS`].
    memory: u64,
}

impl Measured {
    fn ratio(&self) -> f64 {
        self.logins_per_second / self.bare_per_second
    }

    pub fn is_within_bounds(&self) -> bool {
        // SQLite's bare insert has one connection, because it has one writer. The logins share commits.
        let is_fast = self.engine == Engine::Sqlite || self.ratio() >= LOGINS_OF_BARE;
        is_fast && self.memory < MEMORY
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} logins a second, {:.0} us of CPU each, against {:.0} bare inserts a second: {:.2} (at least \
             {LOGINS_OF_BARE} on PostgreSQL); {} MiB for {LIVE_TOKENS} live tokens (less than {} MiB)",
            self.logins_per_second,
            self.cpu.as_secs_f64() * 1e6,
            self.bare_per_second,
            self.ratio(),
            self.memory.div_ceil(1024),
            MEMORY / 1024,
        )
    }
}

pub async fn measure(world: &World) -> Measured {
    let server = world.serve().await;
    let (mut bare, mut logins, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let inserted = insert(world).await;
        let before = processor_time()[AUTH_SERVER];
        let (count, took) = log_in(world, &server, LOGINS, round, |_| ()).await;
        // The first round is to warm up.
        if round > 0 {
            bare.push(inserted);
            logins.push(per_second(count, took));
            cpu.push(processor_time()[AUTH_SERVER].saturating_sub(before) / u32::try_from(count).expect("it is small"));
        }
    }
    server.stop().await;
    cpu.sort_unstable();
    Measured {
        engine: world.engine,
        bare_per_second: median(bare),
        logins_per_second: median(logins),
        cpu: cpu[cpu.len() / 2],
        memory: memory_for_live_tokens(world).await,
    }
}

/// Logs partners in this number of times over the connections. Gives each token to `keep`.
async fn log_in(
    world: &World,
    server: &AuthServer,
    logins: usize,
    round: usize,
    keep: impl Fn(String) + Clone,
) -> (usize, Duration) {
    let of_connection = |connection: usize| -> Vec<String> {
        let numbers = (connection..logins).step_by(CONNECTIONS);
        let login = |number: usize| world.partners[number % world.partners.len()].login(round * logins + number);
        numbers.map(login).collect()
    };
    let lists: Vec<Vec<String>> = (0..CONNECTIONS).map(of_connection).collect();
    let took = send(&server.public, lists, move |answer| {
        assert_eq!(answer.status, 200, "{}", answer.body);
        keep(access_token(&answer.body));
    })
    .await;
    (logins, took)
}

/// Inserts the rows of logins by bare statements. Returns the number in a second.
async fn insert(world: &World) -> f64 {
    match world.engine {
        Engine::Postgres => {
            let connect = (0..DATABASE_CONNECTIONS).map(|_| PgConnection::connect(&world.url));
            let mut connections = try_join_all(connect).await.expect("the database answers");
            let begun = Instant::now();
            let inserted = connections.iter_mut().map(async |connection| {
                for _ in 0..LOGINS / DATABASE_CONNECTIONS {
                    let row = Row::new();
                    let statement = sqlx::query(AssertSqlSafe(BARE)).bind(&row.key).bind(&row.hash).bind(row.time);
                    let statement = statement.bind(&row.id).bind(&row.account).bind("192.0.2.7").bind(&row.hash);
                    statement.execute(&mut *connection).await?;
                }
                Ok::<_, sqlx::Error>(())
            });
            try_join_all(inserted).await.expect("the rows are new");
            per_second(LOGINS, begun.elapsed())
        }
        Engine::Sqlite => {
            let mut connection = SqliteConnection::connect(&world.url).await.expect("the file opens");
            let begun = Instant::now();
            for _ in 0..LOGINS {
                insert_into_sqlite(&mut connection).await.expect("the rows are new");
            }
            per_second(LOGINS, begun.elapsed())
        }
    }
}

async fn insert_into_sqlite(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let row = Row::new();
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let assertion = sqlx::query(AssertSqlSafe(BARE_ASSERTION)).bind(&row.key).bind(&row.hash).bind(row.time);
    assertion.execute(&mut *transaction).await?;
    let login = sqlx::query(AssertSqlSafe(BARE_LOGIN)).bind(&row.id).bind(&row.account).bind(&row.key);
    login.bind("192.0.2.7").bind(row.time).bind(&row.hash).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// The values of a login.
struct Row {
    id: String,
    account: String,
    key: String,
    hash: Vec<u8>,
    time: i64,
}

impl Row {
    fn new() -> Self {
        let mut hash = [0; 32];
        SysRng.try_fill_bytes(&mut hash).expect("the system has randomness");
        let [id, account, key] =
            [0, 8, 16].map(|at| Uuid::from_slice(&hash[at..at + 16]).expect("16 bytes").to_string());
        let in_10_minutes = Timestamp::now().as_microsecond() + 600_000_000;
        Self { id, account, key, hash: hash.to_vec(), time: in_10_minutes }
    }
}

/// Returns by how many KiB a server's memory grows while it hands out tokens and each of them is used once.
async fn memory_for_live_tokens(world: &World) -> u64 {
    const BATCH: usize = 10_000;
    let server = world.serve().await;
    // The memory of the work itself is not the memory of tokens.
    let warmed_up = log_in(world, &server, BATCH, 0, |_| ()).await;
    assert_eq!(warmed_up.0, BATCH);
    let before = memory(AUTH_SERVER).resident;
    for batch in 1..=LIVE_TOKENS / BATCH {
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&tokens);
        log_in(world, &server, BATCH, batch, move |token| kept.lock().expect("no panic").push(token)).await;
        let tokens = tokens.lock().expect("no panic").clone();
        let questions = tokens.chunks(BATCH / CONNECTIONS).map(|tokens| tokens.iter().map(|it| question(it)).collect());
        send(&server.internal, questions.collect(), |answer| assert_eq!(answer.status, 200)).await;
    }
    let after = memory(AUTH_SERVER).resident;
    let kept = server.metric("opsadmin_cached_tokens").await;
    // On SQLite, each commit empties the memory.
    assert!(world.engine == Engine::Sqlite || kept >= LIVE_TOKENS as u64, "only {kept} tokens are in memory");
    server.stop().await;
    after.saturating_sub(before)
}

fn per_second(count: usize, took: Duration) -> f64 {
    f64::from(u32::try_from(count).expect("it is small")) / took.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
