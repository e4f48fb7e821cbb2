//! Compares recorded statements with a database, and repeats the recorded calls.

use super::recording::{Recording, Statement};
use crate::database_contract::fixture::Fresh;
use futures::TryStreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Either, Executor as _, SqlSafeStr as _, Statement as _, TypeInfo as _,
    raw_sql,
};

/// The table of migrations. It has more rows with each later version.
const GROWS: &str = "_sqlx_migrations";

/// Adds to each statement what the database says about it, and to each call the number of rows.
pub async fn describe(fresh: &Fresh, recording: &mut Recording) {
    for statement in &mut recording.statements {
        *statement = described(fresh, &statement.sql).await.unwrap_or_else(|problem| panic!("{problem}"));
    }
    let rows = replayed(fresh, recording).await.unwrap_or_else(|problem| panic!("{problem}"));
    for (call, rows) in recording.calls.iter_mut().zip(rows) {
        call.rows = rows;
    }
}

/// Returns why the version that was recorded cannot work with this database, whose tables are empty. An empty list means
/// that it can.
pub async fn problems(fresh: &Fresh, recording: &Recording) -> Vec<String> {
    let mut problems = Vec::new();
    for recorded in &recording.statements {
        match described(fresh, &recorded.sql).await {
            Err(problem) => problems.push(problem),
            Ok(now) if now != *recorded => {
                problems.push(format!(
                    "{}: parameters {:?} and columns {:?} are now {:?} and {:?}",
                    recorded.sql, recorded.parameters, recorded.columns, now.parameters, now.columns
                ));
            }
            Ok(_) => problems.extend(required_columns(fresh, &recorded.sql).await),
        }
    }
    if problems.is_empty() {
        match replayed(fresh, recording).await {
            Err(problem) => problems.push(problem),
            Ok(rows) => problems.extend(recording.calls.iter().zip(rows).filter_map(|(call, rows)| {
                let sql = &recording.statements[call.statement].sql;
                let differs = call.rows != rows && !sql.contains(GROWS);
                differs.then(|| format!("{sql}: {} rows with {:?} are now {rows}", call.rows, call.values))
            })),
        }
    }
    problems
}

/// Returns whether the statement controls a transaction. The server does not prepare such a statement.
fn is_control(sql: &str) -> bool {
    ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "LOCK"].iter().any(|word| sql.starts_with(word))
}

async fn described(fresh: &Fresh, sql: &str) -> Result<Statement, String> {
    let text = AssertSqlSafe(sql).into_sql_str();
    let failed = |error: sqlx::Error| format!("{sql}: {error}");
    let (parameters, columns) = if is_control(sql) {
        (Vec::new(), Vec::new())
    } else if fresh.file().is_some() {
        let mut connection = SqliteConnection::connect(fresh.url()).await.map_err(failed)?;
        let prepared = connection.prepare(text).await.map_err(failed)?;
        let parameters = match prepared.parameters() {
            Some(Either::Right(number)) => vec![String::new(); number],
            _ => Vec::new(),
        };
        (parameters, prepared.columns().iter().map(|column| column.name().to_owned()).collect())
    } else {
        let mut connection = PgConnection::connect(fresh.url()).await.map_err(failed)?;
        let prepared = connection.prepare(text).await.map_err(failed)?;
        let parameters = match prepared.parameters() {
            Some(Either::Left(types)) => types.iter().map(|of| of.name().to_owned()).collect(),
            _ => Vec::new(),
        };
        let columns =
            prepared.columns().iter().map(|column| format!("{} {}", column.name(), column.type_info().name()));
        (parameters, columns.collect())
    };
    Ok(Statement { sql: sql.to_owned(), parameters, columns })
}

/// Returns the columns that an SQLite table requires and this INSERT does not name. PostgreSQL needs no such check,
/// because the recorded calls insert rows.
async fn required_columns(fresh: &Fresh, sql: &str) -> Vec<String> {
    let Some((table, rest)) = sql.strip_prefix("INSERT INTO ").and_then(|rest| rest.split_once(" (")) else {
        return Vec::new();
    };
    if fresh.file().is_none() {
        return Vec::new();
    }
    let (named, _) = rest.split_once(')').expect("the columns end");
    let named: Vec<&str> = named.split(", ").collect();
    let required = format!("SELECT name FROM pragma_table_info('{table}') WHERE \"notnull\" AND dflt_value IS NULL");
    let required = fresh.column(&required).await.into_iter();
    // An INTEGER PRIMARY KEY is filled in by SQLite.
    let missing = required.filter(|column| !named.contains(&column.as_str()) && column != "id");
    missing.map(|column| format!("{sql}: the column {column} of {table} has no default")).collect()
}

/// Repeats the calls in one connection, and returns the number of rows that each of them answers.
async fn replayed(fresh: &Fresh, recording: &Recording) -> Result<Vec<usize>, String> {
    if recording.calls.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection = PgConnection::connect(fresh.url()).await.map_err(|error| error.to_string())?;
    for (index, statement) in recording.statements.iter().enumerate() {
        if !statement.parameters.is_empty() {
            let types = statement.parameters.join(", ");
            let prepare = format!("PREPARE recorded_{index} ({types}) AS {}", statement.sql);
            connection.execute(AssertSqlSafe(prepare)).await.map_err(|error| format!("{}: {error}", statement.sql))?;
        }
    }
    let mut answered = Vec::new();
    for call in &recording.calls {
        let sql = &recording.statements[call.statement].sql;
        let text = match call.values.as_slice() {
            [] => sql.clone(),
            values => format!("EXECUTE recorded_{} ({})", call.statement, values.join(", ")),
        };
        let rows: Result<Vec<_>, _> = raw_sql(AssertSqlSafe(text)).fetch(&mut connection).try_collect().await;
        answered.push(rows.map_err(|error| format!("{sql} with {:?}: {error}", call.values))?.len());
    }
    connection.close().await.map_err(|error| error.to_string())?;
    Ok(answered)
}
