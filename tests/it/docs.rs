//! The documents: links point to existing targets, and sizes are within their limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Directories without documents of this project.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|reason| panic!("{}: {reason}", path.display()))
}

/// All Markdown files below a directory.
fn pages(directory: &Path) -> Vec<PathBuf> {
    files(directory, ".md")
}

/// All files below a directory whose names end so.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A page without its code blocks.
fn prose(page: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// The targets of all links of a page.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    // Every second piece is inline code.
    let text: String = prose.split('`').step_by(2).collect();
    // Of Markdown, of images in HTML, and addresses alone.
    let kinds = [
        ("](", ')'),
        ("src=\"", '"'),
        ("srcset=\"", '"'),
        ("<https:", '>'),
    ];
    let mut links = Vec::new();
    for (start, end) in kinds {
        let targets = text.split(start).skip(1);
        let targets = targets.filter_map(|rest| rest.split_once(end));
        let scheme = if start == "<https:" { "https:" } else { "" };
        links.extend(targets.map(|(target, _)| format!("{scheme}{target}")));
    }
    links
}

fn is_external(link: &str) -> bool {
    link.contains("://") || link.starts_with("mailto:")
}

/// The Rust files that a page names by their whole path.
fn rust_files(page: &str) -> Vec<String> {
    let prose = prose(page);
    let is_path = |code: &&str| {
        code.contains('/')
            && code.ends_with(".rs")
            && code
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
    };
    let code = prose.split('`').skip(1).step_by(2);
    code.filter(is_path).map(str::to_owned).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in prose(page).lines() {
        let text = line.trim_start_matches('#');
        let level = line.len() - text.len();
        if !(1..=6).contains(&level) || !text.starts_with(' ') {
            continue;
        }
        let kept = text.trim().chars().filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            _ if c.is_alphanumeric() => Some(c),
            _ => None,
        });
        let slug = kept.collect::<String>().to_lowercase();
        let count = counts.entry(slug.clone()).or_default();
        anchors.insert(match *count {
            0 => slug,
            n => format!("{slug}-{n}"),
        });
        *count += 1;
    }
    anchors
}

/// The problem of a link of a page, if it has one.
fn broken_link(page: &Path, link: &str) -> Option<String> {
    if is_external(link) {
        return None;
    }
    let (file, anchor) = match link.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (link, None),
    };
    let target = match file {
        "" => page.to_owned(),
        _ => page.parent().unwrap_or(page).join(file),
    };
    if !target.exists() {
        return Some(format!("{}: no file {link}", page.display()));
    }
    let anchor = anchor?;
    let has_anchor = target.is_file() && anchors(&read(&target)).contains(anchor);
    (!has_anchor).then(|| format!("{}: no heading {link}", page.display()))
}

#[test]
fn links_point_to_existing_files_and_headings() {
    let mut pages = pages(&root());
    assert!(pages.len() > 20, "{pages:?}");
    pages.push(root().join("llms.txt"));
    let mut broken = Vec::new();
    let mut external = BTreeSet::new();
    let mut count = 0;
    for page in &pages {
        for link in links(&read(page)) {
            count += 1;
            broken.extend(broken_link(page, &link));
            if is_external(&link) {
                external.insert(link);
            }
        }
    }
    assert!(count > 50, "{count} links");
    // A test without the internet cannot fetch them. A person can.
    println!("{} external links:", external.len());
    for link in external {
        println!("    {link}");
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The file that a link of a page leads to.
fn target(page: &Path, link: &str) -> Option<PathBuf> {
    let file = link.split('#').next().unwrap_or_default();
    let is_file = !is_external(link) && !file.is_empty();
    is_file.then(|| page.parent().unwrap_or(page).join(file))
}

/// `tools/book` lays out the pages of the summary, the pages and files that they link to, and so on.
#[test]
fn links_of_the_book_lead_to_files_of_the_repository() {
    let root = root();
    let mut queue = vec![root.join("docs/SUMMARY.md")];
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    while let Some(page) = queue.pop() {
        for link in links(&read(&page)) {
            let Some(path) = target(&page, &link) else {
                continue;
            };
            let Ok(path) = path.canonicalize() else {
                // The test above says so.
                continue;
            };
            // GitHub shows a directory, and a book has none.
            if !path.is_file() || !path.starts_with(&root) {
                wrong.push(format!("{}: {link} is no file of it", page.display()));
            } else if seen.insert(path.clone()) && path.extension().is_some_and(|it| it == "md") {
                queue.push(path);
            }
        }
    }
    assert!(seen.len() > 80, "{} files", seen.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn llms_txt_lists_the_pages_of_the_manual() {
    let root = root();
    let index = links(&read(&root.join("llms.txt")));
    let index: BTreeSet<String> = index.into_iter().collect();
    let mut missing = Vec::new();
    for page in links(&read(&root.join("docs/SUMMARY.md"))) {
        // Runbooks and decisions have an index each.
        if !page.contains('/') && !index.contains(&format!("docs/{page}")) {
            missing.push(page);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn llms_full_txt_is_current() {
    let scratch = tests::scratch::Scratch::new();
    let made = scratch.path().join("llms-full.txt");
    let program = root().join("tools/llms-full");
    let output = std::process::Command::new(program).arg(&made).output();
    let output = output.expect("python3");
    assert!(output.status.success(), "{output:?}");
    let (made, kept) = (read(&made), read(&root().join("llms-full.txt")));
    assert!(made == kept, "it is not current: run tools/llms-full");
    assert!(kept.len() < 300_000, "{} bytes", kept.len());
}

#[test]
fn named_rust_files_exist() {
    let root = root();
    let mut missing = Vec::new();
    for page in pages(&root) {
        let files = rust_files(&read(&page));
        let gone = files.iter().filter(|file| !root.join(file).exists());
        missing.extend(gone.map(|file| format!("{}: {file}", page.display())));
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

/// The pages of `docs/` that a source file names, with their anchors: `docs/operations.md#clock`.
fn pages_named_in(source: &str) -> Vec<String> {
    let after = source.split("docs/").skip(1);
    let names = after.filter_map(|rest| {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "/-_.#".contains(c);
        let end = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
        let name = rest[..end].trim_end_matches(['.', '-']);
        let (file, anchor) = name.split_once('#').unwrap_or((name, ""));
        let is_page = file.ends_with(".md");
        is_page.then(|| format!("docs/{file}#{anchor}"))
    });
    names.collect()
}

#[test]
fn pages_named_in_the_code_exist() {
    let root = root();
    let mut missing = Vec::new();
    let mut count = 0;
    for crate_name in ["broker", "cli", "gateway", "service", "store", "sandbox"] {
        for source in files(&root.join(crate_name), ".rs") {
            for name in pages_named_in(&read(&source)) {
                count += 1;
                let (file, anchor) = name.split_once('#').unwrap_or((&name, ""));
                let page = root.join(file);
                let is_known =
                    page.exists() && (anchor.is_empty() || anchors(&read(&page)).contains(anchor));
                if !is_known {
                    missing.push(format!("{}: {name}", source.display()));
                }
            }
        }
    }
    assert!(count > 10, "{count} names");
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

/// The string literals between two markers of a source file.
fn quoted(file: &str, start: &str, end: &str) -> BTreeSet<String> {
    let source = read(&root().join(file));
    let (_, rest) = source.split_once(start).expect("the start");
    let (section, _) = rest.split_once(end).expect("the end");
    section
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn errors_md_lists_exactly_the_error_codes() {
    let mut expected = quoted(
        "gateway/src/api/error_response.rs",
        "fn status_and_code(",
        "impl Error {",
    );
    expected.extend(quoted(
        "broker/src/api/error.rs",
        "fn status_and_code(",
        "impl Error {",
    ));
    expected.extend(quoted(
        "service/src/http/check.rs",
        "fn code(",
        "fn into_response(",
    ));
    let page = read(&root().join("docs/errors.md"));
    let (_, tables) = page.split_once("\n## 400").expect("the first table");
    let rows = tables.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let listed: BTreeSet<String> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, expected);
}

#[test]
fn each_promise_of_security_md_names_tests_that_exist() {
    let page = read(&root().join("SECURITY.md"));
    let (_, promises) = page.split_once("## Promises").expect("the promises");
    let (promises, _) = promises.split_once("\n## ").expect("their end");
    let rows: Vec<&str> = promises
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(2)
        .collect();
    assert!(rows.len() > 10, "{promises}");
    let sources = files(&root(), ".rs");
    let sources: String = sources.iter().map(|file| read(file)).collect();
    for row in rows {
        let tests = row.split('|').nth(2).unwrap_or_default();
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names {
            assert!(sources.contains(&format!("fn {name}()")), "{name} of {row}");
        }
    }
}

/// The alerts of `rules.yml`, each with its severity and its annotation `runbook`.
fn alerts() -> BTreeMap<String, (String, String)> {
    let rules = read(&root().join("deploy/prometheus/rules.yml"));
    let after = |rule: &str, key: &str| {
        let (_, rest) = rule.split_once(key)?;
        let end = rest.find(['\n', '}']).unwrap_or(rest.len());
        Some(rest[..end].trim().to_owned())
    };
    let mut alerts = BTreeMap::new();
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap_or_default().to_owned();
        let severity = after(rule, "severity: ").unwrap_or_default();
        let runbook = after(rule, "runbook: ").unwrap_or_default();
        let is_new = alerts.insert(name.clone(), (severity, runbook)).is_none();
        assert!(is_new, "{name} is there twice");
    }
    alerts
}

#[test]
fn each_alert_names_its_runbook_and_each_runbook_has_an_alert() {
    let alerts = alerts();
    assert!(alerts.len() > 20, "{alerts:?}");
    let directory = root().join("docs/runbooks");
    for (name, (_, runbook)) in &alerts {
        assert_eq!(runbook, &format!("docs/runbooks/{name}.md"), "{name}");
        let page = read(&root().join(runbook));
        assert!(page.starts_with(&format!("# {name}\n")), "{runbook}");
        let parts = [
            "Meaning** (severity: ",
            "Effect on users.",
            "First look.",
            "Repair.",
            "When it is over.",
        ];
        for part in parts {
            assert!(page.contains(&format!("\n**{part}")), "{runbook}: {part}");
        }
        let lines = page.lines().count();
        assert!((15..=40).contains(&lines), "{runbook} has {lines} lines");
    }
    let stems = pages(&directory).into_iter().map(|page| {
        let stem = page.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    });
    let runbooks: BTreeSet<String> = stems.filter(|stem| stem != "README").collect();
    let expected: BTreeSet<String> = alerts.into_keys().collect();
    assert_eq!(runbooks, expected);
}

#[test]
fn runbooks_and_their_index_have_the_severity_of_the_alert() {
    let directory = root().join("docs/runbooks");
    let index = read(&directory.join("README.md"));
    let rows: Vec<&str> = index
        .lines()
        .filter(|line| line.starts_with("| [Evergreen"))
        .collect();
    let alerts = alerts();
    assert_eq!(rows.len(), alerts.len(), "{rows:#?}");
    for (name, (severity, _)) in &alerts {
        let row = format!("| [{name}]({name}.md) | {severity} | ");
        assert!(rows.iter().any(|it| it.starts_with(&row)), "{row}");
        let page = read(&directory.join(format!("{name}.md")));
        let said = format!("**Meaning** (severity: {severity}).");
        assert!(page.contains(&said), "{name}: {said}");
    }
}

/// The lines of the code blocks of a page in this language.
fn code_lines(page: &str, language: &str) -> Vec<String> {
    let mut is_wanted = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(name) => is_wanted = name == language,
            None if is_wanted => lines.push(line.to_owned()),
            None => {}
        }
    }
    lines
}

#[test]
fn queries_of_runbooks_use_documented_metrics() {
    let documented = read(&root().join("docs/metrics.md"));
    let rules = read(&root().join("deploy/prometheus/rules.yml"));
    let mut count = 0;
    for page in pages(&root().join("docs/runbooks")) {
        for query in code_lines(&read(&page), "promql") {
            let names = query.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
            for name in names.filter(|name| name.starts_with("evergreen")) {
                count += 1;
                let metric = name.strip_suffix("_bucket").unwrap_or(name);
                let is_known = documented.contains(&format!("`{metric}`"))
                    || documented.contains(&format!("`{metric}{{"))
                    || rules.contains(&format!("- record: {metric}\n"));
                assert!(is_known, "{}: {name}", page.display());
            }
        }
    }
    assert!(count > 50, "{count} metrics");
}

#[test]
fn summary_lists_every_page_once() {
    let docs = root().join("docs");
    let listed = links(&read(&docs.join("SUMMARY.md")));
    let unique: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "a page is listed twice");
    let mut expected: BTreeSet<String> = BTreeSet::new();
    for page in pages(&docs) {
        let page = page.strip_prefix(&docs).expect("a page of docs");
        let page = page.to_string_lossy().into_owned();
        if page != "SUMMARY.md" {
            expected.insert(page);
        }
    }
    let expected: BTreeSet<&String> = expected.iter().collect();
    assert_eq!(unique, expected);
}

#[test]
fn readme_is_within_size_limits() {
    let readme = read(&root().join("README.md"));
    let lines = readme.lines().count();
    assert!(lines <= 150, "{lines} lines");
    assert!(readme.len() <= 10_000, "{} bytes", readme.len());
}

#[test]
fn architecture_is_within_size_limits() {
    let page = read(&root().join("ARCHITECTURE.md"));
    let lines = page.lines().count();
    assert!(lines <= 200, "{lines} lines");
    for (number, line) in (1..).zip(page.lines()) {
        let length = line.chars().count();
        assert!(length <= 120, "line {number} has {length} characters");
    }
}

#[test]
fn anchors_match_github() {
    let page =
        "# At 3 a.m.\n## `up` and HTTP/1.1\n## Same\n```\n# no heading\n```\n## Same\n#none\n";
    let found: Vec<String> = anchors(page).into_iter().collect();
    assert_eq!(found, ["at-3-am", "same", "same-1", "up-and-http11"]);
}
