//! Decides which app a request is for. It is pure.

use store::AppName;

/// Why a request is for no app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoApp {
    /// The settings have no app of the name.
    Unknown,
    /// There are several apps, none is called `default`, and the request names none.
    Unnamed,
    /// The key of the request is for another app.
    NotOfKey,
}

/// The app that the request names, or else that of its key, or else the only or the default one. A key for one app
/// gets no other.
pub(super) fn choose<'n>(
    known: &[&'n AppName],
    named: Option<&str>,
    of_key: Option<&AppName>,
) -> Result<&'n AppName, NoApp> {
    let wanted = named.or_else(|| of_key.map(AppName::as_str));
    let chosen = match (wanted, known) {
        (Some(text), _) => {
            let name: AppName = text.parse().map_err(|_| NoApp::Unknown)?;
            known.iter().find(|it| ***it == name).ok_or(NoApp::Unknown)
        }
        (None, [only]) => Ok(only),
        (None, several) => several
            .iter()
            .find(|it| it.is_default())
            .ok_or(NoApp::Unnamed),
    }?;
    match of_key {
        Some(own) if own != *chosen => Err(NoApp::NotOfKey),
        Some(_) | None => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(known: &[&str], named: Option<&str>, of_key: Option<&str>) -> Result<String, NoApp> {
        let known: Vec<AppName> = known.iter().map(|name| name.parse().unwrap()).collect();
        let known: Vec<&AppName> = known.iter().collect();
        let of_key = of_key.map(|name| name.parse().unwrap());
        choose(&known, named, of_key.as_ref()).map(ToString::to_string)
    }

    #[test]
    fn request_that_names_no_app_gets_that_of_its_key_or_the_only_or_the_default_one() {
        let several = ["default", "staging"];
        for (known, of_key, expected) in [
            (&several[..], Some("staging"), Ok("staging")),
            (&several, None, Ok("default")),
            (&["staging"], None, Ok("staging")),
            (&["one", "two"], None, Err(NoApp::Unnamed)),
            (&[], None, Err(NoApp::Unnamed)),
            (&several, Some("gone"), Err(NoApp::Unknown)),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(
                chosen(known, None, of_key),
                expected,
                "{known:?} {of_key:?}"
            );
        }
    }

    #[test]
    fn key_of_one_app_gets_no_other() {
        let known = ["default", "staging"];
        for (named, of_key, expected) in [
            ("staging", None, Ok("staging")),
            ("staging", Some("staging"), Ok("staging")),
            ("default", Some("staging"), Err(NoApp::NotOfKey)),
            // Also a key of an app that is gone.
            ("default", Some("gone"), Err(NoApp::NotOfKey)),
            ("gone", Some("staging"), Err(NoApp::Unknown)),
            ("no name/", None, Err(NoApp::Unknown)),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(
                chosen(&known, Some(named), of_key),
                expected,
                "{named} {of_key:?}"
            );
        }
    }
}
