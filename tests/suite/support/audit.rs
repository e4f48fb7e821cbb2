//! Reads the API server's audit log: who asked it for what, and what it answered.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// One request that the API server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// Of the object; empty for a request across all namespaces and for objects that have none.
    pub namespace: String,
    /// Plural, such as `secrets`.
    pub resource: String,
    /// Such as `status`; empty for the object itself.
    pub subresource: String,
    /// Of the object; empty where the request does not name one, as in a list.
    pub name: String,
    /// What the client calls itself; empty if it does not.
    pub user_agent: String,
    /// Who the client proved to be.
    pub username: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// The path and the query.
    pub uri: String,
}

impl AuditEvent {
    /// Does it change anything?
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

/// All requests about objects in `namespace`, in the order in which they were answered.
///
/// Every request is in it once: when its answer is complete, or for a watch, which is complete only when somebody ends
/// it, when the answer begins.
pub fn read(log: &Path, namespace: &str) -> Vec<AuditEvent> {
    let text = fs::read_to_string(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    // Cheaper than parsing the requests of all other tests; what it lets through is looked at properly below.
    let marker = format!("\"{namespace}\"");
    // What comes after the last end of line is still being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .filter(|line| namespace.is_empty() || line.contains(&marker))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", log.display())))
        .filter(|event: &Event| {
            event.stage == if event.verb == "watch" { "ResponseStarted" } else { "ResponseComplete" }
        })
        .map(AuditEvent::from)
        .filter(|event| event.namespace == namespace)
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ObjectRef {
    namespace: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

impl From<Event> for AuditEvent {
    fn from(event: Event) -> Self {
        Self {
            verb: event.verb,
            namespace: event.object_ref.namespace,
            resource: event.object_ref.resource,
            subresource: event.object_ref.subresource,
            name: event.object_ref.name,
            user_agent: event.user_agent,
            username: event.user.username,
            code: event.response_status.code,
            uri: event.request_uri,
        }
    }
}
