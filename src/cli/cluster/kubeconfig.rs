//! Reads kubeconfig files as kubectl does: merges the files, and returns the connection of a context.
//!
//! The `kube` crate's own function for this is not used: it also reads the proxy from the environment, and does not
//! follow `NO_PROXY` as kubectl does.

use super::proxy::Proxy;
use crate::kube_error::kubeconfig_problem;
use http::Uri;
use kube::Config;
use kube::config::{AuthInfo, Cluster, ExecAuthCluster, ExecConfig, ExecInteractiveMode, Kubeconfig, KubeconfigError};
use std::io::{ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};

/// Why a kubeconfig has no usable connection.
pub enum InvalidKubeconfig {
    /// There is no file, or the file has no current context. The caller may try another connection.
    Absent(String),
    /// The kubeconfig has an error.
    Wrong(String),
}

impl InvalidKubeconfig {
    /// Returns the message.
    pub fn reason(self) -> String {
        match self {
            Self::Absent(reason) | Self::Wrong(reason) => reason,
        }
    }
}

impl From<KubeconfigError> for InvalidKubeconfig {
    fn from(error: KubeconfigError) -> Self {
        Self::Wrong(kubeconfig_problem(&error))
    }
}

/// Reads and merges these files, as `$KUBECONFIG` lists them. For each setting, the first file that has it wins.
/// Missing files are skipped.
///
/// # Errors
/// All files are missing, or a file cannot be read.
pub fn read(files: &[PathBuf]) -> Result<Kubeconfig, InvalidKubeconfig> {
    let mut merged: Option<Kubeconfig> = None;
    for file in files {
        let next = match Kubeconfig::read_from(file) {
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == ErrorKind::NotFound => continue,
            // With several files, the message must name the file with the error.
            Err(error) if files.len() > 1 => {
                return Err(InvalidKubeconfig::Wrong(format!("{}: {}", file.display(), kubeconfig_problem(&error))));
            }
            other => without_empty(other?),
        };
        merged = Some(match merged {
            Some(before) => before.merge(next)?,
            None => next,
        });
    }
    merged.ok_or_else(|| {
        let files = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
        InvalidKubeconfig::Absent(format!("No such file: {}", files.join(", ")))
    })
}

/// Returns the connection and the proxy of a context. Without `context`, the current context is used.
///
/// # Errors
/// There is no current context, or the context, its cluster or one of their settings is missing or wrong.
pub fn connection(kubeconfig: Kubeconfig, context: Option<&str>) -> Result<(Config, Option<Proxy>), InvalidKubeconfig> {
    let Some(name) = context.map(ToOwned::to_owned).or(kubeconfig.current_context) else {
        return Err(InvalidKubeconfig::Absent("it has no current context; give --context NAME".to_owned()));
    };
    let contexts = kubeconfig.contexts;
    let Some(context) = contexts.iter().find(|known| known.name == name).and_then(|known| known.context.clone()) else {
        let known = contexts.iter().map(|context| context.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(InvalidKubeconfig::Wrong(format!("it has no context {name}; its contexts are: {known}")));
    };
    let cluster = kubeconfig.clusters.into_iter().find(|known| known.name == context.cluster);
    let Some(cluster) = cluster.and_then(|known| known.cluster) else {
        return Err(InvalidKubeconfig::Wrong(format!(
            "its context {name} has the cluster {}, which is not there",
            context.cluster
        )));
    };
    // kubectl also connects without credentials if the user of the context is missing.
    let user = kubeconfig.auth_infos.into_iter().find(|known| Some(&known.name) == context.user.as_ref());
    let user = user.and_then(|known| known.auth_info).unwrap_or_default();

    let server = cluster.server.as_deref().unwrap_or_default().trim();
    let server: Uri =
        server.parse().map_err(|_| InvalidKubeconfig::Wrong(format!("the server of its context {name} is no URL")))?;
    if server.host().is_none() {
        return Err(InvalidKubeconfig::Wrong(format!("the cluster of its context {name} has no server")));
    }
    let proxy = match &cluster.proxy_url {
        Some(url) => Some(Proxy::of_kubeconfig(url).map_err(InvalidKubeconfig::Wrong)?),
        None => None,
    };
    let mut config = Config::new(server);
    config.default_namespace = context.namespace.unwrap_or(config.default_namespace);
    config.root_cert = authorities(&cluster)?;
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or_default();
    config.disable_compression = cluster.disable_compression.unwrap_or_default();
    config.auth_info = credentials(user, &cluster)?;
    config.tls_server_name = cluster.tls_server_name;
    Ok((config, proxy))
}

/// Returns the certificate authorities that may sign the server's certificate. `None`: those of the system.
fn authorities(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>, InvalidKubeconfig> {
    let Some(text) = ExecAuthCluster::try_from(cluster)?.certificate_authority_data else { return Ok(None) };
    let parsed = pem::parse_many(&text).map_err(KubeconfigError::ParseCertificates)?;
    let certificates = parsed.into_iter().filter(|part| part.tag() == "CERTIFICATE").map(pem::Pem::into_contents);
    Ok(Some(certificates.collect()))
}

/// Returns the credentials of a user. For a login program, adds the data that the program needs.
fn credentials(mut user: AuthInfo, cluster: &Cluster) -> Result<AuthInfo, InvalidKubeconfig> {
    // As in kubectl, an existing token file takes precedence over the token.
    if user.token_file.as_ref().is_some_and(|file| Path::new(file).exists()) {
        user.token = None;
    }
    if let Some(login) = &mut user.exec {
        if login.provide_cluster_info {
            login.cluster = Some(cluster.try_into()?);
        }
        login.interactive_mode = Some(interactive_mode(login, std::io::stdin().is_terminal())?);
    }
    Ok(user)
}

/// Decides whether a login program may read standard input: only if standard input is a terminal. Otherwise the program
/// could consume manifests that a command reads from standard input.
fn interactive_mode(login: &ExecConfig, is_terminal: bool) -> Result<ExecInteractiveMode, InvalidKubeconfig> {
    match login.interactive_mode.as_ref().unwrap_or(&ExecInteractiveMode::IfAvailable) {
        ExecInteractiveMode::Always if !is_terminal => Err(InvalidKubeconfig::Wrong(
            "its login program has interactiveMode Always, and standard input is no terminal".to_owned(),
        )),
        ExecInteractiveMode::Never => Ok(ExecInteractiveMode::Never),
        _ if is_terminal => Ok(ExecInteractiveMode::IfAvailable),
        _ => Ok(ExecInteractiveMode::Never),
    }
}

/// Removes empty texts, because kubectl treats an empty text as absent.
fn without_empty(mut kubeconfig: Kubeconfig) -> Kubeconfig {
    fn clear(fields: &mut [&mut Option<String>]) {
        for field in fields {
            if field.as_deref().is_some_and(str::is_empty) {
                **field = None;
            }
        }
    }
    clear(&mut [&mut kubeconfig.current_context, &mut kubeconfig.kind, &mut kubeconfig.api_version]);
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        clear(&mut [
            &mut cluster.certificate_authority,
            &mut cluster.certificate_authority_data,
            &mut cluster.proxy_url,
            &mut cluster.tls_server_name,
        ]);
    }
    for context in kubeconfig.contexts.iter_mut().filter_map(|named| named.context.as_mut()) {
        clear(&mut [&mut context.namespace]);
    }
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        clear(&mut [
            &mut user.username,
            &mut user.token_file,
            &mut user.client_certificate,
            &mut user.client_certificate_data,
            &mut user.client_key,
        ]);
    }
    kubeconfig
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn folder(files: &[(&str, &str)]) -> (TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let write = |(name, text): &(&str, &str)| {
            let file = folder.path().join(name);
            if !text.is_empty() {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, text).unwrap();
            }
            file
        };
        let files = files.iter().map(write).collect();
        (folder, files)
    }

    fn one(current: &str, name: &str, more: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: \"{current}\"\n\
             contexts: [{{name: {name}, context: {{cluster: {name}, user: me, namespace: \"\"}}}}]\n\
             clusters: [{{name: {name}, cluster: {{server: 'https://{name}.example.com'{more}}}}}]\n"
        )
    }

    fn connected(files: &[PathBuf], context: Option<&str>) -> Result<(Config, Option<Proxy>), String> {
        read(files).and_then(|kubeconfig| connection(kubeconfig, context)).map_err(InvalidKubeconfig::reason)
    }

    fn server(files: &[PathBuf], context: Option<&str>) -> String {
        connected(files, context).map_or_else(|reason| reason, |(config, _)| config.cluster_url.to_string())
    }

    #[test]
    fn the_first_of_several_files_wins_and_missing_files_are_skipped() {
        let (a, b) = (one("", "a", ""), one("b", "b", ""));
        let other_b = one("other", "b", ", tls-server-name: other");
        let (_folder, files) = folder(&[("missing", ""), ("a", &a), ("b", &b), ("other", &other_b), ("empty", "\n")]);
        // The first file has an empty current context, which counts as absent.
        assert_eq!(server(&files, None), "https://b.example.com/");
        assert_eq!(server(&files, Some("a")), "https://a.example.com/");
        assert_eq!(connected(&files, None).unwrap().0.tls_server_name, None);
        assert_eq!(connected(&files, Some("a")).unwrap().0.default_namespace, "default");
        assert_eq!(server(&files[..1], None), format!("No such file: {}", files[0].display()));
        assert_eq!(server(&files[4..], None), "it has no current context; give --context NAME");
        assert_eq!(server(&files, Some("c")), "it has no context c; its contexts are: a, b");
    }

    #[test]
    fn one_of_several_files_that_cannot_be_read_is_named() {
        let a = one("a", "a", "");
        let (_folder, files) = folder(&[("a", &a), ("b", "users: hush")]);
        let said = server(&files, None);
        assert!(said.starts_with(&format!("{}: it is not a valid kubeconfig at line 1", files[1].display())), "{said}");
    }

    #[test]
    fn the_settings_of_a_cluster_are_used() {
        let certificate = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap().cert.pem();
        let more = ", proxy-url: 'socks5://proxy', tls-server-name: b, insecure-skip-tls-verify: true, \
                    certificate-authority: ca/a.pem";
        let a = one("a", "a", more);
        let (_folder, files) = folder(&[("a", &a), ("ca/a.pem", &certificate)]);
        let (config, proxy) = connected(&files[..1], None).unwrap();
        // The path is relative to the folder of the kubeconfig.
        assert_eq!(config.root_cert.unwrap().len(), 1);
        assert_eq!(config.tls_server_name.as_deref(), Some("b"));
        assert!(config.accept_invalid_certs);
        assert_eq!(proxy.unwrap().url.to_string(), "socks5://proxy:1080/");
    }

    #[test]
    fn a_missing_file_or_cluster_is_reported() {
        let a = one("a", "a", ", certificate-authority: nowhere.pem");
        let b = one("a", "a", ", proxy-url: 'ftp://me:hush@proxy'");
        let c = one("c", "a", "")
            .replace("cluster: a, user", "cluster: d, user")
            .replace("name: a, context", "name: c, context");
        let (folder, files) = folder(&[("a", &a), ("b", &b), ("c", &c)]);
        let missing = server(&files[..1], None);
        let file = folder.path().join("nowhere.pem");
        assert!(
            missing.contains("failed to load certificate authority") && missing.contains(file.to_str().unwrap()),
            "{missing}"
        );
        let proxy = server(&files[1..2], None);
        assert!(
            proxy.starts_with("`proxy-url` in the kubeconfig must begin with") && !proxy.contains("hush"),
            "{proxy}"
        );
        assert_eq!(server(&files[2..], None), "its context c has the cluster d, which is not there");
    }

    #[test]
    fn a_login_program_reads_a_terminal_only() {
        let mode = |mode: Option<ExecInteractiveMode>, is_terminal| {
            let login = ExecConfig { interactive_mode: mode, ..ExecConfig::default() };
            interactive_mode(&login, is_terminal).map_err(InvalidKubeconfig::reason)
        };
        for asked in [None, Some(ExecInteractiveMode::IfAvailable)] {
            assert_eq!(mode(asked.clone(), true), Ok(ExecInteractiveMode::IfAvailable));
            assert_eq!(mode(asked, false), Ok(ExecInteractiveMode::Never));
        }
        assert_eq!(mode(Some(ExecInteractiveMode::Never), true), Ok(ExecInteractiveMode::Never));
        assert!(mode(Some(ExecInteractiveMode::Always), true).is_ok());
        assert!(mode(Some(ExecInteractiveMode::Always), false).unwrap_err().contains("no terminal"));
    }
}
