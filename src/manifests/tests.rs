//! Tests of [`read`] with complete texts, as the commands use it.

use super::*;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;

fn options() -> Options {
    Options {
        cluster: ClusterId::parse("test").unwrap(),
        default_namespace: "default".to_owned(),
        least_interval: Period::NONE,
    }
}

/// Reads a text from standard input. The tests share one schema, since its construction takes longer than most tests.
fn read_text(text: impl AsRef<[u8]>) -> Result<Manifests, Invalid> {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of_api_account);
    let mut accounts = Vec::new();
    let skipped = walk(&SCHEMA, &[Source::Stdin], text.as_ref(), &options(), &mut |manifest| accounts.push(manifest))?;
    Ok(Manifests { accounts, skipped })
}

/// Returns a line for each problem of a text, without the file's name.
fn problems(text: &str) -> Vec<String> {
    let shown = |problem: &Problem| problem.to_string().strip_prefix("<stdin>").unwrap().to_owned();
    read_text(text).err().map(|invalid| invalid.problems.iter().map(shown).collect()).unwrap_or_default()
}

/// Returns a manifest with this spec, which begins on line 4.
fn account(name: &str, spec: &str) -> String {
    format!("apiVersion: ops-admin.com/v1\nkind: ApiAccount\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn names(manifests: &Manifests) -> Vec<String> {
    manifests.accounts.iter().map(|manifest| format!("{} {}", manifest.desired.owner, manifest.place)).collect()
}

#[test]
fn a_manifest_gives_its_account_with_its_place() {
    let read = read_text(format!("# ours\n{}", account("acme", "{enabled: false}"))).unwrap();
    assert_eq!(names(&read), ["test/default/acme <stdin>:2:1"]);
    assert!(!read.accounts[0].desired.settings.enabled);
}

#[test]
fn everything_wrong_in_every_document_is_listed_at_once() {
    let text = [
        &account("Acme", "{enabled: yes, allowedIPs: [10.0.0.1/8, 5, 10.0.0.1], roles: 1}"),
        "a: [\n",
        &account("b", "{name: no, allowedIps: [], secret: {labels: {a: '-', ops-admin.com/x: z}}}"),
    ];
    assert_eq!(
        problems(&text.join("---\n")),
        [
            ":3:18: default/Acme: metadata.name: a resource's name has at most 253 lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit",
            ":4:17: default/Acme: spec.enabled: must be true or false, and this is the plain word yes, which kubectl reads as true: write true",
            ":4:35: default/Acme: spec.allowedIPs[0]: \"10.0.0.1/8\" has bits set after its prefix; write 10.0.0.0/8 for the network or 10.0.0.1 for the one address",
            ":4:47: default/Acme: spec.allowedIPs[1]: must be text, and this is the number 5: put it in quotes",
            ":4:68: default/Acme: spec.roles: must be a list, and this is the number 1",
            ":6:4: this is not valid YAML: unclosed bracket '['",
            ":11:14: default/b: spec.name: must be text, and this is the plain word no, which kubectl reads as false: put it in quotes",
            ":11:18: default/b: spec.allowedIps: unknown field; did you mean allowedIPs?",
            ":11:55: default/b: spec.secret.labels[\"a\"]: a label's value has at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or digit",
            ":11:77: default/b: spec.secret.labels[\"ops-admin.com/x\"]: labels under ops-admin.com/ and app.kubernetes.io/managed-by are the operator's own",
        ]
    );
}

#[test]
fn one_mistake_gives_one_message() {
    for (spec, count) in [
        // An invalid name in the spec is reported once, and not again for metadata.name, its default.
        ("{name: [x]}", 1),
        ("{secret: {name: {}}}", 1),
        ("{secret: {keys: {apiKey: [], secretKey: []}}}", 2),
        ("{secret: {keys: 5}}", 1),
        ("{allowedIPs: [{}, [], null]}", 3),
        ("{enabled: true, enabled: true}", 1),
        ("{? [a] : b}", 1),
        ("{5: x}", 1),
        ("!mine {enabled: 5}", 1),
        ("{roles: [!mine Customer]}", 1),
    ] {
        let problems = problems(&account(&"a".repeat(101), spec));
        let name = problems.iter().filter(|problem| problem.contains("metadata.name: ")).count();
        assert_eq!(problems.len() - name, count, "{spec}: {problems:#?}");
        let judged = !spec.contains("name") && !spec.starts_with('!');
        assert_eq!(name, usize::from(judged), "{spec}: {problems:#?}");
    }
}

#[test]
fn a_list_gives_its_items() {
    let item = |name: &str| account(name, "{enabled: 5}").trim_end().replace('\n', "\n  ");
    for (version, kind) in [("v1", "List"), ("ops-admin.com/v1", "ApiAccountList")] {
        let text = format!("apiVersion: {version}\nkind: {kind}\nitems:\n- {}\n- {}\n- 5\n", item("a"), item("b"));
        assert_eq!(
            problems(&text),
            [
                ":7:19: default/a: spec.enabled: must be true or false, and this is the number 5",
                ":11:19: default/b: spec.enabled: must be true or false, and this is the number 5",
                ":12:3: a manifest is a mapping with apiVersion, kind, metadata and spec, and this is the number 5",
            ]
        );
        let read = read_text(text.replace("enabled: 5", "enabled: true").replace("- 5\n", "")).unwrap();
        assert_eq!(names(&read), ["test/default/a <stdin>:4:3", "test/default/b <stdin>:8:3"]);
    }
    assert_eq!(problems("apiVersion: v1\nkind: List\n"), [":1:1: items: is missing"]);
    assert_eq!(
        problems("apiVersion: v1\nkind: List\nitems: x\n"),
        [":3:8: items: must be a list, and this is the text \"x\""]
    );
}

#[test]
fn other_kinds_are_skipped_with_a_note() {
    let others = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata: {a: 1, a: !x 2, on: [}\n";
    let others = [
        &others.replace("[}", "[]}"),
        "apiVersion: example.com/v1\nkind: ApiAccount\nmetadata: {name: theirs}\n",
        "apiVersion: apps/v1\nkind: Deployment\n",
    ];
    let read = read_text([others.join("---\n"), account("acme", "{}")].join("---\n")).unwrap();
    assert_eq!(names(&read), ["test/default/acme <stdin>:13:1"]);
    let notes: Vec<_> = read.skipped.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "<stdin>:1:1: skipped ConfigMap other: only kind ApiAccount is read",
            "<stdin>:6:1: skipped ApiAccount theirs: its group is \"example.com\", and only resources of ops-admin.com are read",
            "<stdin>:10:1: skipped Deployment: only kind ApiAccount is read",
        ]
    );
}

#[test]
fn an_object_that_was_probably_meant_as_an_account_is_not_skipped() {
    let of = |version: &str, kind: &str| problems(&format!("apiVersion: {version}\nkind: {kind}\n")).join("\n");
    assert!(of("ops-admin.com/v2", "ApiAccount").starts_with(":1:13: apiVersion: ops-admin.com has no version \"v2\""));
    assert!(of("ops-admin.com/v1", "ApiAcount").starts_with(":2:7: kind: ops-admin.com/v1 has no kind \"ApiAcount\""));
    assert!(of("opsadmin.com/v1", "ApiAccount").starts_with(":1:13: apiVersion: \"opsadmin.com/v1\" has no kind"));
    assert!(
        of("v1", "ApiAccount").starts_with(":1:13: apiVersion: \"v1\" has no kind ApiAccount: write ops-admin.com/v1")
    );
    assert!(problems("kind: ApiAccount\n")[0].starts_with(":1:1: apiVersion: is missing"));
    assert!(problems("spec: {}\n")[0].starts_with(":1:1: kind: is missing"));
    assert!(problems("kind:\napiVersion: v1\n")[0].starts_with(":1:5: kind: must be text, and this is nothing; an"));
    assert!(
        problems("kind: ''\napiVersion: v1\n")[0].starts_with(":1:7: kind: must be text, and this is the text \"\"")
    );
    assert!(problems("kind: List\napiVersion: 1\n")[0].starts_with(":2:13: apiVersion: must be text, and this is the"));
    assert!(problems("just text\n")[0].starts_with(":1:1: a manifest is a mapping"));
    assert!(problems("- a\n")[0].ends_with("and this is a list"));
}

#[test]
fn nothing_to_apply_is_an_error() {
    for empty in
        ["", "# nothing\n---\n", "apiVersion: v1\nkind: ConfigMap\n", "apiVersion: v1\nkind: List\nitems: []\n"]
    {
        assert_eq!(problems(empty), [": holds no ApiAccount"], "{empty:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let source = || Source::Path(folder.path().into());
    let at = folder.path().display();
    assert_eq!(
        read(&[source()], &b""[..], &options()).unwrap_err().to_string(),
        format!("{at}: holds no .yaml, .yml or .json file")
    );
    fs::write(folder.path().join("a.yaml"), "apiVersion: v1\nkind: ConfigMap\n").unwrap();
    let sources = [Source::Stdin, source()];
    let invalid = read(&sources, account("acme", "{}").as_bytes(), &options()).unwrap_err();
    assert_eq!(invalid.to_string(), format!("{at}: holds no ApiAccount"));
    assert_eq!(invalid.skipped.len(), 1);
}

#[test]
fn a_kustomization_among_the_manifests_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("kustomization.yaml"), "resources: [acme.yaml]\n").unwrap();
    fs::write(folder.path().join("acme.yaml"), account("acme", "{}")).unwrap();
    let read = read(&[Source::Path(folder.path().into())], &b""[..], &options()).unwrap();
    assert_eq!((read.accounts.len(), read.skipped.len()), (1, 1));
}

#[test]
fn a_resource_that_is_declared_twice_names_both_places() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.yaml"), account("acme", "{}")).unwrap();
    fs::write(path("b.yaml"), format!("---\n{}", account("acme, namespace: default", "{}"))).unwrap();
    fs::write(path("c.yaml"), account("acme, namespace: other", "{ name: other }")).unwrap();
    let invalid = read(&[Source::Path(folder.path().into())], &b""[..], &options()).unwrap_err();
    let (first, second) = (path("a.yaml"), path("b.yaml"));
    assert_eq!(
        invalid.to_string(),
        format!(
            "{}:2:1: default/acme: this resource is declared twice; the first time at {}:1:1",
            second.display(),
            first.display()
        )
    );
    let twice = [Source::Path(first), Source::Path(path("c.yaml")), Source::Path(path("a.yaml"))];
    assert_eq!(read(&twice, &b""[..], &options()).unwrap().accounts.len(), 2, "one file named twice is one manifest");
}

#[test]
fn a_second_declaration_at_a_place_that_looks_the_same_is_found() {
    let folder = tempfile::tempdir().unwrap();
    for name in [b"\xe8.yaml", b"\xe9.yaml"] {
        fs::write(folder.path().join(OsStr::from_bytes(name)), account("acme", "{}")).unwrap();
    }
    let invalid = read(&[Source::Path(folder.path().into())], &b""[..], &options()).unwrap_err();
    assert!(invalid.to_string().contains("declared twice"), "{invalid}");
    let item = "&a { apiVersion: ops-admin.com/v1, kind: ApiAccount, metadata: { name: acme }, spec: {} }";
    let found = problems(&format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n- *a\n"));
    assert!(found.len() == 1 && found[0].contains("declared twice"), "{found:?}");
}

#[test]
fn two_manifests_for_one_account_name_or_secret_are_both_named() {
    let texts = [
        account("a", "{ name: Acme, secret: { name: keys } }"),
        account("b", "{ name: ' ' }"),
        account("c", "{ secret: { name: keys },\n  name: ACME }"),
        account("d, namespace: other", "{ secret: { name: keys } }"),
    ];
    assert_eq!(
        problems(&texts.join("---\n"))[1..],
        [
            ":14:25: default/c: spec.secret.name: default/a at <stdin>:1:1 has the Secret keys too, and a Secret holds the keys of one account; choose another name",
            ":15:9: default/c: spec.name: default/a at <stdin>:1:1 has the account name \"ACME\" too, and names are unique in OpsAdmin, whatever their case; choose another",
        ]
    );
}

#[test]
fn metadata_that_a_cluster_sets_is_ignored() {
    let exported = json!({
        "apiVersion": "ops-admin.com/v1",
        "kind": "ApiAccount",
        "metadata": {
            "name": "acme",
            "generateName": "ac",
            "namespace": "sales",
            "uid": "1b2c",
            "generation": 7,
            "resourceVersion": "42",
            "creationTimestamp": null,
            "deletionTimestamp": "2024-01-01T00:00:00Z",
            "finalizers": ["ops-admin.com/account"],
            "labels": {"team": "sales"},
            "managedFields": [{"manager": "x", "fieldsV1": {"f:spec": {"": {}}}}],
        },
        "spec": {},
        "status": {"anything": ["at", "all"]},
    });
    let read = read_text(exported.to_string()).unwrap();
    let [manifest] = &read.accounts[..] else { panic!("{read:?}") };
    assert_eq!((manifest.desired.uid.as_deref(), manifest.desired.generation), (None, None));
    assert_eq!(manifest.desired.owner.to_string(), "test/sales/acme");
}

#[test]
fn no_message_contains_an_escape_character_of_a_manifest() {
    let text = account(r#""\e[2J""#, r#"{"\e[31m": 1, roles: ["\e[31m"], secret: {labels: {"\e[31m": a}}}"#);
    for problem in problems(&text) {
        assert!(!problem.contains('\u{1b}'), "{problem:?}");
    }
    let skipped = read_text(text.replace("ops-admin.com", "example.com") + "---\n" + &account("acme", "{}")).unwrap();
    assert!(!skipped.skipped[0].to_string().contains('\u{1b}'));
}

#[test]
fn many_mistakes_do_not_take_quadratic_time() {
    let labels: Vec<_> = (0..20_000).map(|number| format!("\"label {number}\": x")).collect();
    let problems = problems(&account("acme", &format!("{{secret: {{labels: {{{}}}}}}}", labels.join(", "))));
    assert_eq!(problems.len(), 20_001);
}

/// Generates any JSON, with fields of the spec among its keys.
fn any_json() -> impl Strategy<Value = Json> {
    let key = prop_oneof![
        prop::sample::select(vec!["name", "keys", "apiKey", "labels", "enabled", "roles", "allowedIPs"])
            .prop_map(str::to_owned),
        "\\PC{0,4}",
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "\\PC{0,8}".prop_map(Json::from),
        Just(json!("10.0.0.0/8")),
        Just(json!("Customer")),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::btree_map(key.clone(), inner, 0..5)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(read) = read_text(&bytes) {
            prop_assert!(!read.accounts.is_empty());
        }
    }

    #[test]
    fn no_yaml_makes_the_reader_panic(text in "([-?:,\\[\\]{}#&*!|>'\"%@ \t\r\n~<a0.]|---\n|\\.\\.\\.\n|- |: |&a |\\*a|<<: |kind: List\n|!!str |\u{feff}){0,40}") {
        let lines = text.split('\n').count();
        if let Err(invalid) = read_text(&text) {
            for problem in invalid.problems {
                // A lone carriage return ends a line too.
                let position = problem.place.position.map_or(1, |position| position.line);
                prop_assert!((1..=lines + text.matches('\r').count() + 1).contains(&position), "{}", problem);
            }
        }
    }

    #[test]
    fn no_damage_to_a_manifest_makes_the_reader_panic(at in any::<prop::sample::Index>(), cut in 0usize..20, put in "\\PC{0,3}|[-:{}\\[\\]\n\t'\"&*!]{0,4}") {
        let mut text = account("acme", "\n  enabled: true\n  allowedIPs: [203.0.113.7]\n  secret: {keys: {apiKey: a}, labels: {a/b: c}}\n");
        let from = at.index(text.len());
        text.replace_range(from..(from + cut).min(text.len()), &put);
        if let Ok(read) = read_text(&text) {
            // The damage did not change the list, so the list must still restrict the account.
            prop_assert!(!text.contains("allowedIPs: [203.0.113.7]") || !read.accounts[0].desired.settings.allowed_ips.is_any());
        }
    }

    #[test]
    fn no_invalid_value_widens_access(value in any_json()) {
        let of = |field: &str| {
            let spec = json!({ field: value });
            let text = json!({"apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": {"name": "a"}, "spec": spec});
            read_text(text.to_string()).map(|read| read.accounts[0].desired.settings.clone())
        };
        if let Ok(settings) = of("allowedIPs") {
            prop_assert_eq!(settings.allowed_ips.is_any(), value == json!([]));
        }
        if let Ok(settings) = of("affiliate") {
            prop_assert_eq!(settings.affiliate.map(|affiliate| Json::from(affiliate.as_str())), Some(value.clone()));
        }
        if let Ok(settings) = of("enabled") {
            prop_assert_eq!(Json::from(settings.enabled), value.clone());
        }
        if let Ok(settings) = of("roles") {
            prop_assert_eq!(Some(settings.roles.len()), value.as_array().map(Vec::len));
        }
        drop(of("secret"));
    }

    #[test]
    fn no_document_makes_the_reader_panic(value in any_json()) {
        drop(read_text(value.to_string()));
        drop(read_text(json!({"apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": value, "spec": value}).to_string()));
        drop(read_text(json!({"apiVersion": "v1", "kind": "List", "items": value}).to_string()));
    }
}
