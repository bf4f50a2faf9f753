//! Where a browser goes after it has signed in. Only to a page of the console: any other address would let a link to the
//! sign-in page end at a forger's copy of it (open redirect).

use super::ROOT;

/// The sign-in page.
pub(super) const SIGN_IN: &str = "/console/sign-in";

/// A path of the console, with its query; the first page for anything else.
pub(super) fn checked(next: Option<&str>) -> &str {
    next.filter(|next| is_page(next)).unwrap_or(ROOT)
}

fn is_page(next: &str) -> bool {
    // Browsers take `\` for `/`, and drop tabs and line ends.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    let rest = next.strip_prefix(ROOT);
    let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let path = next.split('?').next().unwrap_or_default();
    let has_dots = path.split('/').any(|part| matches!(part, "." | ".."));
    is_below
        && next.bytes().all(is_plain)
        && !has_dots
        && !path.contains("//")
        && !path.contains('%')
        && !path.starts_with(SIGN_IN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_console_follow_a_sign_in() {
        for page in [
            "/console",
            "/console/keys",
            "/console/audit?page=2&a=%20b",
            "/console?x",
        ] {
            assert_eq!(checked(Some(page)), page);
        }
        for other in [
            "",
            "/",
            "https://evil.example/console",
            "//evil.example/console",
            "/consoles",
            "/console.evil.example",
            "/console/../v1/keys",
            "/console/%2e%2e/v1/keys",
            "/console//evil.example",
            "/console\\evil",
            "/console/\nkeys",
            "/console/keys ",
            "javascript:alert(1)",
            "/console/sign-in",
        ] {
            assert_eq!(checked(Some(other)), ROOT, "{other}");
        }
        assert_eq!(checked(None), ROOT);
    }
}
