//! Private functions for `tests/properties`.

use std::path::Path;

use crate::config::{FileError, TomlFile};

/// The text of a settings file.
///
/// # Errors
/// As [`TomlFile::read`].
pub fn parse_settings_file(text: &str) -> Result<TomlFile, FileError> {
    TomlFile::parse(Path::new("evergreen.toml"), text)
}
