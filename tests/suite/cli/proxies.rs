//! The program connects to a cluster as kubectl does: proxies, several kubeconfigs, login programs and server names.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::working_folder::account;
use crate::support::cluster::cluster;
use crate::support::opsadmin::Opsadmin;
use crate::support::process::Folder;
use crate::support::run::Finished;

/// A name in the API server's certificate. Only the proxy of these tests can resolve it.
const SERVICE: &str = "kubernetes.default.svc:6443";

/// An HTTP proxy that connects each request to the same API server.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn before(upstream: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("the system gives a loopback port");
        let port = listener.local_addr().expect("a listener has an address").port();
        let (heads, mut tasks) = (Arc::<Mutex<Vec<String>>>::default(), JoinSet::new());
        let seen = Arc::clone(&heads);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(forward(connection, upstream.clone(), Arc::clone(&seen)));
            }
        });
        Self { port, heads, _tasks: tasks }
    }

    /// Returns the requests since the last call of this function.
    fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().expect("nobody panics with it"))
    }
}

async fn forward(mut client: TcpStream, upstream: String, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    heads.lock().expect("nobody panics with it").push(String::from_utf8_lossy(&head).into_owned());
    if upstream.is_empty() {
        drop(client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await);
        return;
    }
    let mut server = TcpStream::connect(upstream).await.expect("the API server is there");
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.expect("the client waits");
    // Copying may end with an error when either side closes the connection.
    drop(copy_bidirectional(&mut client, &mut server).await);
}

/// A folder with several kubeconfigs for one cluster.
struct Ways {
    folder: Arc<Folder>,
    original: Value,
}

impl Ways {
    async fn new() -> Self {
        let text = fs::read_to_string(cluster().await.kubeconfig()).expect("it can be read");
        Self { folder: Folder::new("ways"), original: serde_saphyr::from_str(&text).expect("it is YAML") }
    }

    /// Returns the API server's address and port.
    fn address(&self) -> String {
        let server = self.original["clusters"][0]["cluster"]["server"].as_str().expect("it has a server");
        server.strip_prefix("https://").expect("by TLS").to_owned()
    }

    /// Writes a kubeconfig in which these fields of the cluster differ.
    fn file(&self, name: &str, cluster: &Value) -> PathBuf {
        let mut kubeconfig = self.original.clone();
        let fields = kubeconfig["clusters"][0]["cluster"].as_object_mut().expect("it is an object");
        fields.extend(cluster.as_object().expect("it is an object").clone());
        self.write(name, &kubeconfig)
    }

    fn write(&self, name: &str, kubeconfig: &Value) -> PathBuf {
        self.folder.write(name, kubeconfig.to_string())
    }
}

async fn release(kubeconfig: &Path, environment: &[(&str, &str)]) -> Finished {
    let mut call = Opsadmin::new().args(["release", "-A", "--kubeconfig"]).args([kubeconfig]);
    for (variable, value) in environment {
        call = call.env(variable, value);
    }
    call.run().await
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_used_as_kubectl_does() {
    let ways = Ways::new().await;
    let proxy = Proxy::before(ways.address()).await;
    let service = ways.file("service", &json!({ "server": format!("https://{SERVICE}") }));
    let url = format!("http://me:hush%40@127.0.0.1:{}", proxy.port);
    for variable in ["HTTPS_PROXY", "https_proxy"] {
        for except in ["", "example.com,10.0.0.0/8,", "kubernetes.default.svc:443"] {
            release(&service, &[(variable, &url), ("NO_PROXY", except)]).await.succeeded();
            let requests = proxy.take_requests();
            assert!(!requests.is_empty(), "{variable} {except}");
            for head in requests {
                assert!(head.starts_with(&format!("CONNECT {SERVICE} HTTP/1.1\r\n")), "{head}");
                let login = format!("authorization: basic {}", STANDARD.encode("me:hush@"));
                assert!(head.to_lowercase().contains(&login.to_lowercase()), "{head}");
            }
        }
    }
    let plan = Opsadmin::new().args(["plan", "--on-cluster", "--without-secrets", "-f", "-", "--kubeconfig"]);
    let plan = plan.args([&service]).env("HTTPS_PROXY", &url).stdin(account("way", "{}")).run().await.succeeded();
    assert!(plan.contains("default/way"), "{plan}");
    assert!(!proxy.take_requests().is_empty());
}

#[tokio::test]
async fn no_proxy_names_and_this_machine_are_reached_without_a_proxy() {
    let ways = Ways::new().await;
    let proxy = Proxy::before(ways.address()).await;
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let service = ways.file("service", &json!({ "server": format!("https://{SERVICE}") }));
    for (variable, except) in [("NO_PROXY", ".svc"), ("no_proxy", "kubernetes.default.svc:6443"), ("NO_PROXY", "a, *")]
    {
        let refused = release(&service, &[("HTTPS_PROXY", &url), (variable, except)]).await;
        // Only the proxy can resolve that name.
        assert_eq!(refused.status.code(), Some(1), "{except}: {refused:?}");
        assert!(!refused.stderr.contains("proxy"), "{except}: {refused:?}");
        assert_eq!(proxy.take_requests(), Vec::<String>::new(), "{except}");
    }
    let own = ways.file("own", &json!({}));
    release(&own, &[("HTTPS_PROXY", &url)]).await.succeeded();
    assert_eq!(proxy.take_requests(), Vec::<String>::new());
    // An unusable proxy is no error for a server that is reached without a proxy.
    release(&own, &[("HTTPS_PROXY", "ftp://x"), ("NO_PROXY", ",")]).await.succeeded();
}

#[tokio::test]
async fn the_proxy_of_the_kubeconfig_overrides_the_environment() {
    let ways = Ways::new().await;
    let (proxy, other) = (Proxy::before(ways.address()).await, Proxy::before(String::new()).await);
    let own = ways.file("own", &json!({ "proxy-url": format!("http://127.0.0.1:{}", proxy.port) }));
    let environment = [("HTTPS_PROXY", format!("http://127.0.0.1:{}", other.port)), ("NO_PROXY", "*".to_owned())];
    let environment = environment.each_ref().map(|(variable, value)| (*variable, value.as_str()));
    release(&own, &environment).await.succeeded();
    assert!(proxy.take_requests().iter().all(|head| head.starts_with(&format!("CONNECT {} ", ways.address()))));
    assert_eq!(other.take_requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_refusing_proxy_is_reported_without_its_password() {
    let ways = Ways::new().await;
    let closed = Proxy::before(String::new()).await;
    let service = ways.file("service", &json!({ "server": format!("https://{SERVICE}") }));
    let url = format!("http://me:hush@127.0.0.1:{}", closed.port);
    let refused = release(&service, &[("HTTPS_PROXY", &url)]).await;
    let named =
        format!("it cannot be reached through the proxy http://127.0.0.1:{} of the variable HTTPS_PROXY", closed.port);
    assert!(refused.stderr.contains(&named) && refused.stderr.contains("tunnel error: unsuccessful"), "{refused:?}");
    let wrong = release(&service, &[("HTTPS_PROXY", "ftp://me:hush@proxy")]).await;
    assert!(wrong.stderr.contains("the variable HTTPS_PROXY must begin with http://"), "{wrong:?}");
    for said in [refused, wrong] {
        assert!(said.status.code() == Some(1) && !said.stderr.contains("hush"), "{said:?}");
    }
}

#[tokio::test]
async fn several_kubeconfigs_are_merged_and_missing_ones_are_skipped() {
    let ways = Ways::new().await;
    let mut first = ways.original.clone();
    first["current-context"] = "".into();
    first["contexts"] = json!([]);
    let mut second = ways.original.clone();
    second["clusters"] = json!([]);
    second["users"] = json!([]);
    let (first, second) = (ways.write("first", &first), ways.write("second", &second));
    let list = format!("/no/such::{}:{}\n", first.display(), second.display());
    let call = || Opsadmin::new().args(["release", "-A"]);
    call().env("KUBECONFIG", &list).run().await.succeeded();
    let refused = call().env("KUBECONFIG", "/no/such:/nor/this").run().await.stderr;
    let said = "opsadmin: cannot use the kubeconfig in $KUBECONFIG: No such file: /no/such, /nor/this\n";
    assert_eq!(refused, said);
}

#[tokio::test]
async fn a_login_program_beside_the_kubeconfig_is_found_and_a_missing_one_reported() {
    use std::os::unix::fs::PermissionsExt as _;
    let ways = Ways::new().await;
    let mut kubeconfig = ways.original.clone();
    let user = kubeconfig["users"][0]["user"].take();
    let data = |field: &str| match user[format!("{field}-data")].as_str() {
        Some(data) => String::from_utf8(STANDARD.decode(data).expect("it is base64")).expect("it is PEM"),
        None => fs::read_to_string(user[field].as_str().expect("it names a file")).expect("it can be read"),
    };
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": { "clientCertificateData": data("client-certificate"), "clientKeyData": data("client-key") },
    });
    ways.folder.write("credential.json", credential.to_string());
    // The login program must not read the standard input of opsadmin.
    let script = "#!/bin/sh\nread -r line && exit 9\nexec cat \"$(dirname \"$0\")/credential.json\"\n";
    let program = ways.folder.write("login", script);
    fs::set_permissions(program, fs::Permissions::from_mode(0o700)).expect("the mode can be set");
    let login = |command: &str| {
        json!({ "exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": command, "interactiveMode": "IfAvailable",
            "installHint": "install it with `apt-get install login`",
        } })
    };
    kubeconfig["users"][0]["user"] = login("./login");
    let file = ways.write("config", &kubeconfig);
    let plan = Opsadmin::new().args(["plan", "--on-cluster", "--without-secrets", "-f", "-", "--kubeconfig"]);
    let plan = plan.args([&file]).stdin(account("way", "{}")).run().await.succeeded();
    assert!(plan.contains("default/way"), "{plan}");
    kubeconfig["users"][0]["user"] = login("no-such-login");
    let file = ways.write("config", &kubeconfig);
    let refused = release(&file, &[]).await;
    let said = format!(
        "opsadmin: cannot use the kubeconfig {}: its login program no-such-login cannot be started: No such file or directory \
         (os error 2); install it with `apt-get install login`\n",
        file.display()
    );
    assert_eq!((refused.status.code(), refused.stderr), (Some(1), said));
}

#[tokio::test]
async fn the_server_is_verified_with_the_name_and_authority_of_the_kubeconfig() {
    let ways = Ways::new().await;
    let cluster = &ways.original["clusters"][0]["cluster"];
    let authority = match cluster["certificate-authority-data"].as_str() {
        Some(data) => STANDARD.decode(data).expect("it is base64"),
        None => fs::read(cluster["certificate-authority"].as_str().expect("it names a file")).expect("it can be read"),
    };
    ways.folder.write("authority.pem", authority);
    let file = |more: Value| {
        let mut fields = json!({ "certificate-authority": "authority.pem", "certificate-authority-data": "" });
        fields.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        ways.file("config", &fields)
    };
    release(&file(json!({})), &[]).await.succeeded();
    release(&file(json!({ "tls-server-name": "kubernetes.default.svc" })), &[]).await.succeeded();
    let refused = release(&file(json!({ "tls-server-name": "other.example" })), &[]).await;
    assert!(refused.stderr.contains("certificate not valid for name"), "{refused:?}");
    let unchecked = json!({ "tls-server-name": "other.example", "insecure-skip-tls-verify": true });
    release(&file(unchecked), &[]).await.succeeded();
}
