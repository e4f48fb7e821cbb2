//! Whole texts through [`read`], as the commands do it.

use super::*;

fn options() -> Options {
    Options { cluster: ClusterId::parse("test").unwrap(), default_namespace: "default".to_owned() }
}

/// Reads a text from standard input.
fn read_text(text: &str) -> Result<Manifests, Invalid> {
    read(&[Source::Stdin], text.as_bytes(), &options())
}

/// What is wrong with a text, a line for each problem, without the file's name.
fn problems(text: &str) -> Vec<String> {
    let shown = |problem: &Problem| problem.to_string().strip_prefix("<stdin>").unwrap().to_owned();
    read_text(text).err().map(|invalid| invalid.problems.iter().map(shown).collect()).unwrap_or_default()
}

#[test]
fn a_manifest_gives_its_account_with_its_place() {
    let text = "# ours\napiVersion: ops-admin.com/v1\nkind: ApiAccount\nmetadata: {name: acme}\nspec: {}\n";
    let read = read_text(text).unwrap();
    let [manifest] = &read.accounts[..] else { panic!("{read:?}") };
    assert_eq!(manifest.desired.owner.to_string(), "test/default/acme");
    assert_eq!(manifest.resource.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(manifest.place.to_string(), "<stdin>:2:1");
    assert_eq!(
        problems(&text.replace("{}", "{enabled: 1}")),
        [":5:17: default/acme: spec.enabled: must be true or false, and this is the number 1"]
    );
}
