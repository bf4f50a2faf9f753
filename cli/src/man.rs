//! `evergreen completions` and `evergreen man`, for people and for packages.

use clap::CommandFactory;

use crate::args::{Args, Completions, ManPages};
use crate::exit::Failure;
use crate::output::print;

/// `evergreen completions SHELL`.
pub(crate) fn completions(wanted: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(wanted.shell, &mut Args::command(), "evergreen", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// `evergreen man DIRECTORY`: a page for each command that is not hidden.
pub(crate) fn pages(wanted: &ManPages) -> Result<(), Failure> {
    // They are for all users.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let written = clap_mangen::generate_to(Args::command(), &wanted.directory);
    let directory = wanted.directory.display();
    written.map_err(|error| Failure::NoAnswer(format!("{directory}: {error}")))
}
