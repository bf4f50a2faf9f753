//! Settings come from flags, the process environment and one TOML file, with the same names in all three. One pass
//! reads them and collects every mistake. So an operator sees all mistakes at once, and no process starts with a
//! partial configuration.

mod nearest;
mod place;
mod reads;
mod secret_command;
mod settings;
mod size;
mod source;
mod toml_file;
mod value;

pub use nearest::nearest;
pub use place::place;
pub use reads::{Kind, Read};
pub use settings::{Mistakes, Settings, is_loopback};
pub use size::{InvalidSize, Size};
pub use source::{Environment, Flags, Layered, Origin, Source};
pub use toml_file::{FileError, TomlFile};

/// A file's text without the byte order mark that some editors add.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
