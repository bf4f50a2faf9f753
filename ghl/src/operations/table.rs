//! Reads the table of operations, and keeps it as a tree of path segments (a trie).

use std::cmp::Ordering;

use http::Method;

use super::segments::{Segments, decoded};
use super::{Operation, Places, TokenKind};

/// Columns: version, method, path, token, scope, query, body. Lists are separated by `|` or `,`.
pub(super) const TSV: &str = include_str!("../../data/operations.tsv");

/// All operations whose paths begin with the same segments.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Sorted by [`order`].
    literals: Vec<(&'static str, Node)>,
    parameter: Option<Box<Node>>,
    operations: Vec<(Method, Operation)>,
}

/// The tree of all lines. A line that cannot be read is left out, and a test finds it.
pub(super) fn parse(tsv: &'static str) -> Node {
    let mut root = Node::default();
    for (method, operation) in lines(tsv).filter_map(line) {
        root.insert(method, operation);
    }
    root
}

impl Node {
    pub(super) fn find(&self, method: &Method, mut segments: Segments<'_>) -> Option<&Operation> {
        let Some(segment) = segments.next() else {
            let mut operations = self.operations.iter();
            return operations
                .find(|(its, _)| its == method)
                .map(|(_, operation)| operation);
        };
        let literal = self.literal(segment).ok();
        let literal = literal.and_then(|at| self.literals[at].1.find(method, segments));
        literal.or_else(|| self.parameter.as_ref()?.find(method, segments))
    }

    fn insert(&mut self, method: Method, operation: Operation) {
        let mut node = self;
        for segment in Segments::of(operation.path) {
            node = if is_parameter(segment) {
                node.parameter.get_or_insert_default()
            } else {
                let at = match node.literal(segment) {
                    Ok(at) => at,
                    Err(at) => {
                        node.literals.insert(at, (segment, Self::default()));
                        at
                    }
                };
                &mut node.literals[at].1
            };
        }
        match node.operations.iter_mut().find(|(its, _)| *its == method) {
            Some((_, known)) => known.merge(operation),
            None => node.operations.push((method, operation)),
        }
    }

    /// The index of a literal segment, or where it belongs.
    fn literal(&self, segment: &str) -> Result<usize, usize> {
        self.literals
            .binary_search_by(|(literal, _)| order(literal, segment))
    }
}

impl Operation {
    /// GHL documents most operations twice, for versions 2 and 3, and both are at the same path. The versions name the
    /// same owner in different places, so all places count. If they take different kinds of tokens, either is taken.
    fn merge(&mut self, other: Self) {
        if self.token != other.token {
            self.token = TokenKind::Either;
        }
        unite(&mut self.scopes, other.scopes);
        self.location.merge(other.location);
        self.company.merge(other.company);
    }
}

impl Places {
    fn merge(&mut self, other: Self) {
        self.segment = self.segment.or(other.segment);
        unite(&mut self.query, other.query);
        unite(&mut self.body, other.body);
    }
}

fn unite(names: &mut Vec<&'static str>, others: Vec<&'static str>) {
    for name in others {
        if !names.contains(&name) {
            names.push(name);
        }
    }
}

/// Compares without percent encoding and case. No two literals of the table differ only in their case.
fn order(literal: &str, segment: &str) -> Ordering {
    let literal = literal.bytes().map(|byte| byte.to_ascii_lowercase());
    literal.cmp(decoded(segment).map(|byte| byte.to_ascii_lowercase()))
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}')
}

fn lines(tsv: &'static str) -> impl Iterator<Item = &'static str> {
    tsv.lines().filter(|line| !line.starts_with('#'))
}

fn line(line: &'static str) -> Option<(Method, Operation)> {
    let mut columns = line.split('\t');
    let mut column = || columns.next();
    let _version = column()?;
    let method = column()?.parse().ok()?;
    let path = column()?;
    let token = token_kind(column()?)?;
    let scopes = list(column()?).collect();
    let (query, body) = (column()?, column()?);
    let places = |parameter: &str, names: &[&str]| Places {
        segment: Segments::of(path).position(|segment| segment == parameter),
        query: list(query).filter(|name| names.contains(name)).collect(),
        // Without `altType`, `altId` in a body is the id of a message at a provider of email.
        body: list(body)
            .filter(|name| names.contains(name))
            .filter(|name| *name != "altId" || list(body).any(|other| other == "altType"))
            .collect(),
    };
    let operation = Operation {
        path,
        token,
        scopes,
        location: places("{locationId}", &["locationId", "location_id", "altId"]),
        company: places("{companyId}", &["companyId"]),
    };
    Some((method, operation))
}

/// The names of a column. An empty column has none.
fn list(column: &'static str) -> impl Iterator<Item = &'static str> {
    column.split(['|', ',']).filter(|name| !name.is_empty())
}

/// The kind of token for GHL's security schemes. `bearer` says nothing about the kind.
fn token_kind(schemes: &'static str) -> Option<TokenKind> {
    let (mut company, mut location) = (false, false);
    for scheme in list(schemes) {
        match scheme {
            "Agency-Access" | "Agency-Access-Only" => company = true,
            "Location-Access" | "Location-Access-Only" => location = true,
            "bearer" => (company, location) = (true, true),
            _ => return None,
        }
    }
    Some(match (company, location) {
        (true, false) => TokenKind::Company,
        (false, true) => TokenKind::Location,
        (true, true) | (false, false) => TokenKind::Either,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::operations::find;

    fn all() -> Vec<(Method, Operation)> {
        let parsed = lines(TSV).map(|text| line(text).unwrap_or_else(|| panic!("{text}")));
        parsed.collect()
    }

    /// A path without the names of its parameters and without a slash at its end.
    fn shape(path: &str) -> Vec<&str> {
        let segments = Segments::of(path);
        segments
            .map(|segment| if is_parameter(segment) { "{}" } else { segment })
            .collect()
    }

    #[test]
    fn every_line_has_all_columns() {
        assert_eq!(all().len(), 1203);
        for text in lines(TSV) {
            assert_eq!(text.split('\t').count(), 7, "{text}");
        }
    }

    #[test]
    fn every_line_finds_its_own_operation() {
        for (method, listed) in all() {
            for path in [listed.path.to_owned(), format!("{}/", listed.path)] {
                let found = find(&method, &path).unwrap_or_else(|| panic!("{method} {path}"));
                assert_eq!(shape(found.path), shape(&path));
                assert_eq!(found.token, listed.token, "{method} {path}");
                assert_eq!(found.location.segment, listed.location.segment);
                let has_all =
                    |found: &[_], listed: &[_]| listed.iter().all(|it| found.contains(it));
                assert!(has_all(&found.scopes, &listed.scopes));
                assert!(has_all(&found.location.query, &listed.location.query));
                assert!(has_all(&found.location.body, &listed.location.body));
                assert!(has_all(&found.company.query, &listed.company.query));
                assert!(has_all(&found.company.body, &listed.company.body));
            }
        }
    }

    #[test]
    fn kinds_of_tokens_are_counted() {
        let mut kinds = BTreeMap::new();
        for (method, operation) in all() {
            let of_path = (method.to_string(), shape(operation.path));
            let found = find(&method, operation.path).unwrap();
            kinds.insert(of_path, found.token);
        }
        let count = |kind| kinds.values().filter(|its| **its == kind).count();
        assert_eq!(count(TokenKind::Location), 162);
        assert_eq!(count(TokenKind::Company), 46);
        assert_eq!(count(TokenKind::Either), 455);
    }

    #[test]
    fn of_two_operations_for_a_path_the_one_with_the_first_literal_is_found() {
        let mut shapes: BTreeMap<String, BTreeSet<Vec<&str>>> = BTreeMap::new();
        for (method, operation) in all() {
            let of_method = shapes.entry(method.to_string()).or_default();
            of_method.insert(shape(operation.path));
        }
        let mut pairs = 0;
        for (method, shapes) in shapes {
            let method: Method = method.parse().unwrap();
            for one in &shapes {
                for other in shapes.range(one.clone()..).skip(1) {
                    let Some(path) = common(one, other) else {
                        continue;
                    };
                    pairs += 1;
                    let matching = shapes.iter().filter(|its| common(its, &path).is_some());
                    let is_parameter = |its: &&Vec<&str>| -> Vec<bool> {
                        its.iter().map(|segment| *segment == "{}").collect()
                    };
                    let expected = matching.min_by_key(is_parameter).unwrap();
                    let path = path.join("/").replace("{}", "x");
                    let found = find(&method, &path).unwrap();
                    assert_eq!(&shape(found.path), expected, "{method} {path}");
                }
            }
        }
        assert_eq!(pairs, 72);
    }

    /// A path that both shapes match.
    fn common<'s>(one: &[&'s str], other: &[&'s str]) -> Option<Vec<&'s str>> {
        if one.len() != other.len() {
            return None;
        }
        let pairs = one.iter().zip(other);
        let segments = pairs.map(|pair| match pair {
            (segment, other) if segment == other => Some(*segment),
            (segment, &"{}") | (&"{}", segment) => Some(*segment),
            _ => None,
        });
        segments.collect()
    }

    #[test]
    fn literals_differ_in_more_than_their_case() {
        let mut spellings: BTreeMap<String, &str> = BTreeMap::new();
        for (_, operation) in all() {
            for segment in Segments::of(operation.path).filter(|it| !is_parameter(it)) {
                let known = spellings.entry(segment.to_ascii_lowercase());
                assert_eq!(*known.or_insert(segment), segment, "{}", operation.path);
            }
        }
    }

    #[test]
    fn versions_are_merged() {
        let tsv = "v2\tGET\t/a/{locationId}\tLocation-Access\tone\tlocationId\t\n\
                   v3\tGET\t/a/{id}/\tAgency-Access\ttwo|one\taltId,altType\tcompanyId,altId\n\
                   bad line\n";
        let root = parse(tsv);
        let found = root.find(&Method::GET, Segments::of("/a/x")).unwrap();
        assert_eq!(found.token, TokenKind::Either);
        assert_eq!(found.scopes, ["one", "two"]);
        assert_eq!(found.location.segment, Some(1));
        assert_eq!(found.location.query, ["locationId", "altId"]);
        assert_eq!(found.location.body, [] as [&str; 0]);
        assert_eq!(found.company.body, ["companyId"]);
    }

    #[test]
    fn security_schemes_say_the_kind_of_token() {
        for (schemes, kind) in [
            ("Location-Access", Some(TokenKind::Location)),
            (
                "Location-Access|Location-Access-Only",
                Some(TokenKind::Location),
            ),
            ("Agency-Access-Only", Some(TokenKind::Company)),
            ("Agency-Access|Location-Access", Some(TokenKind::Either)),
            ("Location-Access|bearer", Some(TokenKind::Either)),
            ("bearer", Some(TokenKind::Either)),
            ("", Some(TokenKind::Either)),
            ("User-Access", None),
        ] {
            assert_eq!(token_kind(schemes), kind, "{schemes}");
        }
    }
}
