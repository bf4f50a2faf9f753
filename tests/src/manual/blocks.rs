//! Fenced blocks of a Markdown page, and the comments that annotate them.

/// A fenced block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Of its opening fence, from 1.
    pub line: usize,
    /// The language, such as `console`. Empty if the fence has none.
    pub kind: String,
    /// Without the indentation of the fence.
    pub code: String,
    pub notes: Vec<Note>,
}

/// The meaning of a comment above a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// `<!-- not run: REASON -->`: nothing runs or checks this block.
    NotRun(String),
    /// `<!-- first: COMMAND -->`: a command that prepares what a reader has at this point.
    First(String),
    /// `<!-- serves: URL -->`: the last command of the block runs on, and the next block waits until the URL answers.
    Serves(String),
    /// `<!-- exits: CODE -->`: the exit code of the last command, if it is not 0.
    Exits(i32),
}

/// A part of a block that is run at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Of its first line, from 1.
    pub line: usize,
    pub command: String,
    /// The output that the page shows below the command. Empty if there is none.
    pub output: String,
}

impl Block {
    #[must_use]
    pub fn is_command(&self) -> bool {
        matches!(self.kind.as_str(), "sh" | "console")
    }

    #[must_use]
    pub fn not_run(&self) -> Option<&str> {
        self.notes.iter().find_map(|note| match note {
            Note::NotRun(reason) => Some(reason.as_str()),
            _ => None,
        })
    }
}

/// All fenced blocks of a page.
///
/// # Errors
/// If a fence has no end, or a comment of the known kinds cannot be read. The message has the line.
pub fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut notes = Vec::new();
    let mut lines = (1..).zip(page.lines());
    while let Some((number, line)) = lines.next() {
        let text = line.trim_start();
        if let Some(kind) = text.strip_prefix("```") {
            let indent = line.len() - text.len();
            let code = code(&mut lines, indent).ok_or(format!("line {number}: no end"))?;
            found.push(Block {
                line: number,
                kind: kind.trim().to_owned(),
                code,
                notes: std::mem::take(&mut notes),
            });
        } else if let Some(comment) = text.strip_prefix("<!--") {
            let comment = whole_comment(comment, &mut lines);
            notes.extend(note(&comment).map_err(|problem| format!("line {number}: {problem}"))?);
        } else if !text.is_empty() {
            if !notes.is_empty() {
                return Err(format!(
                    "line {number}: a comment above it is not above a block"
                ));
            }
            notes.clear();
        }
    }
    Ok(found)
}

fn code<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>, indent: usize) -> Option<String> {
    let mut code = String::new();
    for (_, line) in lines {
        let text = line.trim_start();
        if text.starts_with("```") {
            return Some(code);
        }
        let spaces = (line.len() - text.len()).min(indent);
        code.push_str(&line[spaces..]);
        code.push('\n');
    }
    None
}

/// The text of a comment up to its end, which may be on a later line.
fn whole_comment<'a>(begin: &str, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> String {
    let mut comment = begin.to_owned();
    while !comment.contains("-->") {
        let Some((_, line)) = lines.next() else { break };
        comment.push('\n');
        comment.push_str(line.trim_start());
    }
    let end = comment.find("-->").unwrap_or(comment.len());
    comment[..end].trim().to_owned()
}

/// Comments of other kinds are no notes.
fn note(comment: &str) -> Result<Option<Note>, String> {
    let Some((kind, text)) = comment.split_once(':') else {
        return Ok(None);
    };
    let text = text.trim().to_owned();
    Ok(Some(match kind {
        "not run" if text.is_empty() => return Err("no reason".to_owned()),
        "not run" => Note::NotRun(text),
        "first" => Note::First(text),
        "serves" => Note::Serves(text),
        "exits" => Note::Exits(text.parse().map_err(|_| format!("no exit code: {text}"))?),
        _ => return Ok(None),
    }))
}

/// The steps of a block. A block `sh` is one step. In a block `console` each line after `$ ` is one, with the lines that
/// continue it and its output.
#[must_use]
pub fn steps(block: &Block) -> Vec<Step> {
    if block.kind != "console" {
        return vec![Step {
            line: block.line + 1,
            command: block.code.clone(),
            output: String::new(),
        }];
    }
    let mut steps: Vec<Step> = Vec::new();
    let mut continues = false;
    for (number, line) in (block.line + 1..).zip(block.code.lines()) {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                line: number,
                command: command.to_owned(),
                output: String::new(),
            });
            continues = command.ends_with('\\');
        } else if let Some(step) = steps.last_mut() {
            let part = if continues {
                &mut step.command
            } else {
                &mut step.output
            };
            if continues || !part.is_empty() {
                part.push('\n');
            }
            part.push_str(line);
            continues = continues && line.ends_with('\\');
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_their_notes_and_no_indentation() {
        let page = "# A\n\n1. b\n\n   <!-- first: connect x -->\n   <!-- exits: 1 -->\n   ```console\n   $ a \\\n       b\n   c\n   ```\n```\nd\n```\n";
        let found = blocks(page).unwrap_or_default();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].line, 7);
        assert_eq!(found[0].code, "$ a \\\n    b\nc\n");
        let notes = [Note::First("connect x".to_owned()), Note::Exits(1)];
        assert_eq!(found[0].notes, notes);
        assert!(!found[1].is_command());
        let steps = steps(&found[0]);
        assert_eq!(steps.len(), 1);
        assert_eq!(
            (steps[0].line, steps[0].command.as_str()),
            (8, "a \\\n    b")
        );
        assert_eq!(steps[0].output, "c");
    }

    #[test]
    fn comments_that_belong_to_no_block_are_errors() {
        assert!(blocks("<!-- not run: needs Docker -->\ntext\n").is_err());
        assert!(blocks("<!-- not run: -->\n```sh\na\n```\n").is_err());
        assert!(blocks("```sh\na\n").is_err());
        assert_eq!(blocks("<!-- other -->\ntext\n"), Ok(Vec::new()));
    }
}
