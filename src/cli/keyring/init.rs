//! `opsadmin keyring init`: creates a keyring, as a file or as a Secret of a cluster. It never replaces a keyring.

use crate::api::MANAGER;
use crate::cli::cluster::KubeArgs;
use crate::cli::database::{DatabaseArgs, create, new_keyring};
use crate::cli::output::{Format, FormatArgs, Output};
use crate::database::{DatabaseError, Keyring};
use crate::kube_error::with_login_advice;
use crate::reconcile::parse_namespace;
use crate::secrets::SecretRef;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// The migration that creates the table of the keys.
const FIRST_MIGRATION: &str = "0001_";

const SAFEKEEPING: &str = "back it up: without it, no secret key in the database can be read again";

/// Create a new keyring. An existing keyring is never overwritten.
///
/// By default, the keyring is a file that only its owner can read. With --secret, it is a Secret of a cluster. If the
/// Secret exists already, it stays as it is, and the command succeeds. The Secret is not created if another keyring has
/// sealed secret keys in the database, because a new keyring does not open them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin keyring init --keyring opsadmin.keyring\n  kubectl create secret generic opsadmin-keyring \\\n    --from-file=keyring=opsadmin.keyring\n  opsadmin keyring init \\\n    --secret opsadmin-system/opsadmin-keyring \\\n    --database postgres://opsadmin@db.example.com/opsadmin"
)]
pub(super) struct Init {
    /// The file to create.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_KEYRING", default_value = "opsadmin.keyring")]
    keyring: PathBuf,

    /// Create this Secret instead of a file. Needs the database that the keyring is for.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = secret, conflicts_with = "keyring")]
    secret: Option<SecretRef>,

    /// The data key of the Secret that holds the keyring.
    #[arg(long, value_name = "KEY", default_value = "keyring", requires = "secret")]
    secret_key: String,

    /// With --secret: the database that the keyring is for. It is only read.
    #[arg(long, value_name = "URL", env = "OPSADMIN_DATABASE_URL", hide_env_values = true)]
    database: Option<String>,

    /// With --secret: the file with the password of the PostgreSQL server.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_DATABASE_PASSWORD_FILE")]
    database_password_file: Option<PathBuf>,

    #[command(flatten)]
    kube: KubeArgs,

    #[command(flatten)]
    format: FormatArgs,
}

impl Init {
    /// Creates the keyring.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        match &self.secret {
            None => {
                let keyring = create(&self.keyring)?;
                let file = self.keyring.display().to_string();
                self.print(output, &file, true, &keyring, &format!("created the keyring {file}; {SAFEKEEPING}"))
            }
            Some(at) => self.init_secret(at, output).await,
        }
    }

    async fn init_secret(&self, at: &SecretRef, output: &mut Output) -> Result<ExitCode> {
        let database = self.database.clone().ok_or_else(|| {
            anyhow!("--secret needs the database that the keyring is for: give --database URL or OPSADMIN_DATABASE_URL")
        })?;
        let database = DatabaseArgs { database, database_password_file: self.database_password_file.clone() };
        let secrets: Api<Secret> = Api::namespaced(self.kube.client()?, &at.namespace);
        if let Some(keyring) = self.existing(at, &secrets).await? {
            return self.print_existing(output, at, &keyring);
        }
        if is_sealed(&database).await? {
            bail!(
                "there is no Secret {at}, and secret keys in this database are sealed with a keyring: restore the Secret from \
                 its backup; a new keyring opens none of them"
            );
        }
        let keyring = new_keyring()?;
        let created = secrets.create(&PostParams::default(), &self.manifest(at, &keyring)).await;
        match created {
            Ok(_) => {
                let text = format!("created the Secret {at} with a new keyring; {SAFEKEEPING}");
                self.print(output, &at.to_string(), true, &keyring, &text)
            }
            // Another program has created the Secret meanwhile.
            Err(kube::Error::Api(status)) if status.code == 409 => match self.existing(at, &secrets).await? {
                Some(keyring) => self.print_existing(output, at, &keyring),
                None => bail!("the Secret {at} was created and deleted by another program meanwhile; run this again"),
            },
            Err(error) => {
                Err(anyhow!("cannot create the Secret {at}: {}; no keyring was created", with_login_advice(&error)))
            }
        }
    }

    /// Returns the keyring in the Secret, or `None` if there is no Secret.
    async fn existing(&self, at: &SecretRef, secrets: &Api<Secret>) -> Result<Option<Keyring>> {
        let found = secrets.get_opt(&at.name).await;
        let found = found.map_err(|error| anyhow!("cannot read the Secret {at}: {}", with_login_advice(&error)))?;
        let Some(found) = found else { return Ok(None) };
        let text = found.data.unwrap_or_default().remove(&self.secret_key).ok_or_else(|| {
            anyhow!(
                "the Secret {at} exists and has no key {:?}, and is left as it is; choose another name, or give --secret-key",
                self.secret_key
            )
        })?;
        let keyring = Keyring::from_json(&text.0)
            .with_context(|| format!("the key {:?} of the Secret {at} is left as it is", self.secret_key))?;
        Ok(Some(keyring))
    }

    fn manifest(&self, at: &SecretRef, keyring: &Keyring) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(at.name.clone()),
                namespace: Some(at.namespace.clone()),
                labels: Some([("app.kubernetes.io/part-of".to_owned(), MANAGER.to_owned())].into()),
                ..ObjectMeta::default()
            },
            data: Some([(self.secret_key.clone(), ByteString(keyring.to_json().as_bytes().to_vec()))].into()),
            ..Secret::default()
        }
    }

    fn print_existing(&self, output: &mut Output, at: &SecretRef, keyring: &Keyring) -> Result<ExitCode> {
        let text = format!("the Secret {at} exists already; it is left as it is");
        self.print(output, &at.to_string(), false, keyring, &text)
    }

    fn print(
        &self,
        output: &mut Output,
        at: &str,
        is_created: bool,
        keyring: &Keyring,
        text: &str,
    ) -> Result<ExitCode> {
        match self.format.format {
            Format::Text => output.line(text)?,
            format => {
                let seals = keyring.ids().next();
                output.value(format, &json!({ "keyring": at, "created": is_created, "seals": seals }))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns whether secret keys in the database are sealed. A database without tables has none.
async fn is_sealed(named: &DatabaseArgs) -> Result<bool> {
    if named.is_missing_file() {
        return Ok(false);
    }
    let database = named.open()?;
    let in_use = database.sealing_keys_in_use().await;
    database.close().await;
    match in_use {
        Ok(keys) => Ok(!keys.is_empty()),
        // The table of the keys does not exist, because no program has migrated this database yet.
        Err(DatabaseError::OlderSchema { pending }) if pending.iter().any(|name| name.starts_with(FIRST_MIGRATION)) => {
            Ok(false)
        }
        Err(error) => {
            Err(error).context("cannot read whether secret keys in the database are sealed; no keyring was created")
        }
    }
}

fn secret(text: &str) -> Result<SecretRef, String> {
    let wanted = || "write it as NAMESPACE/NAME".to_owned();
    let (namespace, name) = text.split_once('/').ok_or_else(wanted)?;
    if name.is_empty() || name.contains('/') {
        return Err(wanted());
    }
    Ok(SecretRef { namespace: parse_namespace(namespace)?, name: name.to_owned() })
}
