//! Captures the statements of [`super::scenario`]: from the log of a PostgreSQL server, and from the events of the
//! SQLite driver.

use super::recording::{Call, Recording, Statement};
use super::{check, scenario};
use crate::database_contract::fixture::{Fresh, migrations};
use crate::support::statements::{asked, talkative};
use opsadmin_operator::database::{Address, open_with_logins};
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};
use tracing::field::{Field, Visit};
use tracing::{Event, Instrument as _, Subscriber, info_span};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

/// The span of the calls whose statements are captured.
const CAPTURED: &str = "captured";

/// Records this program's statements on PostgreSQL.
pub async fn postgres() -> Recording {
    let (server, database) = talkative().await;
    // With one connection, the log has the statements in their order.
    let program = open_with_logins(Address { connections: 1, ..Address::from(database.url()) }).unwrap();
    program.accounts.migrate().await.unwrap();
    let mark = server.log().len();
    scenario::run(&program).await;
    program.accounts.close().await;

    let mut indices = BTreeMap::new();
    let mut recording = Recording { migration: newest(), statements: Vec::new(), calls: Vec::new() };
    for asked in asked(&server, mark) {
        let (sql, values) = asked.split_once(" -- parameters: ").unwrap_or((&asked, ""));
        let statement = *indices.entry(sql.to_owned()).or_insert_with(|| {
            recording.statements.push(unknown(sql));
            recording.statements.len() - 1
        });
        recording.calls.push(Call { statement, values: literals(values), rows: 0 });
    }
    let fresh = Fresh::postgres("recorded").await;
    fresh.open().await.close().await;
    check::describe(&fresh, &mut recording).await;
    recording
}

/// Records this program's statements on SQLite.
pub async fn sqlite() -> Recording {
    listen();
    let fresh = Fresh::sqlite();
    let program = fresh.open_with_logins().await;
    scenario::run(&program).instrument(info_span!(CAPTURED)).await;
    let captured = std::mem::take(&mut *statements().lock().unwrap());
    let mut recording = Recording { migration: newest(), statements: Vec::new(), calls: Vec::new() };
    for sql in captured.iter().filter(|sql| !sql.starts_with("PRAGMA")) {
        if recording.statements.iter().all(|known| known.sql != *sql) {
            recording.statements.push(unknown(sql));
        }
    }
    check::describe(&fresh, &mut recording).await;
    recording
}

fn newest() -> i64 {
    migrations().last().unwrap()[..4].parse().unwrap()
}

fn unknown(sql: &str) -> Statement {
    Statement { sql: sql.to_owned(), parameters: Vec::new(), columns: Vec::new() }
}

/// Splits `$1 = 'it''s', $2 = NULL` into its literals.
fn literals(parameters: &str) -> Vec<String> {
    let mut literals = Vec::new();
    let mut rest = parameters;
    while let Some((_, after)) = rest.split_once(" = ") {
        let mut quoted = false;
        let end = after.char_indices().find(|(_, character)| {
            quoted ^= *character == '\'';
            *character == ',' && !quoted
        });
        let end = end.map_or(after.len(), |(index, _)| index);
        literals.push(after[..end].to_owned());
        rest = &after[end..];
    }
    literals
}

fn statements() -> &'static Mutex<Vec<String>> {
    static STATEMENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    &STATEMENTS
}

/// Begins to listen to the driver. Its thread has no subscriber of its own, so this is the one of the whole program. The
/// driver enters the span of the caller, which tells this scenario's statements from those of other tests.
fn listen() {
    static LISTENS: OnceLock<()> = OnceLock::new();
    LISTENS.get_or_init(|| {
        let relevant = filter_fn(|event| event.target() == "sqlx::query" || event.name() == CAPTURED);
        let subscriber = Registry::default().with(Capture.with_filter(relevant));
        tracing::subscriber::set_global_default(subscriber).expect("no other test has a subscriber");
    });
}

struct Capture;

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut scope = context.event_scope(event).into_iter().flatten();
        if scope.any(|span| span.name() == CAPTURED) {
            let mut text = Text::default();
            event.record(&mut text);
            let sql = if text.statement.is_empty() { text.summary } else { text.statement };
            statements().lock().unwrap().push(sql.trim().to_owned());
        }
    }
}

/// The text of a statement. The driver leaves out the statement if the summary has all of it.
#[derive(Default)]
struct Text {
    summary: String,
    statement: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.statement),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
