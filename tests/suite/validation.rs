//! The commands without a cluster and the API server refuse invalid manifests with the same reason.
//!
//! Each file of `data/invalid` has one mistake. Its first lines state the expected message of each side, or `-` if the
//! API server accepts the file. Both sides accept the files of `data/valid`, which reach the limits of every field.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use http::Request;
use kube::Client;
use opsadmin_operator::account::{ClusterId, Period};
use opsadmin_operator::manifests::{self, Invalid, Manifests, Options, Source};
use serde_json::Value;

use crate::support::cluster::cluster;

/// A manifest with the messages that are expected for it.
struct Sample {
    path: PathBuf,
    text: String,
}

impl Sample {
    /// Returns the expected message, from a line such as `# offline: TEXT`.
    fn expected(&self, by: &str) -> &str {
        let line = self.text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(by)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{}: says nothing of {by}", self.path.display()))
    }
}

fn samples(folder: &str) -> Vec<Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/data").join(folder);
    let entries = fs::read_dir(&folder).expect("the folder of samples can be read");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("its entries too").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    let read = |path: PathBuf| Sample { text: fs::read_to_string(&path).expect("a sample can be read"), path };
    paths.into_iter().map(read).collect()
}

fn read(path: &Path) -> Result<Manifests, Invalid> {
    let options = Options {
        cluster: ClusterId::parse("test").expect("a cluster id"),
        default_namespace: "default".to_owned(),
        least_interval: Period::NONE,
    };
    manifests::read(&[Source::Path(path.to_owned())], io::empty(), &options)
}

/// Fails with all problems at once, because fixing them one by one takes long.
fn assert_all_hold(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn each_bad_manifest_is_refused_offline_for_its_one_mistake() {
    let wrong = samples("invalid").into_iter().filter_map(|sample| {
        let expected = sample.expected("offline");
        match read(&sample.path) {
            Ok(_) => Some(format!("{} is accepted", sample.path.display())),
            Err(invalid) => match &invalid.problems[..] {
                [one] if one.to_string().contains(expected) && one.place.position.is_some() => None,
                _ => Some(format!("expected {expected}\n{invalid}")),
            },
        }
    });
    assert_all_hold(&wrong.collect::<Vec<_>>());
}

#[test]
fn each_good_manifest_is_accepted_offline() {
    let wrong = samples("valid").into_iter().filter_map(|sample| match read(&sample.path) {
        Ok(read) if read.accounts.len() == 1 && read.skipped.is_empty() => None,
        other => Some(format!("{}: {other:?}", sample.path.display())),
    });
    assert_all_hold(&wrong.collect::<Vec<_>>());
}

#[tokio::test]
async fn each_bad_manifest_is_refused_by_the_api_server_for_the_same_reason() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("bad manifests").await;
    let client = cluster.client().await;
    let mut wrong = Vec::new();
    for sample in samples("invalid") {
        let expected = sample.expected("admission");
        match (create(&client, namespace.name(), &sample).await, expected) {
            (Ok(()), "-") => {}
            (Err(message), _) if message.contains(expected) && expected != "-" => {}
            (answer, _) => wrong.push(format!("{}: expected {expected}, and got {answer:?}", sample.path.display())),
        }
    }
    assert_all_hold(&wrong);
}

#[tokio::test]
async fn each_good_manifest_is_accepted_by_the_api_server() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("good manifests").await;
    let client = cluster.client().await;
    let mut wrong = Vec::new();
    for sample in samples("valid") {
        if let Err(message) = create(&client, namespace.name(), &sample).await {
            wrong.push(format!("{}: {message}", sample.path.display()));
        }
    }
    assert_all_hold(&wrong);
}

/// Asks the API server, as strictly as kubectl does, whether it would create the resource. The error is its message.
async fn create(client: &Client, namespace: &str, sample: &Sample) -> Result<(), String> {
    let resource: Value = serde_saphyr::from_str(&sample.text).expect("a sample is valid YAML");
    let uri = format!(
        "/apis/ops-admin.com/v1/namespaces/{namespace}/apiaccounts?dryRun=All&fieldValidation=Strict&fieldManager=test"
    );
    let request = Request::post(uri)
        .header("content-type", "application/json")
        .body(resource.to_string().into_bytes())
        .expect("a request");
    match client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(error) => panic!("{}: {error}", sample.path.display()),
    }
}
