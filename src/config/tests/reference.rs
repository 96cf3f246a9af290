//! The files in `config/` are good, and the reference names every setting with its true default.

use std::collections::BTreeSet;

use super::super::reader::Report;
use super::*;

/// Line numbers (from 0) of the settings that stand as a comment: `#key = value`.
fn commented_defaults(text: &str) -> Vec<usize> {
    let is_default = |line: &str| {
        line.strip_prefix('#').and_then(|rest| rest.split_once(" = ")).is_some_and(|(key, _)| {
            !key.is_empty()
                && key
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte))
        })
    };
    (0..).zip(text.lines()).filter(|(_, line)| is_default(line)).map(|(at, _)| at).collect()
}

/// The text with `change` done to the lines at these numbers.
fn with_lines(text: &str, at: &[usize], change: impl Fn(&str) -> String) -> String {
    let lines = (0..).zip(text.lines());
    let lines = lines.map(
        |(number, line)| {
            if at.contains(&number) { change(line) } else { line.to_owned() }
        },
    );
    lines.collect::<Vec<_>>().join("\n")
}

fn uncommented(line: &str) -> String {
    line.strip_prefix('#').unwrap_or(line).to_owned()
}

/// Values like this one in which exactly one thing is another.
fn variants(value: &toml::Value) -> Vec<toml::Value> {
    use toml::Value;
    match value {
        Value::String(text) => {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = text.split_at(digits);
            match number.parse::<u64>() {
                Ok(number) if rest.is_empty() => vec![Value::from(format!("{}s", number + 1))],
                Ok(number) => vec![Value::from(format!("{}{rest}", number + 1))],
                Err(_) => vec![Value::from(format!("{text}x"))],
            }
        }
        Value::Integer(number) => vec![Value::from(number + 1)],
        Value::Boolean(value) => vec![Value::from(!value)],
        Value::Array(items) => {
            let mut longer = items.clone();
            longer.push(Value::from("another"));
            vec![Value::from(longer)]
        }
        Value::Table(table) if table.is_empty() => {
            vec![Value::from(toml::Table::from_iter([("another".to_owned(), Value::from("x"))]))]
        }
        Value::Table(table) => {
            let with = |key: &String, value| {
                let mut table = table.clone();
                table.insert(key.clone(), value);
                Value::from(table)
            };
            table
                .iter()
                .flat_map(|(key, value)| {
                    variants(value).into_iter().map(move |value| with(key, value))
                })
                .collect()
        }
        other => panic!("no setting has a default like {other}"),
    }
}

/// All paths of settings in a table, indices and the contents of named things left out.
fn paths(table: &toml::Table, parent: &str, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = locations::child(parent, key);
        found.insert(path.clone());
        match value {
            toml::Value::Table(table) => paths(table, &path, found),
            toml::Value::Array(items) => {
                for table in items.iter().filter_map(toml::Value::as_table) {
                    paths(table, &format!("{path}[]"), found);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn every_file_in_the_config_folder_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let config = good(&text);
            assert_eq!(listed(&config.warnings()), "", "{}", path.display());
            names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    names.sort();
    assert!(names.contains(&"framegate.toml".to_owned()), "{names:?}");
    assert!(names.contains(&"minimal.toml".to_owned()), "{names:?}");
}

#[test]
fn each_commented_default_is_the_default_of_the_code() {
    let text = repository("config/framegate.toml");
    let as_it_is = fingerprint(good(&text));
    let defaults = commented_defaults(&text);
    for at in &defaults {
        let changed = with_lines(&text, &[*at], uncommented);
        assert_eq!(fingerprint(good(&changed)), as_it_is, "line {}", at + 1);
    }
    let all = with_lines(&text, &defaults, uncommented);
    assert_eq!(fingerprint(good(&all)), as_it_is);
}

/// Without this, a default that is never read would also change nothing when it is uncommented.
#[test]
fn each_commented_default_is_read_where_it_stands() {
    let text = repository("config/framegate.toml");
    let as_it_is = fingerprint(good(&text));
    for at in commented_defaults(&text) {
        let line = uncommented(text.lines().nth(at).unwrap());
        let setting: toml::Table = line.parse().unwrap();
        let (key, value) = setting.iter().next().unwrap();
        let variants = variants(value);
        assert!(!variants.is_empty(), "{line}");
        for variant in variants {
            let line = format!("{key} = {variant}");
            match parse(&with_lines(&text, &[at], |_| line.clone())) {
                Ok(config) => assert_ne!(fingerprint(config), as_it_is, "{line}"),
                Err(problems) => assert!(
                    problems.iter().any(|problem| !problem.message.contains("TOML")),
                    "{line}: {}",
                    listed(&problems)
                ),
            }
        }
    }
}

#[test]
fn the_reference_shows_every_setting_of_the_schema() {
    let text = repository("config/framegate.toml");
    let all = with_lines(&text, &commented_defaults(&text), uncommented);

    let mut shown = BTreeSet::new();
    paths(&all.parse().unwrap(), "", &mut shown);

    let report = Report::new(&all, Path::new("/"), None);
    let document = toml::de::DeTable::parse(&all).unwrap().into_inner();
    report.root(document).read(file::read);
    let asked = report.asked.take();

    let missing: Vec<_> = asked
        .iter()
        .filter(|path| !shown.contains(*path))
        // A route's `limits` are [limits] again.
        .filter(|path| !path.starts_with("route[].limits."))
        .collect();
    assert_eq!(missing, Vec::<&String>::new(), "not in config/framegate.toml");
    assert!(asked.contains("upstreams.chat.health.fall"), "{asked:?}");
}
