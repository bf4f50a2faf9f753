//! Settings come from flags, the process environment and one TOML file, all under the same
//! names. They are read in one pass that collects every mistake, so that an operator corrects
//! them in one go and nothing starts on half a configuration.

mod settings;
mod size;
mod source;
mod toml_file;

pub use settings::{Mistakes, Settings};
pub use size::{NoSize, Size};
pub use source::{Environment, Layered, Source};
pub use toml_file::{FileError, TomlFile};

/// A file's text without the byte order mark that some editors put at its beginning.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
