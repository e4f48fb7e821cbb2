//! The statements that a database server has received, read from its own log.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::postgres::{Postgres, TestDatabase};

/// Starts a server for one test, which logs each statement.
pub async fn talkative() -> (Postgres, TestDatabase) {
    let server = Postgres::new().await;
    let database = server.database("accounts").await;
    by_hand(&database, &format!(r#"ALTER DATABASE "{}" SET log_statement = 'all'"#, database.name())).await;
    (server, database)
}

/// Returns the statements in the server's log after `mark` bytes, one per entry, with their parameters. Leaves out what
/// a new connection asks about the server itself.
pub fn asked(server: &Postgres, mark: usize) -> Vec<String> {
    let log = server.log();
    let mut statements: Vec<String> = Vec::new();
    for line in log[mark..].lines() {
        let said = line.split_once("LOG:  ").and_then(|(_, said)| said.split_once(": "));
        if let Some((how, statement)) = said
            && (how == "statement" || how.starts_with("execute "))
        {
            if !statement.starts_with("SELECT pg_is_in_recovery()") {
                statements.push(statement.to_owned());
            }
        } else if let (Some((_, parameters)), Some(last)) = (line.split_once("DETAIL:  "), statements.last_mut()) {
            last.push_str(" -- ");
            last.push_str(parameters);
        }
    }
    statements
}

/// Runs SQL as a person with access to the database.
pub async fn by_hand(database: &TestDatabase, sql: &str) {
    let mut connection = PgConnection::connect(database.url()).await.expect("it answers");
    connection.execute(AssertSqlSafe(sql)).await.expect("it is taken");
    connection.close().await.expect("it is closed");
}
