//! Runs the steps of one page in one shell.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::blocks::{Block, Note, Step, steps};
use super::compare::difference;

/// A page takes a second or two. Installing packages takes longer.
const PATIENCE: Duration = Duration::from_secs(240);

/// The functions of the script.
const PRELUDE: &str = include_str!("prelude.sh");

/// The ports of a page's processes. Pages name the usual ones.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// In place of 8080.
    pub public: u16,
    /// In place of 9080, and of a broker's 9081.
    pub internal: u16,
    /// In place of 8090.
    pub sandbox: u16,
    /// In place of 3000, that of the reader's own program.
    pub product: u16,
}

/// Where a page is run.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The program `evergreen`.
    pub evergreen: &'a Path,
    /// The top of the repository.
    pub repository: &'a Path,
    /// An empty directory.
    pub directory: &'a Path,
    pub ports: Ports,
}

/// A step that did not do what its page says.
#[derive(Debug)]
pub struct Failure {
    /// Of the page.
    pub line: usize,
    pub problem: String,
}

/// Runs all steps of the blocks of a page that are not annotated as not run. Returns their number.
///
/// # Errors
/// The first step that failed or printed something else, with what it printed.
pub fn run_page(blocks: &[Block], settings: &Settings) -> Result<usize, Failure> {
    let run: Vec<&Block> = blocks
        .iter()
        .filter(|block| block.is_command() && block.not_run().is_none())
        .collect();
    let steps = plan(&run, settings.ports);
    let serves_itself = run.iter().any(|block| {
        let serves = |note: &Note| matches!(note, Note::Serves(_));
        block.notes.iter().any(serves)
    });
    let failed = |line| {
        move |error: io::Error| Failure {
            line,
            problem: error.to_string(),
        }
    };
    write_script(&steps, serves_itself, settings).map_err(failed(0))?;
    let has_ended = execute(settings).map_err(failed(0))?;
    for (number, step) in steps.iter().enumerate() {
        check(number, step, settings).map_err(|problem| Failure {
            line: step.step.line,
            problem,
        })?;
    }
    if !has_ended {
        let problem = format!("it takes longer than {PATIENCE:?}");
        return Err(Failure { line: 0, problem });
    }
    Ok(steps.len())
}

/// A step and its surroundings.
struct Planned {
    step: Step,
    first: Vec<String>,
    serves: Option<String>,
    code: i32,
}

fn plan(blocks: &[&Block], ports: Ports) -> Vec<Planned> {
    let mut planned = Vec::new();
    for block in blocks {
        let steps = steps(block);
        let last = steps.len().saturating_sub(1);
        for (number, step) in steps.into_iter().enumerate() {
            let mut it = Planned {
                step: Step {
                    command: ports.put_into(&step.command),
                    ..step
                },
                first: Vec::new(),
                serves: None,
                code: 0,
            };
            for note in &block.notes {
                match note {
                    Note::First(command) if number == 0 => it.first.push(ports.put_into(command)),
                    Note::Serves(url) if number == last => it.serves = Some(ports.put_into(url)),
                    Note::Exits(code) if number == last => it.code = *code,
                    Note::First(_) | Note::Serves(_) | Note::Exits(_) | Note::NotRun(_) => {}
                }
            }
            planned.push(it);
        }
    }
    planned
}

impl Ports {
    /// A command with these ports in place of the usual ones, and without the hosts of examples.
    fn put_into(self, command: &str) -> String {
        let here = "127.0.0.1";
        let mut result = command.to_owned();
        for host in [
            "https://tokens.example.com",
            "https://evergreen.example.com",
        ] {
            result = result.replace(host, &format!("http://{here}:8080"));
        }
        for host in ["BROKER:", "GATEWAY:"] {
            result = result.replace(host, &format!("{here}:"));
        }
        for (usual, port) in self.pairs() {
            result = result.replace(&format!("{here}:{usual}"), &format!("{here}:{port}"));
        }
        result
    }

    /// The reverse for an output.
    fn take_out_of(self, output: &str) -> String {
        let mut result = output.to_owned();
        for (usual, port) in self.pairs() {
            result = result.replace(&format!(":{port}"), &format!(":{usual}"));
        }
        result
    }

    /// The usual ports, and these. An output has the first of two usual ones.
    fn pairs(self) -> [(u16, u16); 5] {
        [
            (8080, self.public),
            (9080, self.internal),
            (9081, self.internal),
            (8090, self.sandbox),
            (3000, self.product),
        ]
    }
}

/// The host of an example is the public address.
fn without_example_hosts(text: &str) -> String {
    let hosts = [
        "https://tokens.example.com",
        "https://evergreen.example.com",
    ];
    let here = "http://127.0.0.1:8080";
    hosts
        .iter()
        .fold(text.to_owned(), |text, host| text.replace(host, here))
}

fn write_script(steps: &[Planned], serves_itself: bool, settings: &Settings) -> io::Result<()> {
    let notes = settings.directory.join(".steps");
    fs::create_dir_all(&notes)?;
    let mut script = PRELUDE.to_owned();
    if !serves_itself && !steps.is_empty() {
        script.push_str("start_up\n");
    }
    for (number, it) in steps.iter().enumerate() {
        let (command, last) = match it.serves {
            Some(_) => split_last(&it.step.command),
            None => (it.step.command.as_str(), ""),
        };
        fs::write(notes.join(format!("{number}.sh")), format!("{command}\n"))?;
        for first in &it.first {
            let _ = writeln!(script, "{first}");
        }
        let _ = match it.code {
            0 => writeln!(script, "step {number}"),
            code => writeln!(script, "step_exits {number} {code}"),
        };
        if let Some(url) = &it.serves {
            fs::write(
                notes.join(format!("{number}.serve.sh")),
                format!("{last}\n"),
            )?;
            let _ = writeln!(script, "serve {number} {url}");
        }
    }
    fs::write(notes.join("script.sh"), script)
}

/// The last command of a block, which may have several lines, and what is before it.
fn split_last(code: &str) -> (&str, &str) {
    let text = code.trim_end();
    let mut start = text.rfind('\n').map_or(0, |at| at + 1);
    while start > 1 && text[..start - 1].ends_with('\\') {
        start = text[..start - 1].rfind('\n').map_or(0, |at| at + 1);
    }
    text.split_at(start)
}

/// Runs the script. Returns whether it has ended in time.
fn execute(settings: &Settings) -> io::Result<bool> {
    let path = std::env::var("PATH").unwrap_or_default();
    let at = |port: u16| format!("127.0.0.1:{port}");
    let ports = settings.ports;
    let log = fs::File::create(settings.directory.join(".steps/log"))?;
    let mut command = Command::new("bash");
    command
        .arg(settings.directory.join(".steps/script.sh"))
        .current_dir(settings.directory)
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| is_of_the_machine(name)))
        .env("PATH", path)
        .env("REPOSITORY", settings.repository)
        .env("EVERGREEN", settings.evergreen)
        .env("PUBLIC_PORT", ports.public.to_string())
        .env("SANDBOX_PORT", ports.sandbox.to_string())
        .env("PORT", ports.product.to_string())
        .env("EVERGREEN_LISTEN", at(ports.public))
        .env("EVERGREEN_INTERNAL_LISTEN", at(ports.internal))
        .env("EVERGREEN_SANDBOX_LISTEN", at(ports.sandbox))
        .env(
            "EVERGREEN_ADMIN_URL",
            format!("http://{}", at(ports.internal)),
        )
        .env("EVERGREEN_ALLOW_TMPFS", "true")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // So that everything that it starts can be ended with it.
        .process_group(0);
    let mut shell = command.spawn()?;
    let group = format!("-{}", shell.id());
    let has_ended = wait(&mut shell)?;
    let _ = Command::new("kill")
        .args(["-KILL", "--", &group])
        .stderr(Stdio::null())
        .status();
    shell.wait()?;
    Ok(has_ended)
}

/// Settings of the registries of packages, and of this machine's network.
fn is_of_the_machine(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let begins = ["npm_config_", "pip_", "lc_"];
    matches!(name, "HOME" | "LANG" | "TMPDIR" | "NODE_EXTRA_CA_CERTS")
        || lower.ends_with("_proxy")
        || begins.iter().any(|begin| lower.starts_with(begin))
}

fn wait(shell: &mut Child) -> io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if shell.try_wait()?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

fn check(number: usize, it: &Planned, settings: &Settings) -> Result<(), String> {
    let notes = settings.directory.join(".steps");
    let text = |name: PathBuf| fs::read_to_string(name).unwrap_or_default();
    let printed = text(notes.join(format!("{number}.out")));
    let all = || {
        let errors = text(notes.join(format!("{number}.err")));
        let log = text(notes.join("log"));
        let command = &it.step.command;
        format!("{command}\n--- printed\n{printed}\n--- errors\n{errors}\n--- log\n{log}")
    };
    if text(notes.join(format!("{number}.ended"))).is_empty() {
        return Err(format!("it fails: {}", all()));
    }
    if it.step.output.is_empty() {
        return Ok(());
    }
    let shown = without_example_hosts(&it.step.output);
    match difference(&shown, &settings.ports.take_out_of(&printed)) {
        None => Ok(()),
        Some(difference) => Err(format!("{difference}: {}", all())),
    }
}
