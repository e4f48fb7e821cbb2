//! `opsadmin render`: everything that a cluster needs to run the controller, for people without Helm.

use super::output::Output;
use crate::api::definition;
use crate::reconcile::is_dns_label;
use anyhow::{Result, bail};
use clap::Args;
use std::process::ExitCode;

const EVERYWHERE: &str = include_str!("../../deploy/rbac.yaml");
const IN_SOME_NAMESPACES: &str = include_str!("../../deploy/rbac-namespaced.yaml");
const CONTROLLER: &str = include_str!("../../deploy/controller.yaml");

/// What the files say where a choice is to stand.
const NAMESPACE: &str = "opsadmin-system";
const WATCHED: &str = "partners";
const IMAGE: &str = "image: opsadmin-operator\n";
const ARGUMENTS: &str = "        - --log-format=json\n";

/// Print the manifests of the controller: CustomResourceDefinition, namespace, permissions and Deployment.
///
/// Two Secrets are yours to make: `opsadmin-database` with the key `url`, and `opsadmin-keyring` with the key `keyring`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  opsadmin keyring init\n  kubectl create namespace opsadmin-system\n  kubectl -n opsadmin-system create secret generic opsadmin-database --from-literal=url=postgres://USER:PASSWORD@HOST/DATABASE\n  kubectl -n opsadmin-system create secret generic opsadmin-keyring --from-file=keyring=opsadmin.keyring\n  opsadmin render --image registry.example.com/opsadmin-operator:1.2.3 | kubectl apply --server-side -f -"
)]
pub struct Render {
    /// The controller's image.
    #[arg(long, value_name = "IMAGE")]
    image: String,

    /// The namespace to run the controller in.
    #[arg(short, long, value_name = "NAMESPACE", default_value = NAMESPACE, value_parser = namespace)]
    namespace: String,

    /// A namespace to watch, with permissions in that one only; may be given more than once. Default: all of them.
    #[arg(long = "watch", value_name = "NAMESPACE", value_parser = namespace)]
    watched: Vec<String>,

    /// A further argument for the controller, such as --controller-arg=--sweep-interval=1m; may be given more than once.
    #[arg(long = "controller-arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Render {
    /// Prints them.
    pub fn run(&self, output: &mut Output) -> Result<ExitCode> {
        if self.image.trim().is_empty() || self.image.contains(char::is_whitespace) {
            bail!("--image {:?} is no image", self.image);
        }
        let definition = serde_saphyr::to_string(&definition())?;
        let permissions = if self.watched.is_empty() { without_heading(EVERYWHERE) } else { self.permissions() };
        let texts = [definition, permissions, self.controller()];
        let texts = texts.map(|text| text.trim().replace(NAMESPACE, &self.namespace));
        output.line(&texts.join("\n---\n"))?;
        Ok(ExitCode::SUCCESS)
    }

    /// What stands in one namespace is repeated for each that is watched.
    fn permissions(&self) -> String {
        let text = without_heading(IN_SOME_NAMESPACES);
        let (of_each, once): (Vec<&str>, Vec<&str>) =
            text.split("\n---\n").partition(|object| object.contains(&format!("namespace: {WATCHED}\n")));
        let each = self.watched.iter().flat_map(|namespace| {
            let placed = format!("namespace: {namespace}\n");
            of_each.iter().map(move |object| object.replace(&format!("namespace: {WATCHED}\n"), &placed))
        });
        once.iter().map(|object| (*object).to_owned()).chain(each).collect::<Vec<_>>().join("\n---\n")
    }

    fn controller(&self) -> String {
        let watched = self.watched.iter().map(|namespace| format!("--namespace={namespace}"));
        let arguments = watched.chain(self.arguments.iter().cloned());
        let arguments: Vec<String> = arguments.map(|argument| format!("        - {}\n", quoted(&argument))).collect();
        without_heading(CONTROLLER)
            .replace(ARGUMENTS, &format!("{ARGUMENTS}{}", arguments.concat()))
            .replace(IMAGE, &format!("image: {}\n", quoted(&self.image)))
    }
}

/// The objects of a file, without what it says of itself at its head.
fn without_heading(text: &str) -> String {
    text.split_inclusive('\n').skip_while(|line| line.starts_with('#')).collect()
}

/// A text in double quotes, which JSON and YAML write alike.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn namespace(text: &str) -> Result<String, String> {
    if is_dns_label(text) { Ok(text.to_owned()) } else { Err("no namespace can have this name".to_owned()) }
}
