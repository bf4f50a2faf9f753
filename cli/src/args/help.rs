//! Texts below the help of commands.

/// The examples of a command. A test parses each of them.
macro_rules! examples {
    ($($line:literal),+ $(,)?) => { concat!("Examples:", $("\n  ", $line),+) };
}

#[cfg(feature = "sandbox")]
macro_rules! first_steps {
    () => {
        "First steps:
  1. evergreen up                  start everything here, with a local GHL to try"
    };
}

#[cfg(not(feature = "sandbox"))]
macro_rules! first_steps {
    () => {
        "First steps, with GHL_CLIENT_ID and GHL_CLIENT_SECRET of your app at GHL:
  1. evergreen up                  start everything here"
    };
}

/// The text of `evergreen` alone. It fits into 80 columns.
pub(crate) const FIRST_STEPS: &str = concat!(
    "evergreen keeps GoHighLevel's OAuth tokens fresh, and forwards calls with them.\n\n",
    first_steps!(),
    "
  2. open http://127.0.0.1:8080/oauth/install
                                   connect a customer, as yours will
  3. evergreen installations list  see it, in another terminal

All commands   evergreen --help
One command    evergreen help COMMAND
All settings   evergreen settings"
);

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0    done, also if the reader of a pipe has gone
  1    the answer is no: the request was refused, or something is wrong with what was examined
  2    the command line is wrong
  64   the settings are wrong
  69   an address, a file, the server or the store is not available
  70   work was unfinished at the end of EVERGREEN_SHUTDOWN_TIMEOUT
  74   an error while serving that needs a restart, or output that cannot be written
  130  Ctrl-C";

/// Checks that a duration is one, and not nothing.
pub(super) fn longer_than_nothing(text: &str) -> Result<std::time::Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match duration.is_zero() {
        true => Err("must be longer than 0s".to_owned()),
        false => Ok(duration),
    }
}
