//! An object as lines of `name  value`.

use serde_json::Value;

use super::style::{Style, paint};
use super::text::{in_words, spaced, width};

/// One line for each member, aligned. The members in `order` come first.
pub(super) fn lines(value: &Value, order: &[&str]) -> String {
    let mut found = Vec::new();
    for name in order {
        if let Some(one) = value.get(name) {
            collect(&spaced(name), one, &mut found);
        }
    }
    for (name, one) in value.as_object().into_iter().flatten() {
        if !order.contains(&name.as_str()) {
            collect(&spaced(name), one, &mut found);
        }
    }
    let widest = found.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let lines = found.iter().map(|(name, text)| {
        let padding = " ".repeat(widest - width(name));
        let text = paint(Style::of_state(text), text);
        format!("{}{padding}  {text}", paint(Style::Title, name))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The members of inner objects have lines of their own, under both names.
fn collect(name: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (inner, one) in members {
                collect(&format!("{name} {}", spaced(inner)), one, found);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, one) in items.iter().enumerate() {
                collect(&format!("{name} {}", index + 1), one, found);
            }
        }
        plain => found.push((name.to_owned(), in_words(plain))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn named_members_come_first_and_inner_ones_have_both_names() {
        let value = json!({
            "app": "default", "expiresAt": null, "installationId": "install_1",
            "lastError": { "message": "no\x1b[31m" }, "tags": ["a", "b"], "rings": [{ "id": "k1" }],
        });
        let shown =
            anstream::adapter::strip_str(&lines(&value, &["installationId", "absent"])).to_string();
        let expected = "\
installation id     install_1
app                 default
expires at          -
last error message  no\u{fffd}[31m
rings 1 id          k1
tags                a, b";
        assert_eq!(shown, expected);
    }
}
