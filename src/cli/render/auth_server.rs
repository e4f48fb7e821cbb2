//! The auth server in the output of `opsadmin render`.

use super::{ARGUMENTS, with_image, without_heading};
use crate::auth_server::Issuer;
use crate::cli::auth_server::network;
use crate::yaml::quoted;
use clap::Args;

const AUTH_SERVER: &str = include_str!("../../../deploy/auth-server.yaml");

// The texts in the file that are replaced by the user's choices.
const ISSUER: &str = "        - --issuer=https://auth.example.com\n";
const NETWORKS: &str = "        - --internal-networks=10.244.0.0/16\n";

/// The options for the auth server.
#[derive(Debug, Args)]
pub struct AuthServerManifests {
    /// Also print an auth server with this issuer, the URL at which partners reach it. You must create the Secret
    /// `opsadmin-auth-server-database` with the key `url`: the URL of a database role of its own.
    #[arg(long, value_name = "ISSUER", value_parser = Issuer::parse, requires = "networks", conflicts_with = "planned")]
    auth_server: Option<Issuer>,

    /// With --auth-server: the networks of your proxies and of Prometheus, separated by commas. Its internal listener
    /// refuses all others.
    #[arg(
        id = "networks",
        long = "auth-server-networks",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = as_written,
        requires = "auth_server"
    )]
    networks: Vec<String>,

    /// With --auth-server: a further argument for the auth server, such as --auth-server-arg=--trusted-proxies=10.0.0.7;
    /// may be given more than once.
    #[arg(
        id = "auth_server_arguments",
        long = "auth-server-arg",
        value_name = "ARGUMENT",
        allow_hyphen_values = true,
        requires = "auth_server"
    )]
    arguments: Vec<String>,
}

/// How long auth servers on PostgreSQL answer from memory, as the controller's option says it.
const LAG: &str = "--revocation-lag=1s";

impl AuthServerManifests {
    /// Returns what the controller beside the auth server must know, unless the user says it: it reports a revocation only
    /// when no auth server lets the account in any more.
    pub fn controller_argument(&self, given: &[String]) -> Option<String> {
        let option = LAG.split('=').next().unwrap_or(LAG);
        let is_given = given.iter().any(|argument| argument.starts_with(option));
        (self.auth_server.is_some() && !is_given).then(|| LAG.to_owned())
    }

    /// Returns the manifests of an auth server, if there is to be one. `place` inserts the namespace.
    pub fn text(&self, image: &str, place: impl Fn(&str) -> String) -> Option<String> {
        let issuer = self.auth_server.as_ref()?;
        let argument = |text: &str| format!("        - {}\n", quoted(text));
        let further: String = self.arguments.iter().map(|text| argument(text)).collect();
        let text = place(&without_heading(AUTH_SERVER))
            .replace(ARGUMENTS, &format!("{ARGUMENTS}{further}"))
            .replace(ISSUER, &argument(&format!("--issuer={issuer}")))
            .replace(NETWORKS, &argument(&format!("--internal-networks={}", self.networks.join(","))));
        Some(with_image(&text, image))
    }
}

fn as_written(text: &str) -> Result<String, String> {
    network(text).map(|_| text.trim().to_owned())
}
