//! The YAML that the program writes: kubectl and Python read every text in it unchanged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::staff_database::StaffDatabase;
use crate::support::cluster::cluster;
use crate::support::opsadmin::Opsadmin;
use crate::support::process::Folder;
use crate::support::run::run;

/// A Python program that prints each document of its files as JSON, one document per line.
const PYTHON: &str = "import json, sys, yaml
for file in sys.argv[1:]:
    for document in yaml.safe_load_all(open(file, 'rb')):
        print(json.dumps(document))";

/// Texts that some reader of YAML changes, refuses or takes for another type.
const HOSTILE: [&str; 64] = [
    "\ta",
    "\ta\nb",
    " a",
    "a ",
    "a\n",
    "\na",
    "a\n\n",
    "\n",
    " \n a",
    "a\n  b\n c",
    "a\r\nb",
    "a\rb",
    "#",
    "# a",
    "a # b",
    "a: b",
    "a:",
    ":",
    ": ",
    "- a",
    "-",
    "--",
    "---",
    "--- a",
    "...",
    "? a",
    "?",
    "a\n---\nb",
    "a\n...\nb",
    "yes",
    "No",
    "on",
    "OFF",
    "y",
    "N",
    "true",
    "Null",
    "~",
    "1",
    "-1",
    "1.5",
    "1e5",
    "0x1F",
    "0o17",
    "010",
    "1_000",
    "1:30",
    "2026-11-28",
    "2026-11-28T09:00:00Z",
    ".inf",
    ".NaN",
    "<<",
    "=",
    "!tag",
    "!!str a",
    "&x",
    "*x",
    "%x",
    "@x",
    "`x",
    "|",
    ">",
    "'a",
    "\"a\"",
];
/// The pieces of random texts.
const PIECES: [&str; 24] = [
    "\t",
    "\n",
    "\r",
    " ",
    "  ",
    "#",
    ": ",
    "- ",
    "'",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    "a",
    "0",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "\u{200b}",
    "\u{1f600}",
    "\u{e9}",
];
/// Control characters, which are allowed only in annotations.
const CONTROL: [&str; 8] = ["\u{1}", "\u{1b}[31m", "a\u{7f}", "\u{85}", "a\u{85}b", "\u{9b}", "\u{fffe}", "\u{ffff}"];

/// Returns the hostile texts and random texts. They are the same in each run.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = HOSTILE.iter().map(|&text| text.to_owned()).collect();
    texts.push(format!("a {}", "word ".repeat(180)));
    texts.push("x".repeat(1000));
    let mut state: usize = 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % PIECES.len()
    };
    texts.extend((0..160).map(|number| (0..=number % 6).map(|_| PIECES[next()]).collect::<String>()));
    texts
}

/// Reads files with Python and kubectl, checks that both agree, and returns the documents in order.
async fn read(files: &[PathBuf]) -> Vec<Value> {
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON]).args(files);
    let python = documents(&run(python, "", Duration::from_mins(1)).await.succeeded());
    let mut kubectl = Command::new(cluster().await.kubectl_program());
    kubectl.args(["annotate", "--local", "read=it", "-o", "json"]);
    for file in files {
        kubectl.arg("-f").arg(file);
    }
    let mut kubectl = documents(&run(kubectl, "", Duration::from_mins(1)).await.succeeded());
    for document in &mut kubectl {
        let metadata = document["metadata"].as_object_mut().expect("it has metadata");
        let annotations = metadata["annotations"].as_object_mut().expect("one was added");
        annotations.remove("read");
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    assert_eq!(python.len(), kubectl.len());
    for (python, kubectl) in python.iter().zip(&kubectl) {
        assert_eq!(python, kubectl, "Python and kubectl");
    }
    python
}

fn documents(text: &str) -> Vec<Value> {
    let documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    documents.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("it can be read").map(|entry| entry.expect("it can be read").path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    files
}

#[tokio::test]
async fn other_readers_read_the_secrets_as_the_program_does() {
    let texts = texts().into_iter().chain(CONTROL.map(ToOwned::to_owned)).collect::<Vec<_>>();
    let office = StaffDatabase::sqlite().await;
    // Every text is the value of an annotation. Many annotations per account keep the number of accounts low.
    let accounts = texts.chunks(30).enumerate().map(|(number, texts)| {
        let annotations = texts.iter().enumerate().map(|(number, text)| (format!("text-{number:03}"), json!(text)));
        let annotations: serde_json::Map<String, Value> = annotations.collect();
        (format!("a{number}"), json!({ "secret": { "annotations": annotations } }))
    });
    let accounts: Vec<(String, Value)> = accounts.collect();
    office.apply(&accounts.iter().map(|(name, spec)| (name.as_str(), spec.clone())).collect::<Vec<_>>()).await;
    let secrets = read(&files_in(&office.secrets())).await;
    assert_eq!(secrets.len(), accounts.len());
    for (secret, (name, spec)) in secrets.iter().zip(&accounts) {
        assert_eq!(secret["metadata"]["name"], format!("{name}-opsadmin"));
        for (annotation, text) in spec["secret"]["annotations"].as_object().expect("it is an object") {
            assert_eq!(&secret["metadata"]["annotations"][annotation], text);
        }
    }
    // The program reads the same texts, so it plans no change.
    let plan =
        office.plan(&accounts.iter().map(|(name, spec)| (name.as_str(), spec.clone())).collect::<Vec<_>>(), &[]).await;
    assert_eq!(plan["summary"]["unchanged"], accounts.len(), "{plan}");
}

#[tokio::test]
async fn other_readers_read_an_exported_manifest_as_the_program_does() {
    let office = StaffDatabase::sqlite().await;
    let texts = texts();
    let line = |(number, text): (usize, &String)| {
        let (key, secret) = (format!("legacy-{number:04}"), format!("0123456789abcdef-{number}"));
        json!({ "name": format!("n{number:04}"), "description": text, "apiKey": key, "secretKey": secret }).to_string()
    };
    let lines: Vec<String> = texts.iter().enumerate().map(line).collect();
    office.call_with_keyring(&["import", "-"]).stdin(lines.join("\n")).run().await.succeeded();
    let folder = Folder::new("export");
    let file = folder.write("all.yaml", office.run(&["export"]).await.succeeded());
    let each = folder.path().join("each");
    office.call(&["export", "--folder", each.to_str().expect("it is text")]).run().await.succeeded();
    for files in [vec![file], files_in(&each)] {
        let manifests = read(&files).await;
        assert_eq!(manifests.len(), texts.len());
        for (manifest, text) in manifests.iter().zip(&texts) {
            assert_eq!(manifest["spec"]["description"].as_str().unwrap_or_default(), text);
        }
    }
    let file = folder.write("get.yaml", office.run(&["get", "-o", "yaml"]).await.succeeded());
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON]).arg(file);
    let seen = documents(&run(python, "", Duration::from_mins(1)).await.succeeded());
    assert_eq!(seen, [office.json(&["get"]).await]);
}

#[tokio::test]
async fn other_readers_read_a_rendered_deployment_as_the_program_does() {
    let texts = texts().into_iter().chain(CONTROL.map(ToOwned::to_owned)).map(|text| format!("--log-format={text}x"));
    let texts: Vec<String> = texts.collect();
    let mut call = Opsadmin::new().args(["render", "--image", "example.com/o:1"]);
    for text in &texts {
        call = call.args([format!("--controller-arg={text}")]);
    }
    let folder = Folder::new("render");
    let file = folder.write("all.yaml", call.run().await.succeeded());
    let objects = read(&[file]).await;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").expect("it has a Deployment");
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().expect("a list");
    let own: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
    assert_eq!(own[own.len() - texts.len()..], texts);
}
