//! The code of the documents: commands are run, and other blocks are checked for syntax.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::manual::{Block, Ports, Settings, blocks, run_page};
use tests::port;
use tests::program::evergreen;
use tests::scratch::Scratch;

/// How many pages run at once. They mostly wait.
const AT_ONCE: usize = 4;

/// Kinds of blocks that need no check, because they are no code.
const TEXT: [&str; 3] = ["", "text", "promql"];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap()
}

/// The pages of the manual, with their blocks.
fn pages() -> Vec<(String, Vec<Block>)> {
    let root = root();
    let mut names = vec!["README.md".to_owned()];
    let mut directories = vec![PathBuf::from("docs")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(root.join(&directory)).unwrap() {
            let path = directory.join(entry.unwrap().file_name());
            if root.join(&path).is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == "md") {
                names.push(path.display().to_string());
            }
        }
    }
    names.sort();
    let blocks = |name: &String| {
        let page = std::fs::read_to_string(root.join(name)).unwrap();
        blocks(&page).unwrap_or_else(|problem| panic!("{name}: {problem}"))
    };
    let pages = names.iter().map(blocks).collect::<Vec<_>>();
    names.into_iter().zip(pages).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_manual_work() {
    // Ports are taken with the runtime of the test, and pages run in threads.
    let pages: Vec<_> = pages()
        .into_iter()
        .filter(|(_, blocks)| {
            let mut commands = blocks.iter().filter(|block| block.is_command());
            commands.any(|block| block.not_run().is_none())
        })
        .map(|page| (page, ports()))
        .collect();
    let (steps, failures) = tokio::task::spawn_blocking(move || run(&pages))
        .await
        .unwrap();
    println!("{steps} commands were run");
    for (reason, count) in not_run() {
        println!("{count} blocks were not run: {reason}");
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
    assert!(steps > 60, "{steps} commands");
}

fn ports() -> Ports {
    Ports {
        public: port::free(),
        internal: port::free(),
        sandbox: port::free(),
        product: port::free(),
    }
}

/// Runs pages, some at once. Returns the number of steps, and a text for each page that failed.
fn run(pages: &[((String, Vec<Block>), Ports)]) -> (usize, Vec<String>) {
    let (root, program) = (root(), evergreen());
    let (next, steps) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(((name, blocks), ports)) =
                    pages.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let scratch = Scratch::new();
                    let settings = Settings {
                        evergreen: &program,
                        repository: &root,
                        directory: scratch.path(),
                        ports: *ports,
                    };
                    match run_page(blocks, &settings) {
                        Ok(count) => {
                            steps.fetch_add(count, Ordering::Relaxed);
                        }
                        Err(failure) => {
                            let text = format!("{name}:{}: {}", failure.line, failure.problem);
                            failures.lock().unwrap().push(text);
                        }
                    }
                }
            });
        }
    });
    (steps.into_inner(), failures.into_inner().unwrap())
}

/// How many blocks are not run or checked for which reason.
fn not_run() -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for (_, blocks) in pages() {
        for reason in blocks.iter().filter_map(Block::not_run) {
            *reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }
    reasons
}

#[test]
fn reasons_for_blocks_that_are_not_run_are_few() {
    // A new reason is a choice between a test and an excuse, so it should be seen in a review.
    let reasons = not_run();
    assert!(reasons.len() <= 20, "{reasons:#?}");
}

#[test]
fn data_and_code_of_the_manual_have_valid_syntax() {
    let mut problems = Vec::new();
    let mut count = 0;
    for (name, blocks) in pages() {
        for block in blocks.iter().filter(|block| !block.is_command()) {
            if TEXT.contains(&block.kind.as_str()) || block.not_run().is_some() {
                continue;
            }
            count += 1;
            let result = match block.kind.as_str() {
                "toml" => toml::from_str::<toml::Table>(&block.code)
                    .map(drop)
                    .map_err(|error| error.to_string()),
                "json" => serde_json::from_str::<serde_json::Value>(&block.code)
                    .map(drop)
                    .map_err(|error| error.to_string()),
                "js" => checks(
                    "node",
                    &["--input-type=module", "--check", "-"],
                    &block.code,
                ),
                "python" => checks("python3", &["-c", PYTHON], &block.code),
                "yaml" => checks("python3", &["-c", YAML], &block.code),
                other => Err(format!("nothing checks blocks of the kind `{other}`")),
            };
            let at = format!("{name}:{}", block.line);
            problems.extend(result.err().map(|problem| format!("{at}: {problem}")));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(count > 20, "{count} blocks");
}

/// Examples may `await` at the top level.
const PYTHON: &str = "import ast, sys\n\
    compile(sys.stdin.read(), 'block', 'exec', flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)";

const YAML: &str = "import sys, yaml\nlist(yaml.safe_load_all(sys.stdin))";

/// Whether a program takes this code at its standard input.
fn checks(program: &str, args: &[&str], code: &str) -> Result<(), String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    // A program that ends early closes its input. Its exit code says why.
    let _ = child
        .stdin
        .take()
        .map(|mut input| input.write_all(code.as_bytes()));
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(errors)
    }
}
