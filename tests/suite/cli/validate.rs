//! `opsadmin validate`: right or wrong, with the place, and an exit code for a pull request's check.

use std::path::Path;

use crate::support::opsadmin::Opsadmin;

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

#[tokio::test]
async fn every_example_is_valid() {
    let out = Opsadmin::new().args(["validate", "-f", &repository("examples")]).run().await.succeeded();
    assert!(out.ends_with(" accounts are valid\n"), "{out}");
}

#[tokio::test]
async fn every_problem_is_listed_with_its_place() {
    let manifests = "kind: ApiAccount\napiVersion: ops-admin.com/v1\nmetadata:\n  name: a\nspec:\n  enabled: yes\n---\n\
                     kind: ApiAccount\napiVersion: ops-admin.com/v1\nmetadata:\n  name: b\nspec:\n  affiliate: ' '\n";
    let finished = Opsadmin::new().args(["validate", "-f", "-"]).stdin(manifests).run().await;
    assert_eq!(finished.status.code(), Some(1));
    assert_eq!(finished.stdout, "");
    assert!(finished.stderr.contains("<stdin>:6:12: default/a: spec.enabled: "), "{}", finished.stderr);
    assert!(finished.stderr.contains("<stdin>:13:14: default/b: spec.affiliate: "), "{}", finished.stderr);
}

#[tokio::test]
async fn nothing_to_validate_is_no_success() {
    let finished = Opsadmin::new().args(["validate", "-f", "-"]).run().await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("ApiAccount"), "{}", finished.stderr);
}
