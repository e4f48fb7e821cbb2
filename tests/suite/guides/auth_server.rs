//! The auth server of a guide. A guide has the default ports, which other tests on the same machine may use at the same time.

use std::path::Path;

use crate::login::scene::AuthServer;
use crate::support::opsadmin::Opsadmin;

/// Starts the auth server of this command beside the database in this folder, at free ports, and waits until it is ready.
pub async fn start(command: &str, folder: &Path) -> AuthServer {
    let database = format!("sqlite://{}", folder.join("opsadmin.db").display());
    let call = Opsadmin::new().args(command.split_whitespace().skip(1)).args(["--database", &database]);
    let call = call.args(["--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"]);
    let server = AuthServer::listening(call.spawn()).await;
    server.ready().await;
    server
}

/// Replaces the default addresses in a command by those of the server.
pub fn at(server: Option<&AuthServer>, command: &str) -> String {
    match server {
        None => command.to_owned(),
        Some(server) => command.replace("127.0.0.1:8088", &server.public).replace("127.0.0.1:8089", &server.internal),
    }
}
