//! The labels of calls to the API server and to the account database.

use http::StatusCode;

/// The verb of a request to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads many objects.
    List,
    /// Follows changes. The answer has no end.
    Watch,
    /// Creates an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes a part of an object.
    Patch,
    /// Deletes an object.
    Delete,
    /// Anything else.
    Other,
}

impl Verb {
    /// All verbs.
    pub(super) const ALL: [Self; 8] =
        [Self::Get, Self::List, Self::Watch, Self::Create, Self::Update, Self::Patch, Self::Delete, Self::Other];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Other => "other",
        }
    }
}

/// The result of a request to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubernetesResult {
    /// The API server did what was asked.
    Done,
    /// The object does not exist: status 404.
    Missing,
    /// Another client was faster: status 409.
    Conflict,
    /// The API server asks for a slower pace: status 429.
    Throttled,
    /// The API server refuses the request: any other status of 400 to 499.
    Refused,
    /// The API server failed: a status of 500 or above.
    Failed,
    /// No answer began.
    Unanswered,
}

impl KubernetesResult {
    /// All results.
    pub(super) const ALL: [Self; 7] =
        [Self::Done, Self::Missing, Self::Conflict, Self::Throttled, Self::Refused, Self::Failed, Self::Unanswered];

    /// Returns the result for this status; `None`: there is no answer.
    pub fn of(status: Option<StatusCode>) -> Self {
        match status {
            None => Self::Unanswered,
            Some(StatusCode::NOT_FOUND) => Self::Missing,
            Some(StatusCode::CONFLICT) => Self::Conflict,
            Some(StatusCode::TOO_MANY_REQUESTS) => Self::Throttled,
            Some(status) if status.is_client_error() => Self::Refused,
            Some(status) if status.is_server_error() => Self::Failed,
            Some(_) => Self::Done,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Missing => "missing",
            Self::Conflict => "conflict",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unanswered => "unanswered",
        }
    }
}

/// The kind of a call to the account database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatabaseCall {
    /// Reads a few accounts, or affiliates.
    Read,
    /// Reads all accounts of the cluster, or all their versions.
    List,
    /// Commits a change of an account.
    Commit,
    /// Migrations, purges, the journal, and checks.
    Maintain,
}

impl DatabaseCall {
    /// All kinds.
    pub(super) const ALL: [Self; 4] = [Self::Read, Self::List, Self::Commit, Self::Maintain];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Commit => "commit",
            Self::Maintain => "maintain",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_result() {
        let of = |status| KubernetesResult::of(Some(StatusCode::from_u16(status).unwrap())).as_str();
        let results = [200, 201, 404, 409, 429, 403, 422, 500, 503].map(of);
        let expected = ["done", "done", "missing", "conflict", "throttled", "refused", "refused", "failed", "failed"];
        assert_eq!(results, expected);
        assert_eq!(KubernetesResult::of(None).as_str(), "unanswered");
    }
}
