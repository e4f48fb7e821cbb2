//! Reads the API server's audit log: which client asked for what, and what the API server answered.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// A request that the API server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// The verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The namespace of the object. Empty for a cluster-scoped object and for a request across all namespaces.
    pub namespace: String,
    /// The plural name of the resource, such as `secrets`.
    pub resource: String,
    /// The subresource, such as `status`. Empty for the object itself.
    pub subresource: String,
    /// The name of the object. Empty if the request does not name an object, as in a list.
    pub name: String,
    /// The client's `User-Agent` header. Empty if the client sends none.
    pub user_agent: String,
    /// The user as which the client is authenticated.
    pub username: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// The path and the query of the request.
    pub uri: String,
    /// The time of the answer, as RFC 3339 with microseconds.
    pub at: String,
}

impl AuditEvent {
    /// Returns whether the request changes an object.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

/// Returns all requests about objects in `namespace`, in the order of the audit log.
///
/// Each request appears once. A watch is complete only when it ends, so a watch appears when its answer begins. Every
/// other request appears when its answer is complete.
pub fn read(log: &Path, namespace: &str) -> Vec<AuditEvent> {
    let text = fs::read_to_string(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    // Filtering the text first is cheaper than parsing the requests of all other tests. The parsed namespace is
    // compared below.
    let marker = format!("\"{namespace}\"");
    // The API server is still writing what comes after the last end of line.
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
    stage_timestamp: String,
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
            at: event.stage_timestamp,
        }
    }
}
