//! Notices commits in the file: <https://www.sqlite.org/pragma.html#pragma_data_version>.
//!
//! A question in SQL costs more than all the rest of a decision about a request. So it is asked only if the index of the
//! write-ahead log is not as it was before the last question.

use super::wal_index::{Header, WalIndex};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex as SyncMutex, PoisonError};
use tokio::sync::Mutex;

/// A connection that only asks for the number of the last commit. The connection writes nothing itself, because the
/// number does not count its own commits.
pub(super) struct DataVersion {
    path: PathBuf,
    options: SqliteConnectOptions,
    /// `None` while the next question must be asked in SQL.
    seen: SyncMutex<Option<Seen>>,
    /// How many questions there were.
    questions: AtomicU64,
    watch: Mutex<Watch>,
}

/// The last answer, and what the index of the write-ahead log was before its question.
struct Seen {
    index: WalIndex,
    header: Header,
    number: i64,
}

#[derive(Default)]
struct Watch {
    /// `None` before the first question and after a failed one.
    connection: Option<SqliteConnection>,
    /// The index that the connection uses, or that the one before it used; `None` if there is none.
    index: Option<WalIndex>,
    /// How often the file was opened. The numbers of two connections cannot be compared.
    opened: u32,
    /// The last answer, and how many questions came before the file was read for it. It is the answer to all of these.
    last: Option<(u64, i64)>,
    is_closed: bool,
}

impl DataVersion {
    /// Opens the file at this path with the first question.
    pub fn new(path: PathBuf, options: SqliteConnectOptions) -> Self {
        let (questions, watch) = (AtomicU64::new(0), Mutex::default());
        Self { path, options, seen: SyncMutex::default(), questions, watch }
    }

    /// Returns a number that differs from the last one if anything was committed in between.
    pub async fn current(&self) -> Result<i64, sqlx::Error> {
        match self.unchanged() {
            Some(number) => Ok(number),
            None => self.ask().await,
        }
    }

    /// Returns the last answer if the index shows that nothing was committed since its question.
    pub fn unchanged(&self) -> Option<i64> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().filter(|seen| seen.index.header() == Some(seen.header)).map(|seen| seen.number)
    }

    fn set_seen(&self, now: Option<Seen>) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Questions that wait at the same time are answered by one look at the file, which begins after all of them.
    async fn ask(&self) -> Result<i64, sqlx::Error> {
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
        self.set_seen(None);
        // A connection is put back only after an answer. A question that fails or is given up leaves none.
        let (is_new, mut connection) = if let Some(connection) = watch.connection.take() {
            (false, connection)
        } else {
            watch.opened = watch.opened.wrapping_add(1);
            (true, self.options.connect().await?)
        };
        let header = if is_new { None } else { watch.index.as_ref().and_then(WalIndex::header) };
        let version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut connection).await?;
        let number = i64::from(watch.opened) << 32 | (version & i64::from(u32::MAX));
        if is_new {
            // With its first question, the connection has opened the index.
            watch.index = WalIndex::of(&self.path, watch.index.take());
        }
        if let (Some(index), Some(header)) = (&watch.index, header) {
            self.set_seen(Some(Seen { index: index.clone(), header, number }));
        }
        watch.connection = Some(connection);
        watch.last = Some((questions, number));
        Ok(number)
    }

    /// Closes the connection. Later questions fail.
    pub async fn close(&self) {
        let mut watch = self.watch.lock().await;
        watch.is_closed = true;
        self.set_seen(None);
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
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use tempfile::TempDir;
    use tokio::task::yield_now;

    const INSERT: &str = "INSERT INTO t VALUES (1)";

    /// Creates a database with this journal, and returns its folder, another program's connection, and what notices the
    /// commits.
    async fn database(journal: &'static str) -> (TempDir, SqliteConnection, DataVersion) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut writer = options.clone().pragma("journal_mode", journal).connect().await.unwrap();
        run(&mut writer, "CREATE TABLE t (a)").await;
        (folder, writer, DataVersion::new(path, options))
    }

    async fn run(writer: &mut SqliteConnection, statement: &'static str) {
        sqlx::raw_sql(statement).execute(writer).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_question_after_a_commit_is_not_answered_by_an_earlier_look() {
        let (_folder, mut writer, versions) = database("WAL").await;
        let (versions, is_over) = (Arc::new(versions), Arc::new(AtomicBool::new(false)));
        let others: Vec<_> = std::iter::repeat_n((Arc::clone(&versions), Arc::clone(&is_over)), 8)
            .map(|(versions, is_over)| {
                tokio::spawn(async move {
                    while !is_over.load(Ordering::Relaxed) {
                        versions.current().await.unwrap();
                        yield_now().await;
                    }
                })
            })
            .collect();
        for _ in 0..300 {
            let before = versions.current().await.unwrap();
            run(&mut writer, INSERT).await;
            let after = versions.current().await.unwrap();
            assert_ne!(after, before);
            assert_eq!(versions.current().await.unwrap(), after);
        }
        is_over.store(true, Ordering::Relaxed);
        for other in others {
            other.await.unwrap();
        }
        versions.close().await;
    }

    #[tokio::test]
    async fn only_a_commit_makes_it_ask_in_sql() {
        let (_folder, mut writer, versions) = database("WAL").await;
        let first = versions.current().await.unwrap();
        assert_eq!(versions.unchanged(), None, "the index is opened after the first question");
        assert_eq!(versions.current().await.unwrap(), first);
        assert_eq!(versions.unchanged(), Some(first));
        for (statement, is_commit) in
            [(INSERT, true), ("PRAGMA wal_checkpoint(TRUNCATE)", false), ("DELETE FROM t", true)]
        {
            run(&mut writer, statement).await;
            assert!(!is_commit || versions.unchanged().is_none(), "{statement}");
            let now = versions.current().await.unwrap();
            assert_eq!(versions.unchanged(), Some(now), "{statement}");
        }
        versions.close().await;
        assert_eq!(versions.unchanged(), None);
    }

    #[tokio::test]
    async fn without_a_write_ahead_log_it_asks_in_sql_each_time() {
        let (_folder, mut writer, versions) = database("DELETE").await;
        for _ in 0..3 {
            let before = versions.current().await.unwrap();
            assert_eq!(versions.unchanged(), None);
            run(&mut writer, INSERT).await;
            assert_ne!(versions.current().await.unwrap(), before);
        }
    }

    /// The system releases all locks of a process on a file when the process closes any descriptor of it.
    #[tokio::test]
    async fn the_locks_of_other_connections_stay() {
        let (folder, mut writer, versions) = database("WAL").await;
        run(&mut writer, "BEGIN IMMEDIATE").await;
        let index = folder.path().canonicalize().unwrap().join("a.db-shm");
        assert_eq!(write_locks(&index), 1, "the writer has its lock");
        for _ in 0..2 {
            versions.current().await.unwrap();
        }
        versions.watch.lock().await.connection = None;
        versions.current().await.unwrap();
        assert_eq!(write_locks(&index), 1, "another connection to the database was closed and opened");
        versions.close().await;
        drop(versions);
        assert_eq!(write_locks(&index), 1, "the watch of the database has ended");
    }

    /// Counts the locks for writing that this process has on a file.
    ///
    /// The system says them for each descriptor. Its list of all locks, `/proc/locks`, is read in parts, so a lock is
    /// missing or there twice when other tests lock their databases meanwhile.
    fn write_locks(path: &Path) -> usize {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
        let of_the_file = descriptors.filter(|descriptor| fs::read_link(descriptor).is_ok_and(|target| target == path));
        let locks = of_the_file.map(|descriptor| {
            let number = descriptor.file_name().unwrap();
            let says = fs::read_to_string(Path::new("/proc/self/fdinfo").join(number)).unwrap();
            says.lines().filter(|line| line.starts_with("lock:") && line.contains("WRITE")).count()
        });
        locks.sum()
    }
}
