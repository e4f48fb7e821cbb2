//! The shell client of the guide logs in, and tells no other program the secret key in an argument or a variable.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use opsadmin_operator::account::{ApiKey, Role, SecretKey};
use opsadmin_operator::database::Action;
use serde_json::Value;

use super::scene::{AuthServer, Client, ISSUER, SOON, Scene};
use crate::database_contract::fixture::{creation, owner, pair, settings, stored};
use crate::guides::{page, repository};
use crate::support::run::{Finished, run};

const SCRIPT: &str = "examples/login/login.sh";
/// The only programs that the script finds.
const PROGRAMS: [&str; 6] = ["cat", "curl", "date", "od", "openssl", "tr"];

/// A computer of a partner: the files of the keys, and programs that write down how they are called.
struct Computer {
    folder: tempfile::TempDir,
}

impl Computer {
    /// Prepares the keys of a client, and programs that reach the server under the name of its issuer.
    fn of(client: &Client, server: &AuthServer) -> Self {
        let computer = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["bin", "calls"] {
            fs::create_dir(computer.path(folder)).unwrap();
        }
        for (file, key) in [("api-key", &client.api_key), ("secret-key", &client.secret_key)] {
            fs::write(computer.path(file), key).unwrap();
        }
        for name in PROGRAMS {
            let stand_in = format!(
                "#!/bin/sh\n\
                 PATH=/usr/bin:/bin\n\
                 {{ printf '%s\\n' \"$@\"; env; }} >'{calls}/{name}'-$$\n\
                 for word; do\n\
                 shift\n\
                 case $word in {ISSUER}/*) word=http://{address}/${{word#{ISSUER}/}} ;; esac\n\
                 set -- \"$@\" \"$word\"\n\
                 done\n\
                 exec '{program}' \"$@\"\n",
                calls = computer.path("calls").display(),
                address = server.public,
                program = installed(name).display(),
            );
            let file = computer.path("bin").join(name);
            fs::write(&file, stand_in).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        computer
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn log_in(&self) -> Finished {
        let mut bash = Command::new(installed("bash"));
        bash.arg(repository(SCRIPT)).args([ISSUER, "api-key", "secret-key"]).current_dir(self.folder.path());
        bash.env_clear().env("PATH", self.path("bin")).env("HOME", self.folder.path());
        run(bash, "", SOON).await
    }

    /// Returns arguments and variables of every call so far of any program.
    fn calls(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.path("calls")).unwrap().map(Result::unwrap);
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
            .collect()
    }
}

fn installed(program: &str) -> PathBuf {
    let folders = ["/usr/bin", "/bin", "/usr/local/bin", "/opt/homebrew/bin"];
    let found = folders.map(|folder| Path::new(folder).join(program)).into_iter().find(|file| file.exists());
    found.unwrap_or_else(|| panic!("no {program}: run tests/setup.sh"))
}

/// Returns the texts that no other user of the computer may see: the key, as it is and in hexadecimal digits, and the
/// beginning of every assertion.
fn secrets(client: &Client) -> [String; 3] {
    let hex = client.secret_key.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    [client.secret_key.clone(), hex, "eyJ".to_owned()]
}

/// Creates an account whose keys another program made: longer than a block of SHA-256, and with characters that JSON
/// and shells give a meaning.
async fn imported(scene: &Scene) -> Client {
    let mut keys = pair();
    keys.api_key = ApiKey::imported(r#"acme"\$HOME'`%s`"#).unwrap();
    keys.secret_key = SecretKey::imported(&r#"%n"\0$(id)'-&=+"#.repeat(8)).unwrap();
    let mut declared = settings("imported");
    declared.roles = [Role::Customer].into();
    let mut creation = creation(owner("imported"), declared);
    let Action::Create { key, .. } = &mut creation.action else { panic!("{creation:?} creates no account") };
    *key = stored(creation.account, &keys);
    Client::of(scene.database.accounts.commit(&creation).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_logs_in_and_shows_nobody_the_key() {
    let scene = Scene::sqlite().await;
    let server = scene.serve(&[]).await;
    let partner = scene.account("partner", |account| account.roles = [Role::Customer].into()).await;
    for client in [partner, imported(&scene).await] {
        let computer = Computer::of(&client, &server);
        let finished = computer.log_in().await;
        assert_eq!(finished.stderr, "");
        let answer: Value = serde_json::from_str(&finished.succeeded()).unwrap();
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(server.authorize(token, "/my-account").await.status, 200);

        let calls = computer.calls();
        for program in PROGRAMS {
            assert!(calls.iter().any(|(name, _)| name.starts_with(program)), "{program} was not recorded: {calls:?}");
        }
        for (name, call) in &calls {
            assert!(call.contains("HOME="), "{name}: {call}");
            for secret in secrets(&client) {
                assert!(!call.contains(&secret), "{name} is told a secret: {call}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_fails_if_the_login_is_refused() {
    let scene = Scene::sqlite().await;
    let server = scene.serve(&[]).await;
    let client = scene.account("partner", |_| {}).await;
    let computer = Computer::of(&client, &server);
    fs::write(computer.path("secret-key"), "x".repeat(64)).unwrap();
    let finished = computer.log_in().await;
    assert!(!finished.status.success() && finished.stdout.contains("invalid_client"), "{finished:?}");
    fs::remove_file(computer.path("secret-key")).unwrap();
    let finished = computer.log_in().await;
    assert!(!finished.status.success() && finished.stdout.is_empty(), "{finished:?}");
}

#[test]
fn the_guide_has_this_script() {
    assert!(page("docs/partners.md").contains(&format!("```bash\n{}```\n", page(SCRIPT))));
}
