//! A real `pgbouncer` in front of a database server.

use std::env;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;

use super::ports::free_port;
use super::postgres_programs::User;
use super::process::{Folder, Supervised};
use super::wait::eventually;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// A connection pooler with a limited number of connections to each database. It ends when it is dropped.
pub struct PgBouncer {
    port: u16,
    // The process is dropped, and so ended, before its folder.
    _process: Supervised,
}

impl PgBouncer {
    /// Starts a pooler for the server of this URL, in this mode (`transaction` or `session`), with additional settings.
    pub async fn before(url: &str, mode: &str, settings: &[&str]) -> Self {
        let url = url::Url::parse(url).expect("it is a URL");
        let folder = Folder::new("pgbouncer");
        let port = free_port();
        let password = url.password().expect("the URL has a password");
        let users = folder.write("users", format!("\"{}\" \"{password}\"\n", url.username()));
        let server = url.port().expect("the URL has a port");
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {}\npool_mode = {mode}\n\
             default_pool_size = {}\nmax_client_conn = 200\n{}\n",
            users.display(),
            if mode == "session" { 40 } else { 4 },
            settings.join("\n"),
        );
        let config = folder.write("pgbouncer.ini", config);
        let mut command = match User::for_postgres().expect("there is a user to run it as") {
            None => Command::new(program()),
            Some(user) => {
                for path in [folder.path(), &users, &config] {
                    chown(path, Some(user.uid), Some(user.gid)).expect("the file is given away");
                }
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
                command.args(["--clear-groups", "--"]).arg(program());
                command
            }
        };
        command.arg(&config).current_dir(folder.path());
        let process = Supervised::spawn(&folder, "pgbouncer", "KILL", &command);
        eventually("PgBouncer to answer", READY_WITHIN, async || match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}\n{}", process.tail())),
        })
        .await;
        Self { port, _process: process }
    }

    /// Returns the URL of a database through the pooler.
    pub fn url(&self, url: &str) -> String {
        let (login, rest) = url.rsplit_once('@').expect("the URL has a login");
        let (_, database) = rest.split_once('/').expect("the URL has a database");
        format!("{login}@127.0.0.1:{}/{database}", self.port)
    }
}

/// Searches the `sbin` folders too: Debian installs the program there, and they are not on the path of ordinary users.
fn program() -> PathBuf {
    let paths = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&paths).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    let found = folders.map(|folder| folder.join("pgbouncer")).find(|program| fs::metadata(program).is_ok());
    found.expect("PgBouncer is installed: run tests/setup.sh")
}
