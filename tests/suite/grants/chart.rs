//! The templates of the chart have the same objects as the files that `opsadmin render` prints.

const FILES: [(&str, &str); 3] = [
    (
        include_str!("../../../deploy/grants.yaml"),
        include_str!("../../../charts/opsadmin-operator/templates/grants.yaml"),
    ),
    (
        include_str!("../../../deploy/finalizer-policy.yaml"),
        include_str!("../../../charts/opsadmin-operator/templates/finalizer-policy.yaml"),
    ),
    (
        include_str!("../../../deploy/aggregated-roles.yaml"),
        include_str!("../../../charts/opsadmin-operator/templates/aggregated-roles.yaml"),
    ),
];

/// Returns the lines whose content does not depend on the release, and not those that only the chart has: labels, the
/// mode of the binding and its namespaces.
fn common(text: &str) -> Vec<&str> {
    let start = text.find("apiVersion:").expect("an object");
    let text = text[start..].split("  {{- if eq .Values.grants.mode").next().expect("there is a first");
    let depends = ["name: opsadmin-", "policyName:", "labels:", "validationActions:"];
    let is_common = |line: &&str| {
        let is_release = line.contains("{{") || depends.iter().any(|start| line.trim_start().starts_with(start));
        !is_release
    };
    text.lines().filter(is_common).collect()
}

#[test]
fn each_template_has_the_objects_of_its_file() {
    for (file, template) in FILES {
        assert!(common(file).len() > 10);
        assert_eq!(common(file), common(template));
    }
}
