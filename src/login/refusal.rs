//! What a client is told when it is refused, and what the audit log says.
//!
//! A failed login has one answer, whatever failed: the reason is for the audit log alone. Only mistakes in the form get
//! answers of their own, since they depend on nothing but the request.

use super::{AssertionRefusal, FormRefusal, RefreshRefusal};
use crate::account::Rule;
use http::StatusCode;

/// Why a request to the token endpoint or the revocation endpoint is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginRefusal {
    /// The form is wrong.
    Form(FormRefusal),
    /// The assertion is wrong.
    Assertion(AssertionRefusal),
    /// The assertion was used before.
    Replay,
    /// A rule of the account refuses the login.
    Rule(Rule),
    /// The secret key is stored in a form that cannot be opened. The operator must be alerted.
    SealedSecret,
    /// The text is not the text of a refresh token, or its login is not in the database.
    UnknownRefreshToken,
    /// An old refresh token was presented, and the login was ended.
    RefreshTokenReused,
    /// The refresh token is refused.
    Refresh(RefreshRefusal),
}

/// The answer to a refused request, as RFC 6749 section 5.2 has it. It must come with `Cache-Control: no-store`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// The status.
    pub status: StatusCode,
    /// The code in `error`.
    pub error: &'static str,
    /// The text in `error_description`.
    pub description: &'static str,
}

/// The answer to every failed login.
const FAILED_LOGIN: ErrorAnswer = ErrorAnswer {
    status: StatusCode::UNAUTHORIZED,
    error: "invalid_client",
    description: "The login failed. OpsAdmin staff can see the reason.",
};

const SECRET_TRAVELLED: ErrorAnswer = ErrorAnswer {
    status: StatusCode::UNAUTHORIZED,
    error: "invalid_client",
    description: "A secret or an Authorization header was sent. The secret key must never be sent. Sign an assertion with \
                  it, and have OpsAdmin staff replace the key pair if you sent the secret key.",
};

/// The answer to every refresh token that is refused. The client logs in again.
const REFUSED_GRANT: ErrorAnswer = ErrorAnswer {
    status: StatusCode::BAD_REQUEST,
    error: "invalid_grant",
    description: "The refresh token does not work. Log in again.",
};

impl LoginRefusal {
    /// The reason's name in the audit log. It stays the same in later versions.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Form(refusal) => refusal.as_str(),
            Self::Assertion(refusal) => refusal.as_str(),
            Self::Replay => "assertion-replayed",
            Self::Rule(rule) => rule.as_str(),
            Self::SealedSecret => "secret-key-sealed",
            Self::UnknownRefreshToken => "refresh-token-unknown",
            Self::RefreshTokenReused => "refresh-token-reused",
            Self::Refresh(refusal) => refusal.as_str(),
        }
    }

    /// Returns the answer to the client.
    pub fn answer(&self) -> ErrorAnswer {
        match self {
            Self::Form(refusal) => form_answer(refusal),
            Self::Assertion(_) | Self::Replay | Self::Rule(_) | Self::SealedSecret => FAILED_LOGIN,
            Self::UnknownRefreshToken | Self::RefreshTokenReused | Self::Refresh(_) => REFUSED_GRANT,
        }
    }
}

fn form_answer(refusal: &FormRefusal) -> ErrorAnswer {
    let invalid = |description| ErrorAnswer { status: StatusCode::BAD_REQUEST, error: "invalid_request", description };
    match refusal {
        FormRefusal::SecretTravelled { .. } => SECRET_TRAVELLED,
        FormRefusal::AssertionType | FormRefusal::NoAssertion => FAILED_LOGIN,
        FormRefusal::TooLarge => invalid("The form is larger than 16 KiB."),
        FormRefusal::ContentType => invalid("Send a form: Content-Type: application/x-www-form-urlencoded."),
        FormRefusal::Query => invalid("Send the parameters in the body, and none in the URL."),
        FormRefusal::Repeated => invalid("A parameter is repeated."),
        FormRefusal::NoGrantType => invalid("Send grant_type: client_credentials or refresh_token."),
        FormRefusal::GrantType => ErrorAnswer {
            error: "unsupported_grant_type",
            ..invalid("The grant_type is not one of client_credentials and refresh_token.")
        },
        FormRefusal::NoRefreshToken => invalid("Send refresh_token."),
        FormRefusal::NoToken => invalid("Send token."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::ApiKey;
    use crate::login::EndReason;
    use std::collections::HashSet;

    const FORMS: [FormRefusal; 10] = [
        FormRefusal::TooLarge,
        FormRefusal::ContentType,
        FormRefusal::Query,
        FormRefusal::Repeated,
        FormRefusal::NoGrantType,
        FormRefusal::GrantType,
        FormRefusal::AssertionType,
        FormRefusal::NoAssertion,
        FormRefusal::NoRefreshToken,
        FormRefusal::NoToken,
    ];

    const ASSERTIONS: [AssertionRefusal; 15] = [
        AssertionRefusal::Malformed,
        AssertionRefusal::Critical,
        AssertionRefusal::Algorithm,
        AssertionRefusal::Type,
        AssertionRefusal::Names,
        AssertionRefusal::UnknownKey,
        AssertionRefusal::ShortSecret,
        AssertionRefusal::Signature,
        AssertionRefusal::Audience,
        AssertionRefusal::AudienceTokenEndpoint,
        AssertionRefusal::Times,
        AssertionRefusal::Expired,
        AssertionRefusal::Early,
        AssertionRefusal::LongLived,
        AssertionRefusal::Id,
    ];

    const RULES: [Rule; 7] =
        [Rule::Life, Rule::Enabled, Rule::Suspension, Rule::Keys, Rule::Address, Rule::Endpoints, Rule::Plans];

    /// The reasons of a login whose form is right and whose account or assertion is not.
    fn failed_logins() -> Vec<LoginRefusal> {
        let assertions = ASSERTIONS.into_iter().map(LoginRefusal::Assertion);
        let others = [LoginRefusal::Replay, LoginRefusal::SealedSecret];
        assertions.chain(RULES.into_iter().map(LoginRefusal::Rule)).chain(others).collect()
    }

    fn refused_grants() -> Vec<LoginRefusal> {
        let ended = EndReason::ALL.into_iter().map(RefreshRefusal::Ended);
        let refresh = ended.chain([RefreshRefusal::OtherKey, RefreshRefusal::NoFamily, RefreshRefusal::Expired]);
        let others = [LoginRefusal::UnknownRefreshToken, LoginRefusal::RefreshTokenReused];
        refresh.map(LoginRefusal::Refresh).chain(others).collect()
    }

    #[test]
    fn failed_logins_have_one_answer_and_refused_grants_another() {
        for refusal in failed_logins() {
            assert_eq!(refusal.answer(), FAILED_LOGIN, "{refusal:?}");
        }
        for refusal in refused_grants() {
            assert_eq!(refusal.answer(), REFUSED_GRANT, "{refusal:?}");
        }
    }

    #[test]
    fn a_secret_that_travelled_has_one_answer_for_every_id() {
        let claimed = [None, ApiKey::stored("legacy-1").ok(), ApiKey::stored("legacy-2").ok()];
        for claimed in claimed {
            assert_eq!(LoginRefusal::Form(FormRefusal::SecretTravelled { claimed }).answer(), SECRET_TRAVELLED);
        }
    }

    #[test]
    fn each_reason_has_a_name_of_its_own() {
        let forms = FORMS.into_iter().map(LoginRefusal::Form);
        let all: Vec<_> = forms.chain(failed_logins()).chain(refused_grants()).collect();
        let names: HashSet<_> = all.iter().map(LoginRefusal::as_str).collect();
        assert_eq!(names.len(), all.len());
    }

    /// RFC 6749 section 5.2 allows only these characters.
    #[test]
    fn a_description_has_only_the_allowed_characters() {
        let forms = FORMS.into_iter().map(|form| LoginRefusal::Form(form).answer());
        for answer in forms.chain([FAILED_LOGIN, SECRET_TRAVELLED, REFUSED_GRANT]) {
            let allowed = |byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
            assert!(answer.description.bytes().all(allowed), "{}", answer.description);
        }
    }
}
