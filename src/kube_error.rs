//! Converts errors of the Kubernetes client to messages for users.
//!
//! A message never quotes a text that may contain a Secret or a token. For a text that could not be parsed, it gives
//! only the position of the error.

use kube::client::AuthError;
use kube::config::KubeconfigError;
use std::error::Error;
use std::iter::successors;

/// Returns whether the API server will refuse a retry too, until a user does something.
pub(crate) fn needs_a_person(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code < 500 && !matches!(status.code, 408 | 409 | 410 | 429))
}

/// Returns the reason of a failed call.
pub(crate) fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.trim_end().to_owned(),
        kube::Error::SerdeError(error) => {
            format!("its answer makes no sense at line {}, column {}", error.line(), error.column())
        }
        kube::Error::FromUtf8(_) => "its answer is not text".to_owned(),
        kube::Error::InferKubeconfig(error) => kubeconfig_problem(error),
        other => login(other).unwrap_or_else(|| with_causes(other)),
    }
}

/// Says what went wrong with a call about ApiAccounts or their Secrets, and what to do about it. `rights` says how to get a missing
/// right.
pub(crate) fn with_advice(error: &kube::Error, rights: &str) -> String {
    let advice = match error {
        kube::Error::Api(status) if status.code == 403 => rights,
        kube::Error::Api(status) if status.code == 404 => {
            "install the resource with `opsadmin crd | kubectl apply --server-side -f -`"
        }
        other => return with_login_advice(other),
    };
    format!("{}; {advice}", reason(error))
}

/// Says what went wrong with a call, and what to do if the cluster refused the login.
pub(crate) fn with_login_advice(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            format!("{}; the cluster does not take the credentials of the kubeconfig", reason(error))
        }
        _ => reason(error),
    }
}

/// Returns the reason why a kubeconfig cannot be used.
pub(crate) fn kubeconfig_problem(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => match error.location() {
            Some(place) => format!("it is not a valid kubeconfig at line {}, column {}", place.line(), place.column()),
            None => "it is not a valid kubeconfig".to_owned(),
        },
        other => with_causes(other),
    }
}

/// Returns the reason why the kubeconfig's login program gave no token; `None` if the error has another cause.
fn login(error: &(dyn Error + 'static)) -> Option<String> {
    match successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref::<AuthError>())? {
        AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr);
            Some(format!("the kubeconfig's login program failed with {}: {}", out.status, said.trim()))
        }
        AuthError::AuthExecStart(error) => Some(format!("the kubeconfig's login program cannot be started: {error}")),
        AuthError::AuthExecParse(_) | AuthError::ParseTokenKey(_) => {
            Some("the answer of the kubeconfig's login program cannot be read".to_owned())
        }
        _ => None,
    }
}

/// Returns an error's message followed by those of its causes. A cause whose text is in the message already is left
/// out, since many errors repeat their cause.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in successors(error.source(), |&cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
