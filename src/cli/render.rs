//! `opsadmin render`: prints the manifests that a cluster needs to run the controller without Helm, or the rights for
//! `plan --on-cluster`. It replaces placeholders in the files of `deploy/`.

mod auth_server;
mod policies;

use self::auth_server::AuthServerManifests;
use self::policies::Policies;
use super::output::Output;
use crate::api::definition;
use crate::reconcile::parse_namespace;
use crate::yaml::quoted;
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

const EVERYWHERE: &str = include_str!("../../deploy/rbac.yaml");
const IN_SOME_NAMESPACES: &str = include_str!("../../deploy/rbac-namespaced.yaml");
const CONTROLLER: &str = include_str!("../../deploy/controller.yaml");
const TO_PLAN: &str = include_str!("../../deploy/rbac-plan.yaml");

const BETWEEN_OBJECTS: &str = "\n---\n";

// The texts in the files that are replaced by the user's choices.
const NAMESPACE: &str = "opsadmin-system";
const WATCHED: &str = "partners";
const RIGHT_TO_SECRETS: &str = "name: opsadmin-plan-secrets\n";
const IMAGE: &str = "image: opsadmin-operator\n";
const ARGUMENTS: &str = "        - --log-format=json\n";

/// Print the manifests of the controller: CustomResourceDefinition, namespace, permissions and Deployment.
///
/// You must create two Secrets: `opsadmin-database` with the key `url`, and `opsadmin-keyring` with the key `keyring`.
/// With --plan-rights, print only the rights for a pipeline that plans.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin keyring init\n  kubectl create namespace opsadmin-system\n  kubectl -n opsadmin-system create secret generic opsadmin-database \\\n    --from-literal=url=postgres://USER:PASSWORD@HOST/DATABASE\n  kubectl -n opsadmin-system create secret generic opsadmin-keyring \\\n    --from-file=keyring=opsadmin.keyring\n  opsadmin render \\\n    --image registry.example.com/opsadmin-operator:1.2.3 \\\n    | kubectl apply --server-side -f -\n  opsadmin render --grants deny \\\n    --image registry.example.com/opsadmin-operator:1.2.3 \\\n    | kubectl apply --server-side -f -\n  opsadmin render --auth-server https://auth.example.com \\\n    --auth-server-networks 10.244.0.0/16 \\\n    --image registry.example.com/opsadmin-operator:1.2.3 \\\n    | kubectl apply --server-side -f -\n  opsadmin render --plan-rights partners --without-secrets \\\n    | kubectl apply -f -"
)]
pub struct Render {
    /// The container image of the controller.
    #[arg(long, value_name = "IMAGE", value_parser = image, required_unless_present = "planned")]
    image: Option<String>,

    /// The namespace of the controller; with --plan-rights, of the ServiceAccount that plans.
    #[arg(short, long, value_name = "NAMESPACE", default_value = NAMESPACE, value_parser = parse_namespace)]
    namespace: String,

    /// A namespace to watch, with permissions in this namespace only; may be given more than once. Default: all
    /// namespaces.
    #[arg(long = "watch", value_name = "NAMESPACE", value_parser = parse_namespace)]
    watched: Vec<String>,

    /// A further argument for the controller, such as --controller-arg=--sweep-interval=1m; may be given more than
    /// once.
    #[arg(long = "controller-arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    arguments: Vec<String>,

    /// Print only the rights that `plan --on-cluster` needs for accounts in this namespace: rights to read. The
    /// ServiceAccount opsadmin-plan gets them. May be given more than once.
    #[arg(
        long = "plan-rights",
        value_name = "NAMESPACE",
        value_parser = parse_namespace,
        conflicts_with_all = ["image", "watched", "arguments"]
    )]
    planned: Vec<String>,

    /// With --plan-rights: grant no right to Secrets, for `plan --without-secrets`.
    #[arg(long, requires = "planned")]
    without_secrets: bool,

    #[command(flatten)]
    auth_server: AuthServerManifests,

    #[command(flatten)]
    policies: Policies,
}

impl Render {
    /// Prints the manifests.
    pub fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let texts = match &self.image {
            Some(image) => {
                let mut texts =
                    vec![serde_saphyr::to_string(&definition())?, self.permissions(), self.controller(image)];
                texts.extend(self.auth_server.text(image, |text| self.placed(text)));
                texts.extend(self.policies());
                texts
            }
            None => vec![self.rights_to_plan()],
        };
        let texts: Vec<&str> = texts.iter().map(|text| text.trim()).collect();
        output.line(&texts.join(BETWEEN_OBJECTS))?;
        Ok(ExitCode::SUCCESS)
    }

    fn permissions(&self) -> String {
        let text = if self.watched.is_empty() { EVERYWHERE } else { IN_SOME_NAMESPACES };
        self.in_each(&self.watched, without_heading(text).split(BETWEEN_OBJECTS))
    }

    /// Returns the optional objects. Their names contain the controller's namespace, so that two controllers for different
    /// namespaces do not share a policy.
    fn policies(&self) -> Vec<String> {
        self.policies.texts(&self.watched, |text| self.placed(text))
    }

    fn rights_to_plan(&self) -> String {
        let all = without_heading(TO_PLAN);
        let is_granted = |object: &&str| !(self.without_secrets && object.contains(RIGHT_TO_SECRETS));
        self.in_each(&self.planned, all.split(BETWEEN_OBJECTS).filter(is_granted))
    }

    /// Returns the objects, and repeats each object of the watched namespace for each of these namespaces.
    fn in_each<'a>(&self, namespaces: &[String], objects: impl Iterator<Item = &'a str>) -> String {
        let somewhere = format!("namespace: {WATCHED}\n");
        let (of_each, once): (Vec<&str>, Vec<&str>) = objects.partition(|object| object.contains(&somewhere));
        let once = once.iter().map(|object| self.placed(object));
        let each = namespaces.iter().flat_map(|namespace| {
            let there = format!("namespace: {namespace}\n");
            let placed =
                |object: &&str| object.split(&somewhere).map(|part| self.placed(part)).collect::<Vec<_>>().join(&there);
            of_each.iter().map(placed).collect::<Vec<_>>()
        });
        once.chain(each).collect::<Vec<_>>().join(BETWEEN_OBJECTS)
    }

    /// Inserts the controller's namespace into a text of the files. Must be called before texts of the user are
    /// inserted, because those may contain the placeholder.
    fn placed(&self, text: &str) -> String {
        text.replace(NAMESPACE, &self.namespace)
    }

    fn controller(&self, image: &str) -> String {
        let watched = self.watched.iter().map(|namespace| format!("--namespace={namespace}"));
        let lag = self.auth_server.controller_argument(&self.arguments);
        let arguments = watched.chain(lag).chain(self.arguments.iter().cloned());
        let arguments: Vec<String> = arguments.map(|argument| format!("        - {}\n", quoted(&argument))).collect();
        let text =
            self.placed(&without_heading(CONTROLLER)).replace(ARGUMENTS, &format!("{ARGUMENTS}{}", arguments.concat()));
        with_image(&text, image)
    }
}

/// Inserts the image of the containers.
fn with_image(text: &str, image: &str) -> String {
    text.replace(IMAGE, &format!("image: {}\n", quoted(image)))
}

/// Returns the objects of a file, without the comment at its start.
fn without_heading(text: &str) -> String {
    text.split_inclusive('\n').skip_while(|line| line.starts_with('#')).collect()
}

fn image(text: &str) -> Result<String, String> {
    let is_one = !text.is_empty() && !text.contains(char::is_whitespace);
    if is_one { Ok(text.to_owned()) } else { Err("no image can have this name".to_owned()) }
}
