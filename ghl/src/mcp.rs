//! GHL's server of the Model Context Protocol (MCP), over streamable HTTP. It works for one location, which each
//! request names in a header besides the bearer token.

use crate::operations::{Operation, Places, TokenKind};

/// Its path.
pub const PATH: &str = "/mcp/";

/// The header that names the location of the token, in lower case.
pub const LOCATION: &str = "locationid";

/// The token and the parameters that its requests need. GHL's documents of operations do not describe it.
pub static OPERATION: Operation = Operation {
    path: PATH,
    token: TokenKind::Location,
    scopes: Vec::new(),
    location: NOWHERE,
    company: NOWHERE,
};

const NOWHERE: Places = Places {
    segment: None,
    query: Vec::new(),
    body: Vec::new(),
};
