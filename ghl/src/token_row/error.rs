//! Why a row cannot be used. The texts are for operators: they say what to do, and never quote the row.

/// Why a row cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// It is not JSON.
    #[error("it is not JSON: parsing stopped at line {line}, column {column} of the row")]
    NotJson {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// It is JSON, but no object.
    #[error(
        "it is not a row: a row is an object with `refresh_token`, `access_token`, and `locationId` or `companyId`"
    )]
    NotARow,
    /// It has no token.
    #[error("it has no token: add `refresh_token` and `access_token`")]
    NoToken,
    /// It has an access token only.
    #[error(
        "it has no `refresh_token`, so its token cannot be kept fresh: add the refresh token, let the customer connect \
         again, or store a token that never expires with `evergreen installations add-token`"
    )]
    NoRefreshToken,
    /// It has a private integration token.
    #[error(
        "it has a private integration token, which is never refreshed: store it with `evergreen installations add-token`"
    )]
    PrivateToken,
    /// A token has white space, control characters or more bytes than a token has.
    #[error("`{0}` is not a token: it must be one word of visible ASCII characters")]
    NotAToken(&'static str),
    /// Nothing tells whose token it is.
    #[error(
        "it does not say whose token it is: add `locationId`, or `companyId` for a token of an agency"
    )]
    NoOwner,
    /// A location's row without the location.
    #[error("its token is of a location, and `locationId` is missing: add it")]
    NoLocation,
    /// A company's row without the company.
    #[error("its token is of a company, and `companyId` is missing: add it")]
    NoCompany,
    /// Another word.
    #[error("`userType` must be `Location` or `Company`, or be left out")]
    BadUserType,
    /// The token's claims name another kind of owner.
    #[error(
        "its token is of a {claimed} and `userType` is {stated}: correct `userType`, and the id that belongs to it"
    )]
    OtherKind {
        /// `Company` or `Location`.
        claimed: &'static str,
        /// The other one.
        stated: &'static str,
    },
    /// The token's claims name another owner.
    #[error(
        "its token is of another {0} than the row says: find the row that the token belongs to"
    )]
    OtherOwner(&'static str),
    /// An expiry that is no time, or one before 2018 or after 2100.
    #[error(
        "`expires_at` is not a time: use ISO 8601 such as 2027-01-31T12:00:00Z, or seconds or milliseconds since 1970, \
         or leave it out"
    )]
    BadExpiry,
    /// See [`TokenRow::external_id`](super::TokenRow::external_id).
    #[error("`external_id` must be a text of 1 to 128 visible ASCII characters")]
    BadExternalId,
    /// See [`TokenRow::tags`](super::TokenRow::tags).
    #[error("`tags` must be an array of up to 16 texts of 1 to 64 characters")]
    BadTags,
}
