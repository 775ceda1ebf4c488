//! Why a token is refused: one table that says what each reason means and whether another token helps.
//!
//! The wire documentation is tested against [`TokenError::ALL`].

use crate::close::CloseCode;
use crate::error_code::ErrorCode;

/// What helps a client that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// A new token of the same issuer may be accepted.
    NewToken,
    /// The same token may be accepted later.
    Time,
    /// No token of the same kind will be accepted: the application or its issuer has to be changed.
    Nothing,
}

macro_rules! token_errors {
    ($($variant:ident = $name:literal, $cure:ident, $text:literal;)+) => {
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

            /// What helps.
            pub const fn cure(self) -> Cure {
                match self {
                    $(Self::$variant => Cure::$cure,)+
                }
            }
        }
    };
}

token_errors! {
    Missing = "missing", NewToken, "a token is needed";
    Expired = "expired", NewToken, "the token has expired";
    Revoked = "revoked", NewToken, "tokens of this subject were revoked: get a new one";
    NotYetValid = "not_yet_valid", NewToken, "the token is not valid yet";
    UnknownKey = "unknown_key", NewToken, "the token names no key of this server";
    NoKeys = "no_keys", Time, "the keys of this server can't be had at the moment: come back later";
    BadSignature = "bad_signature", NewToken, "the signature of the token is wrong";
    BadTicket = "bad_ticket", NewToken, "the ticket is unknown, used or over: get a new one";
    TicketShared = "ticket_shared", NewToken, "two parties have shown this ticket, so it is void: get a new one";
    TicketOrigin = "ticket_origin", NewToken, "the ticket was given to a page of another origin";
    TwoCredentials = "two_credentials", Nothing, "there are two credentials: show one of header, ticket and first message";
    TooLong = "too_long", Nothing, "the token is longer than 8 KiB";
    Malformed = "malformed", Nothing, "the token is not a signed JSON Web Token";
    WrongAlgorithm = "wrong_algorithm", Nothing, "tokens with this algorithm are not accepted";
    BadClaims = "bad_claims", Nothing, "a claim of the token is missing, occurs twice or has a wrong form";
    TooLongLived = "too_long_lived", Nothing, "the token is good for longer than this server allows";
    WrongAudience = "wrong_audience", Nothing, "the token is for another audience";
    WrongIssuer = "wrong_issuer", Nothing, "the token is from another issuer";
}

impl TokenError {
    /// The code that closes the connection.
    pub const fn close_code(self) -> CloseCode {
        match self.cure() {
            Cure::NewToken => CloseCode::UNAUTHENTICATED,
            Cure::Time => CloseCode::TRY_LATER,
            Cure::Nothing => CloseCode::BAD_TOKEN,
        }
    }

    /// The code of the `error` message.
    pub const fn error_code(self) -> ErrorCode {
        match self.cure() {
            Cure::NewToken | Cure::Time => ErrorCode::Unauthenticated,
            Cure::Nothing => ErrorCode::BadToken,
        }
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
    fn a_client_comes_back_after_what_can_be_cured_and_only_then() {
        for error in TokenError::ALL {
            assert_eq!(error.close_code().comes_back(), error.cure() != Cure::Nothing, "{error:?}");
            let details: serde_json::Value = serde_json::from_str(&error.details()).expect("JSON");
            assert_eq!(details["reason"], error.name());
        }
    }
}
