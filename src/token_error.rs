//! Why a token is refused: one table that says what each reason means and whether another token helps.
//!
//! The wire documentation is tested against [`TokenError::ALL`].

use crate::close::CloseCode;
use crate::error_code::ErrorCode;

macro_rules! token_errors {
    ($($variant:ident = $name:literal, $helps:literal, $text:literal;)+) => {
        /// Why a client is not let in by its credentials.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum TokenError {
            $(#[doc = $text] $variant,)+
        }

        impl TokenError {
            /// Every reason, in the order of the table in `docs/protocol.md`.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name on the wire. It does not change.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it tells a person. It never repeats the token.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// Whether a new token of the same issuer may be accepted.
            pub const fn may_be_cured(self) -> bool {
                match self {
                    $(Self::$variant => $helps,)+
                }
            }
        }
    };
}

token_errors! {
    Missing = "missing", true, "a token is needed";
    Expired = "expired", true, "the token has expired";
    Revoked = "revoked", true, "tokens of this subject were revoked: get a new one";
    NotYetValid = "not_yet_valid", true, "the token is not valid yet";
    UnknownKey = "unknown_key", true, "the token names no key of this server";
    BadSignature = "bad_signature", true, "the signature of the token is wrong";
    TwoCredentials = "two_credentials", false, "there are two tokens: send one, in a header or in the first message";
    TooLong = "too_long", false, "the token is longer than 8 KiB";
    Malformed = "malformed", false, "the token is not a signed JSON Web Token";
    WrongAlgorithm = "wrong_algorithm", false, "tokens with this algorithm are not accepted";
    BadClaims = "bad_claims", false, "a claim of the token is missing, occurs twice or has a wrong form";
    TooLongLived = "too_long_lived", false, "the token is good for longer than this server allows";
    WrongAudience = "wrong_audience", false, "the token is for another audience";
    WrongIssuer = "wrong_issuer", false, "the token is from another issuer";
}

impl TokenError {
    /// The code that closes the connection.
    pub const fn close_code(self) -> CloseCode {
        if self.may_be_cured() { CloseCode::UNAUTHENTICATED } else { CloseCode::BAD_TOKEN }
    }

    /// The code of the `error` message.
    pub const fn error_code(self) -> ErrorCode {
        if self.may_be_cured() { ErrorCode::Unauthenticated } else { ErrorCode::BadToken }
    }

    /// The `details` of that message: JSON text.
    pub fn details(self) -> String {
        format!("{{\"reason\":\"{}\"}}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_comes_back_after_what_a_new_token_cures_and_only_then() {
        for error in TokenError::ALL {
            assert_eq!(error.close_code().comes_back(), error.may_be_cured(), "{error:?}");
            let details: serde_json::Value = serde_json::from_str(&error.details()).expect("JSON");
            assert_eq!(details["reason"], error.name());
        }
    }
}
