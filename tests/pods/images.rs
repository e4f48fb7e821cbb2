//! Container images in the form of a registry, as blobs named by their digest: the operator's own image, and images of
//! one layer that are created here from programs of this machine.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::apart::{IMAGE, busybox};
use crate::support::postgres_programs::find_programs;
use crate::support::process::Folder;
use crate::support::run::run;

const WITHIN: Duration = Duration::from_mins(2);
/// The names of the `busybox` programs in an image.
const APPLETS: [&str; 9] = ["cat", "date", "grep", "od", "readlink", "sh", "sleep", "tr", "true"];
/// The user of the PostgreSQL server, which refuses to run as root.
const USER: &str = "65532";
/// The program of an image does nothing until it is stopped.
const IDLE: &str = "trap 'exit 0' TERM; sleep 1000000 & wait";
/// Creates the database on an empty volume, and then runs the server. Durability ends with the node, as everything here.
const RUN_POSTGRESQL: &str = r#"
    if [ ! -e "$PGDATA" ]; then
        initdb --username=opsadmin --pwfile=/etc/postgresql/password --auth=scram-sha-256 \
            --encoding=UTF8 --locale=C --no-sync
        echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    fi
    exec postgres -c listen_addresses='*' -c unix_socket_directories= -c fsync=off"#;

/// The blobs of images.
pub struct Blobs {
    folder: Arc<Folder>,
}

impl Blobs {
    /// Creates an empty set of blobs.
    pub fn new() -> Self {
        Self { folder: Folder::new("images") }
    }

    /// Returns the file of a blob.
    pub fn file(&self, digest: &str) -> PathBuf {
        self.folder.path().join(digest)
    }

    /// Adds the operator's image from the OCI layout that `release/image.sh` has written. Returns the digest of its
    /// manifest.
    pub fn operator(&self) -> String {
        let layout = PathBuf::from(std::env::var_os(IMAGE).expect("apart.rs has set it"));
        let index = fs::read(layout.join("index.json")).expect("an OCI layout");
        let index: Value = serde_json::from_slice(&index).expect("an index");
        for blob in fs::read_dir(layout.join("blobs/sha256")).expect("the layout has blobs") {
            let blob = blob.expect("an entry");
            let digest = format!("sha256:{}", blob.file_name().to_str().expect("a digest"));
            fs::copy(blob.path(), self.file(&digest)).expect("it can be copied");
        }
        index["manifests"][0]["digest"].as_str().expect("a text").to_owned()
    }

    /// Creates an image with a shell, whose program does nothing until it is stopped. Returns the digest of its
    /// manifest.
    pub async fn idle(&self) -> String {
        let root = self.root_with_a_shell("idle").await;
        self.idling(&root).await
    }

    /// Creates such an image with what `examples/login/login.sh` needs.
    pub async fn with_curl(&self) -> String {
        let root = self.root_with_a_shell("curl").await;
        for program in ["bash", "curl", "openssl"] {
            let found = said("sh", ["-c", &format!("command -v {program}")]).await;
            let program = fs::canonicalize(found.trim_end()).expect("it is there");
            copy_libraries(&program, &root).await;
            fs::copy(&program, root.join("bin").join(program.file_name().expect("it is a file")))
                .expect("it can be read");
        }
        self.idling(&root).await
    }

    async fn idling(&self, root: &Path) -> String {
        self.image(root, &json!({ "Entrypoint": ["/bin/sh", "-c", IDLE], "Env": ["PATH=/bin"] })).await
    }

    /// Creates an image with this machine's PostgreSQL server. Returns the digest of its manifest.
    pub async fn postgresql(&self) -> String {
        let root = self.root_with_a_shell("postgresql").await;
        let programs = find_programs().unwrap_or_else(|problem| panic!("{problem}"));
        for program in ["initdb", "postgres"] {
            let program = programs.join(program);
            copy(&program, &root);
            copy_libraries(&program, &root).await;
        }
        let [data, libraries] = ["--sharedir", "--pkglibdir"].map(|what| said(programs.join("pg_config"), [what]));
        let (data, libraries) = (PathBuf::from(data.await.trim_end()), PathBuf::from(libraries.await.trim_end()));
        // What initdb loads. The server looks for other libraries only when it needs them.
        for library in ["dict_snowball.so", "plpgsql.so"] {
            copy(&libraries.join(library), &root);
        }
        // Debian's server has no time zones of its own. Clients ask for this one.
        copy(Path::new("/usr/share/zoneinfo/UTC"), &root);
        let parent = inside(&root, data.parent().expect("it is in a folder"));
        fs::create_dir_all(&parent).expect("a new folder");
        said("cp", ["-R".as_ref(), data.as_os_str(), parent.as_os_str()]).await;
        fs::create_dir(root.join("etc")).expect("a new folder");
        fs::write(root.join("etc/passwd"), format!("postgres:x:{USER}:{USER}::/:/bin/sh\n")).expect("a new file");
        let config = json!({
            "Entrypoint": ["/bin/sh", "-e", "-c", RUN_POSTGRESQL],
            "Env": [format!("PATH={}:/bin", programs.display()), "PGDATA=/var/lib/postgresql/data", "TZ=GMT"],
            "User": USER,
            // It ends connections in place of waiting until its clients end them.
            "StopSignal": "SIGINT",
        });
        self.image(&root, &config).await
    }

    /// Creates the folder of an image's files, with `busybox`.
    async fn root_with_a_shell(&self, name: &str) -> PathBuf {
        let root = self.folder.path().join(name);
        fs::create_dir_all(root.join("bin")).expect("a new folder");
        let busybox = busybox().expect("it was there");
        fs::copy(&busybox, root.join("bin/busybox")).expect("it can be read");
        copy_libraries(&busybox, &root).await;
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).expect("a new link");
        }
        root
    }

    async fn image(&self, root: &Path, config: &Value) -> String {
        let layer = root.with_extension("tar");
        let owner = ["--create", "--numeric-owner", "--owner=0", "--group=0"].map(OsStr::new);
        let files = ["--file".as_ref(), layer.as_os_str(), "--directory".as_ref(), root.as_os_str(), ".".as_ref()];
        said("tar", owner.into_iter().chain(files)).await;
        let layer = self.add(&layer, "application/vnd.oci.image.layer.v1.tar").await;
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = self.add_json(root, &config, "application/vnd.oci.image.config.v1+json").await;
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        let manifest = self.add_json(root, &manifest, MANIFEST).await;
        manifest["digest"].as_str().expect("a text").to_owned()
    }

    async fn add_json(&self, root: &Path, contents: &Value, kind: &str) -> Value {
        let file = root.with_extension("json");
        fs::write(&file, contents.to_string()).expect("it can be written");
        self.add(&file, kind).await
    }

    /// Moves a file into the set of blobs and returns its descriptor, as in a manifest.
    async fn add(&self, file: &Path, kind: &str) -> Value {
        let sum = said("sha256sum", [file]).await;
        let digest = format!("sha256:{}", sum.split(' ').next().expect("a checksum"));
        let size = fs::metadata(file).expect("it is there").len();
        fs::rename(file, self.file(&digest)).expect("it can be moved");
        json!({ "mediaType": kind, "digest": digest, "size": size })
    }
}

/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Copies a program's shared libraries and its loader to the same paths in an image.
async fn copy_libraries(program: &Path, root: &Path) {
    let mut ldd = Command::new("ldd");
    ldd.arg(program);
    // `ldd` fails for a program without shared libraries.
    let said = run(ldd, "", WITHIN).await.stdout;
    let libraries: BTreeSet<_> = said.split_whitespace().filter(|word| word.starts_with('/')).collect();
    for library in libraries {
        copy(Path::new(library), root);
    }
}

/// Copies a file to the same path in an image.
fn copy(file: &Path, root: &Path) {
    let copy = inside(root, file);
    fs::create_dir_all(copy.parent().expect("it is in a folder")).expect("a folder");
    fs::copy(file, copy).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// Returns where an absolute path is in the folder of an image's files.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").expect("it is absolute"))
}

/// Runs a program that must succeed, and returns its standard output.
async fn said(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    run(command, "", WITHIN).await.succeeded()
}
