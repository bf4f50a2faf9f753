//! The commands that write or remove a whole key. A key may have any number of members, so they are split: a command
//! with all members would block Redis for all others, and could exceed its buffers.

use redis::{Cmd, Pipeline, ToRedisArgs};
use store::keys::{self, Content};
use store::names::Names;

use super::{REQUEST_BYTES, REQUEST_KEYS};
use crate::backend::embedded::moving::NEVER;
use crate::backend::outbox::KEPT_FOR;
use crate::backend::redis::reply::millis;
use crate::moving::Part;

/// The most members in one command. Redis takes about a millisecond for it.
const MEMBERS: usize = 1000;

/// Writes a key in the place of what it held. Nothing for a record.
pub(super) fn replace(part: &Part, names: &Names) -> Vec<Cmd> {
    // The rest of an earlier run is useless, except the callers that a broker has added meanwhile.
    let mut commands = match part {
        Part::Set { .. } => Vec::new(),
        Part::Record { .. }
        | Part::Hash { .. }
        | Part::List { .. }
        | Part::Sorted { .. }
        | Part::Text { .. } => remove(part, names),
    };
    commands.extend(write(part, None, names));
    commands
}

/// Adds the members that a set or a sorted set lacks. The other keys are written as if they were absent.
pub(super) fn add(part: &Part, names: &Names) -> Vec<Cmd> {
    write(part, Some("NX"), names)
}

/// Removes a key. Nothing for a record.
pub(super) fn remove(part: &Part, names: &Names) -> Vec<Cmd> {
    let (mut commands, stored) = (Vec::new(), names.key(part.key()));
    // `DEL` takes as long as the key has members.
    match part {
        Part::Hash { fields, .. } if fields.iter().count() > MEMBERS => {
            let names = fields.iter().map(|(name, _)| name);
            commands.extend(
                batched(names, |name| name.len()).map(|names| with("HDEL", &stored, names)),
            );
        }
        Part::Sorted { members, .. } => {
            // There may be more of them by now, and `DEL` removes the rest.
            commands.extend(members.chunks(MEMBERS).skip(1).map(|some| {
                let mut command = redis::cmd("ZREMRANGEBYRANK");
                command.arg(&stored).arg(0).arg(some.len() - 1);
                command
            }));
        }
        Part::Record { .. } => return commands,
        Part::Hash { .. } | Part::Set { .. } | Part::List { .. } | Part::Text { .. } => {}
    }
    commands.push(with("DEL", &stored, None::<&str>));
    commands
}

/// `option`: one of `ZADD`.
fn write(part: &Part, option: Option<&str>, names: &Names) -> Vec<Cmd> {
    let stored = names.key(part.key());
    match part {
        Part::Record { .. } => Vec::new(),
        Part::Hash { fields, .. } => {
            let some = batched(fields.iter(), |(name, value)| name.len() + value.len());
            some.map(|fields| with("HSET", &stored, fields)).collect()
        }
        Part::Set { members, .. } => {
            let some = batched(members, |member| member.len());
            some.map(|members| with("SADD", &stored, members)).collect()
        }
        Part::List { items, .. } => {
            let some = batched(items, |item| item.len());
            let some =
                some.map(|items| with("RPUSH", &stored, items.into_iter().map(Vec::as_slice)));
            some.collect()
        }
        Part::Sorted { key, members } => {
            let some = batched(members, |(_, member)| member.len() + 8);
            let some = some.map(|members| {
                let mut command = redis::cmd("ZADD");
                command.arg(&stored).arg(option);
                for (score, member) in members {
                    match *score {
                        NEVER => command.arg("+inf"),
                        score => command.arg(score),
                    };
                    command.arg(member);
                }
                command
            });
            let mut commands: Vec<_> = some.collect();
            if matches!(keys::content(key), Content::Events | Content::DeadLetters) {
                commands.push(with("PEXPIRE", &stored, [millis(KEPT_FOR)]));
            }
            commands
        }
        Part::Text { value, ttl, .. } => {
            let mut command = with("SET", &stored, [value]);
            if let Some(ttl) = ttl {
                command.arg("PX").arg(millis(*ttl).max(1));
            }
            vec![command]
        }
    }
}

/// The commands in requests that a slow line carries in time.
pub(super) fn requests(commands: impl IntoIterator<Item = Cmd>) -> impl Iterator<Item = Pipeline> {
    let bytes = |command: &Cmd| command.get_packed_command().len();
    split(commands, REQUEST_KEYS, bytes).map(|commands| {
        let mut request = redis::pipe();
        for command in commands {
            request.add_command(command).ignore();
        }
        request
    })
}

fn with<A: ToRedisArgs>(name: &str, key: &str, arguments: impl IntoIterator<Item = A>) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key);
    for argument in arguments {
        command.arg(argument);
    }
    command
}

fn batched<T>(
    members: impl IntoIterator<Item = T>,
    bytes: impl Fn(&T) -> usize,
) -> impl Iterator<Item = Vec<T>> {
    split(members, MEMBERS, bytes)
}

/// Splits items, in their order, into groups of at most `most` items and [`REQUEST_BYTES`]. A larger item is alone.
fn split<T>(
    items: impl IntoIterator<Item = T>,
    most: usize,
    bytes: impl Fn(&T) -> usize,
) -> impl Iterator<Item = Vec<T>> {
    let (mut groups, mut held) = (Vec::<Vec<T>>::new(), 0);
    for item in items {
        let more = bytes(&item);
        match groups.last_mut() {
            Some(last) if last.len() < most && held + more <= REQUEST_BYTES => {
                last.push(item);
                held += more;
            }
            Some(_) | None => {
                groups.push(vec![item]);
                held = more;
            }
        }
    }
    groups.into_iter()
}

#[cfg(test)]
mod tests {
    use redis::Arg;
    use store::record::Fields;

    use super::*;

    const MANY: usize = 2 * MEMBERS + 500;

    /// The arguments of a command after its key.
    fn arguments(command: &Cmd) -> Vec<Vec<u8>> {
        let arguments = command.args_iter().skip(2);
        let arguments = arguments.map(|argument| match argument {
            Arg::Simple(bytes) => bytes.to_vec(),
            _ => panic!("an argument that is no bytes"),
        });
        arguments.collect()
    }

    fn large() -> [Part; 4] {
        let names = || (0..MANY).map(|number| format!("{number:05}"));
        let mut fields = Fields::new();
        for name in names() {
            fields.set(&name, "x");
        }
        let key = "k".to_owned();
        [
            Part::Hash {
                key: key.clone(),
                fields,
            },
            Part::Set {
                key: key.clone(),
                members: names().collect(),
            },
            Part::List {
                key: key.clone(),
                items: names().map(String::into_bytes).collect(),
            },
            Part::Sorted {
                key,
                members: names().map(|name| (7, name)).collect(),
            },
        ]
    }

    #[test]
    fn large_keys_are_written_whole_in_bounded_commands() {
        for (part, of_member) in large().iter().zip([2, 1, 1, 2]) {
            let written = write(part, None, &Names::default());
            let lengths = written.iter().map(|it| arguments(it).len() / of_member);
            let expected = [MEMBERS, MEMBERS, MANY - 2 * MEMBERS];
            assert!(lengths.eq(expected), "{part:?}");
            let all: Vec<_> = written.iter().flat_map(arguments).collect();
            let name_at = usize::from(matches!(part, Part::Sorted { .. }));
            let names = all.chunks(of_member).map(|member| &member[name_at]);
            let in_order = (0..MANY).map(|number| format!("{number:05}"));
            assert!(names.eq(in_order.map(String::into_bytes).collect::<Vec<_>>().iter()));
        }
    }

    #[test]
    fn large_keys_are_removed_in_bounded_commands() {
        let [hash, _, _, sorted] = large();
        let removed = remove(&hash, &Names::default());
        let names: usize = removed.iter().map(|it| arguments(it).len()).sum();
        assert_eq!((removed.len(), names), (4, MANY));
        let ranks = [
            [b"0".to_vec(), b"999".to_vec()],
            [b"0".to_vec(), b"499".to_vec()],
        ];
        let removed = remove(&sorted, &Names::default());
        for (command, ranks) in removed.iter().zip(ranks) {
            assert_eq!(arguments(command), ranks);
        }
        assert_eq!(removed.len(), 3);
        assert!(arguments(&removed[2]).is_empty(), "DEL");
    }

    #[test]
    fn commands_are_bounded_in_bytes_too() {
        let third = vec![b'x'; REQUEST_BYTES / 3];
        let items = |sizes: &[usize]| sizes.iter().map(|size| third.repeat(*size)).collect();
        let part = Part::List {
            key: "k".to_owned(),
            items: items(&[1, 1, 1, 1, 6, 1]),
        };
        let written = write(&part, None, &Names::default());
        let lengths: Vec<_> = written.iter().map(|it| arguments(it).len()).collect();
        assert_eq!(lengths, [3, 1, 1, 1]);
        let requests: Vec<_> = requests(written).collect();
        assert_eq!(requests.len(), 4);
    }

    #[test]
    fn small_keys_share_a_request() {
        let part = Part::Set {
            key: "k".to_owned(),
            members: vec!["a".to_owned()],
        };
        let commands: Vec<_> = std::iter::repeat_n(part, REQUEST_KEYS + 1)
            .flat_map(|part| replace(&part, &Names::default()))
            .collect();
        assert_eq!(commands.len(), REQUEST_KEYS + 1);
        let requests: Vec<_> = requests(commands).collect();
        let lengths: Vec<_> = requests.iter().map(|it| it.cmd_iter().count()).collect();
        assert_eq!(lengths, [REQUEST_KEYS, 1]);
    }
}
