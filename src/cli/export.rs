//! `opsadmin export`: writes manifests that adopt the accounts that no resource declares.

use super::account::readable;
use super::database::DatabaseArgs;
use super::output::{Format, Output, as_yaml};
use crate::account::{Account, AccountName, AffiliateName, AllowedIp, Description, Owner, Role};
use crate::api::{GROUP, KIND, VERSION};
use crate::reconcile::parse_namespace;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The maximum length of a resource name that is derived from an account name. Names of Secrets and other objects are
/// derived from the resource name and are longer.
const LONGEST_NAME: usize = 50;

/// Write manifests for the accounts in the database that no resource declares, ready to commit.
///
/// Applying the manifests adopts the accounts as they are, with their keys: `opsadmin export | opsadmin plan -f -`
/// shows "adopt" for each account, and no change. An account that cannot be declared as it is, for example because it
/// has an unknown role, is reported and left out.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin export --namespace partners > partners.yaml\n  opsadmin export --folder accounts/ \\\n    --database postgres://reader@db.example.com/opsadmin"
)]
pub struct Export {
    /// Write a file for each account into this folder, instead of all to standard output.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// The namespace in the manifests. Default: the namespace that the account was imported for or that it had, if
    /// there is one.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    namespace: Option<String>,

    #[command(flatten)]
    database: DatabaseArgs,

    /// How to write the manifests.
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    output: ManifestFormat,
}

/// How to write manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ManifestFormat {
    /// A document for each account.
    Yaml,
    /// A List of all manifests; with --folder, an object in each file.
    Json,
}

/// A Kubernetes `List` of manifests, as kubectl reads and writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Manifest>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    api_version: String,
    kind: &'static str,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Serialize)]
struct Metadata {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

/// The spec of a manifest. A field with its default value is left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    use_refresh_token: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    affiliate: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(rename = "allowedIPs", skip_serializing_if = "Vec::is_empty")]
    allowed_ips: Vec<String>,
    adoption_policy: &'static str,
}

impl Export {
    /// Writes all manifests.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let database = self.database.open_read_only().await?;
        let (listed, owners) = (database.list_undeclared().await, database.owners().await);
        database.close().await;
        let (mut accounts, are_readable) = readable(listed?, output);
        accounts.sort_by_cached_key(|account| (account.settings.name.to_lowercase(), account.id.to_string()));
        let mut names = Names::of(owners?, self.namespace.as_deref());
        let mut manifests = Vec::new();
        for account in &accounts {
            match spec(account) {
                Ok(spec) => manifests.push(self.manifest(account, spec, &mut names)),
                Err(reason) => {
                    let name = &account.settings.name;
                    output.note(format!("left out the account {name:?} ({}): {reason}", account.id));
                }
            }
        }
        if accounts.is_empty() && are_readable {
            output.note("there is no unowned account: nothing to export");
        }
        let is_whole = are_readable && manifests.len() == accounts.len();
        match &self.folder {
            Some(folder) => self.write(folder, &manifests, output)?,
            None => self.print(manifests, output)?,
        }
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn print(&self, items: Vec<Manifest>, output: &mut Output) -> Result<()> {
        if self.output == ManifestFormat::Json {
            return output.value(Format::Json, &List { api_version: "v1", kind: "List", items });
        }
        items.iter().try_for_each(|manifest| {
            output.line("---")?;
            output.value(Format::Yaml, manifest)
        })
    }

    /// Writes a file for each manifest into the folder.
    fn write(&self, folder: &Path, manifests: &[Manifest], output: &mut Output) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let mut unchanged = 0;
        for manifest in manifests {
            let (ending, text) = match self.output {
                ManifestFormat::Yaml => ("yaml", as_yaml(manifest)?),
                ManifestFormat::Json => ("json", serde_json::to_string_pretty(manifest)? + "\n"),
            };
            let file = folder.join(format!("{}.{ending}", manifest.metadata.name));
            if is_written_already(&file, &text)? {
                unchanged += 1;
            } else {
                std::fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
                output.line(&format!("wrote {}", file.display()))?;
            }
        }
        if unchanged > 0 {
            output.note(format!("{unchanged} of {} existed already with the same text", manifests.len()));
        }
        Ok(())
    }

    fn manifest(&self, account: &Account, mut spec: Spec, names: &mut Names) -> Manifest {
        let name = names.give(account);
        spec.name = Some(account.settings.name.clone()).filter(|account| *account != name);
        let is_for = account.adopter.as_ref().map(|adopter| &adopter.namespace);
        let is_for = is_for.or(account.owner.as_ref().map(|had| &had.namespace));
        let metadata = Metadata { name, namespace: self.namespace.as_ref().or(is_for).cloned() };
        Manifest { api_version: format!("{GROUP}/{VERSION}"), kind: KIND, metadata, spec }
    }
}

/// Returns whether the file exists with this text.
///
/// # Errors
/// The file has another text. It is not overwritten, because a user may have edited it.
fn is_written_already(file: &Path, text: &str) -> Result<bool> {
    match std::fs::read_to_string(file) {
        Ok(found) if found == text => Ok(true),
        Ok(_) => bail!("{} exists with other contents; move the file, or export to another folder", file.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Returns the spec that declares the account as it is.
///
/// # Errors
/// Why no spec can declare the account as it is.
fn spec(account: &Account) -> Result<Spec, String> {
    let settings = &account.settings;
    AccountName::parse(&settings.name).map_err(|error| error.to_string())?;
    Description::parse(&settings.description).map_err(|error| error.to_string())?;
    if let Some(affiliate) = &settings.affiliate {
        AffiliateName::parse(affiliate).map_err(|error| error.to_string())?;
    }
    for role in &settings.roles {
        Role::parse(role).map_err(|error| error.to_string())?;
    }
    for address in &settings.allowed_ips {
        AllowedIp::from_cidr(address).ok_or_else(|| {
            format!("{address:?} is not a network in the form that the database uses, such as 203.0.113.7/32")
        })?;
    }
    match (settings.any_ip, settings.allowed_ips.is_empty()) {
        (false, true) => {
            return Err(
                "it may not be used from any address, but an empty list in a manifest allows every address".to_owned()
            );
        }
        (true, false) => return Err("it may be used from any address, and it also has a list of addresses".to_owned()),
        _ => {}
    }
    Ok(Spec {
        name: None,
        description: settings.description.clone(),
        enabled: (!settings.enabled).then_some(false),
        use_refresh_token: settings.use_refresh_token.then_some(true),
        affiliate: settings.affiliate.clone(),
        roles: settings.roles.iter().cloned().collect(),
        allowed_ips: settings.allowed_ips.iter().cloned().collect(),
        adoption_policy: "IfUnowned",
    })
}

/// The resource names that are taken: by existing owners, and by the manifests that were written before. With
/// `--namespace`, only the owners in that namespace count. Without it, all owners count, because a manifest may then be
/// applied to any namespace.
struct Names {
    owners: HashMap<String, Vec<Owner>>,
    given: HashSet<String>,
}

impl Names {
    fn of(owners: Vec<Owner>, namespace: Option<&str>) -> Self {
        let mut names: HashMap<String, Vec<Owner>> = HashMap::new();
        for owner in owners {
            if namespace.is_none_or(|namespace| namespace == owner.namespace) {
                names.entry(owner.name.clone()).or_default().push(owner);
            }
        }
        Self { owners: names, given: HashSet::new() }
    }

    /// Returns a free name for the resource of the account, derived from the account name.
    fn give(&mut self, account: &Account) -> String {
        let base = base_name(account);
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let name = [base.clone()].into_iter().chain(numbered).find(|name| self.is_free(name, account)).unwrap_or(base);
        self.given.insert(name.clone());
        name
    }

    /// Returns whether no other account has an owner of this name. Owners of deleted accounts count too: a resource of
    /// the same name would restore the deleted account.
    fn is_free(&self, name: &str, account: &Account) -> bool {
        let is_its_own = |owner: &Owner| account.owner.as_ref() == Some(owner);
        !self.given.contains(name) && self.owners.get(name).is_none_or(|owners| owners.iter().all(is_its_own))
    }
}

/// Returns the account name in the characters that Kubernetes allows for a resource name.
fn base_name(account: &Account) -> String {
    let lower = account.settings.name.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).filter(|word| !word.is_empty()).collect();
    let mut base = words.join("-");
    base.truncate(LONGEST_NAME);
    let base = base.trim_end_matches('-');
    if base.is_empty() { format!("account-{}", &account.id.to_string()[..8]) } else { base.to_owned() }
}
