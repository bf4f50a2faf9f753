//! `evergreen`: keeps GoHighLevel's OAuth tokens fresh, and forwards calls with them.

#![warn(missing_docs)]
#![allow(rustdoc::broken_intra_doc_links, reason = "clap's help has brackets")]

mod admin_key;
mod apps;
mod args;
mod audit;
mod bootstrap_key;
mod check_store;
mod console;
mod data_dir;
mod events;
mod exit;
mod healthcheck;
mod installations;
mod key_rings;
mod keys;
mod log_level;
mod metrics_auth;
mod move_store;
mod openapi;
mod operate;
mod process;
mod progress;
mod redis_prefix;
mod redis_tls;
mod reload;
mod run;
mod seal;
mod secret_file;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use exit::Failure;
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
        Err(failure) => {
            eprintln!("{failure}");
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
    let sources = Sources::of(&args);
    let source = sources.read()?;
    match args.command {
        Command::Up(_) => run::up(&sources, &source).await,
        Command::Broker(_) => run::broker(&sources, &source).await,
        Command::Gateway(_) => run::gateway(&sources, &source).await,
        #[cfg(feature = "sandbox")]
        Command::Sandbox(_) => run::sandbox(&source).await,
        Command::Installations(what) => installations::installations(&source, what).await,
        Command::Apps(what) => apps::apps(&source, what).await,
        Command::Keys(what) => keys::act(&source, what).await,
        Command::Console => console::link(&source).await,
        Command::Audit(wanted) => audit::show(&source, &wanted).await,
        Command::Events(what) => events::act(&source, what).await,
        Command::Seal(what) => seal::act(&source, what).await,
        Command::LogLevel(wanted) => log_level::act(&source, &wanted).await,
        Command::Move(what) => move_store::act(&source, &what).await,
        Command::Healthcheck => healthcheck::check(&source).await,
        Command::CheckStore(what) => check_store::act(&source, &what).await,
        Command::Openapi => openapi::print(),
    }
}
