//! `evergreen`: keeps GoHighLevel's OAuth tokens fresh, and forwards calls with them.

#![warn(missing_docs)]
#![allow(rustdoc::broken_intra_doc_links, reason = "clap's help has brackets")]
#![warn(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "these macros panic if the pipe is closed: print through the module `output`"
)]

mod admin_key;
mod apps;
mod args;
mod audit;
mod bootstrap_key;
mod check;
mod check_store;
mod config_print;
mod console;
mod data_dir;
mod doctor;
mod events;
mod exit;
mod healthcheck;
mod installations;
mod key_rings;
mod keys;
mod log_level;
mod man;
mod metrics_auth;
mod move_store;
mod openapi;
mod operate;
mod output;
mod process;
mod progress;
mod redis_prefix;
mod redis_tls;
mod reload;
mod role;
mod run;
mod seal;
mod secret_file;
mod settings;
mod settings_list;
mod status;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command, FIRST_STEPS};
use exit::Failure;
use output::{Output, complain};
use settings::Sources;

/// The version of this build.
const VERSION: &str = env!("BUILD_VERSION");

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    disable_huge_pages();
    protect_memory_and_files();
    // This fails only if a provider is installed already, and nothing else installs one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::runtime)
        .and_then(|runtime| runtime.block_on(act(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ Failure::ClosedPipe) => failure.code(),
        Err(failure) => {
            complain(&failure);
            failure.code()
        }
    }
}

/// Disables transparent huge pages for this process. With them, each thread's first allocation of a size
/// class makes 2 MB resident: an upload of 25 MB grew the process by 10 MB.
fn disable_huge_pages() {
    #[cfg(target_os = "linux")]
    // A failure costs memory only.
    let _ = nix::sys::prctl::set_thp_disable(true);
}

/// No core dump and no other process of this user reads the memory, and files are for this user alone.
fn protect_memory_and_files() {
    #[cfg(target_os = "linux")]
    // Fails on no kernel that evergreen runs on.
    let _ = nix::sys::prctl::set_dumpable(false);
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
}

async fn act(args: Args) -> Result<(), Failure> {
    let output = Output::new(args.output);
    let sources = Sources::of(&args);
    let Some(command) = args.command else {
        return output.line(FIRST_STEPS);
    };
    let source = sources.read()?;
    if !command.checks_names() {
        for name in settings::spelling::all_unknown(&source) {
            output.note(format_args!("warning: {name}"));
        }
    }
    match command {
        Command::Up(_) => run::up(&sources, &source).await,
        Command::Broker(_) => run::broker(&sources, &source).await,
        Command::Gateway(_) => run::gateway(&sources, &source).await,
        #[cfg(feature = "sandbox")]
        Command::Sandbox(_) => run::sandbox(&source).await,
        Command::Status => status::show(&source, output).await,
        Command::Installations(what) => installations::installations(&source, output, what).await,
        Command::Doctor(wanted) => doctor::act(&source, output, &wanted).await,
        Command::Apps(what) => apps::apps(&source, output, what).await,
        Command::Keys(what) => keys::act(&source, output, what).await,
        Command::Console => console::link(&source, output).await,
        Command::Audit(wanted) => audit::show(&source, output, &wanted).await,
        Command::Events(what) => events::act(&source, output, what).await,
        Command::Seal(what) => seal::act(&source, output, what).await,
        Command::LogLevel(wanted) => log_level::act(&source, output, &wanted).await,
        Command::Move(what) => move_store::act(&source, output, &what).await,
        Command::Healthcheck => healthcheck::check(&source, output).await,
        Command::CheckStore(what) => check_store::act(&source, output, &what).await,
        Command::Openapi => openapi::print(),
        Command::Check(wanted) => check::act(&source, output, &wanted).await,
        Command::Config(args::Config::Print(wanted)) => config_print::act(&source, output, &wanted),
        Command::Settings(wanted) => settings_list::show(output, &wanted),
        Command::Completions(wanted) => man::completions(&wanted),
        Command::Man(wanted) => man::pages(&wanted),
    }
}
