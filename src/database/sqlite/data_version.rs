//! Notices commits in the file: <https://www.sqlite.org/pragma.html#pragma_data_version>.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// A connection that only asks for the number of the last commit. The connection writes nothing itself, because the
/// number does not count its own commits.
pub(super) struct DataVersion {
    options: SqliteConnectOptions,
    /// How many questions there were.
    questions: AtomicU64,
    watch: Mutex<Watch>,
}

#[derive(Default)]
struct Watch {
    /// `None` before the first question and after a failed one.
    connection: Option<SqliteConnection>,
    /// How often the file was opened. The numbers of two connections cannot be compared.
    opened: u32,
    /// The last answer, and how many questions came before the file was read for it. It is the answer to all of these.
    last: Option<(u64, i64)>,
    is_closed: bool,
}

impl DataVersion {
    /// Opens the file with the first question.
    pub fn new(options: SqliteConnectOptions) -> Self {
        Self { options, questions: AtomicU64::new(0), watch: Mutex::default() }
    }

    /// Returns a number that differs from the last one if anything was committed in between.
    ///
    /// Questions that wait at the same time are answered by one look at the file, which begins after all of them.
    pub async fn current(&self) -> Result<i64, sqlx::Error> {
        let question = self.questions.fetch_add(1, Ordering::SeqCst) + 1;
        let mut watch = self.watch.lock().await;
        if watch.is_closed {
            return Err(sqlx::Error::PoolClosed);
        }
        if let Some((answered, number)) = watch.last
            && question <= answered
        {
            return Ok(number);
        }
        let questions = self.questions.load(Ordering::SeqCst);
        // The connection is put back only after an answer. A question that fails or is given up leaves none.
        let mut connection = if let Some(connection) = watch.connection.take() {
            connection
        } else {
            watch.opened = watch.opened.wrapping_add(1);
            self.options.connect().await?
        };
        let version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut connection).await?;
        let number = i64::from(watch.opened) << 32 | (version & i64::from(u32::MAX));
        watch.connection = Some(connection);
        watch.last = Some((questions, number));
        Ok(number)
    }

    /// Closes the connection. Later questions fail.
    pub async fn close(&self) {
        let mut watch = self.watch.lock().await;
        watch.is_closed = true;
        if let Some(connection) = watch.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "the connection that notices commits did not end in good order");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_question_after_a_commit_is_not_answered_by_an_earlier_look() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("a.db")).create_if_missing(true);
        let mut writer = options.connect().await.unwrap();
        sqlx::raw_sql("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").execute(&mut writer).await.unwrap();
        let (versions, is_over) = (Arc::new(DataVersion::new(options)), Arc::new(AtomicBool::new(false)));
        let others: Vec<_> = std::iter::repeat_n((Arc::clone(&versions), Arc::clone(&is_over)), 8)
            .map(|(versions, is_over)| {
                tokio::spawn(async move {
                    while !is_over.load(Ordering::Relaxed) {
                        versions.current().await.unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..300 {
            let before = versions.current().await.unwrap();
            sqlx::raw_sql("INSERT INTO t VALUES (1)").execute(&mut writer).await.unwrap();
            assert_ne!(versions.current().await.unwrap(), before);
        }
        is_over.store(true, Ordering::Relaxed);
        for other in others {
            other.await.unwrap();
        }
        versions.close().await;
    }
}
